//! `imagent model`: random checkpoints that can be run, and what is told of a model.

use std::fs;

use serde_json::Value;

use super::harness::Place;

fn info(place: &Place, args: &[&str]) -> Value {
    serde_json::from_str(&place.run(&[&["model", "info"], args, &["--json"]].concat()).ok()).unwrap()
}

#[test]
fn a_tiny_model_is_written_told_and_run() {
    let place = Place::new();
    let made = place.run(&["model", "init", "--preset", "tiny", "--seed", "3", "--out", "models/tiny"]).ok();
    assert!(made.contains("in 1 file (float32) written to models/tiny"), "{made}");
    let told = info(&place, &["models/tiny", "--image", "280x140", "--image", "56x56"]);
    let bytes = fs::metadata(place.path("models/tiny/model.safetensors")).unwrap().len();
    assert_eq!((&told["files"][0]["name"], &told["files"][0]["bytes"]), (&"model.safetensors".into(), &bytes.into()));
    assert_eq!(told["dtypes"]["F32"], told["total_parameters"]);
    // Every image of the tiny model is shown at about 56 x 56 pixels: 2 x 2 cells, or 2 x 1.
    assert_eq!((&told["images"][0]["tokens"], &told["images"][1]["tokens"]), (&2.into(), &4.into()));
    let large = info(&place, &["models/tiny", "--image", "280x140", "--max-pixels", "1000000"]);
    assert_eq!(large["images"][0]["tokens"], 50);
    let few = ["--set", "limits.max_new_tokens=3", "--set", "limits.max_turns=1"];
    place.run(&["data", "synth", "--out", "some", "--samples", "1"]).ok();
    place.run(&[&["rollout", "--model", "models/tiny", "--data", "some", "--index", "0"], &few[..]].concat()).ok();
}

#[test]
fn a_size_in_shards_is_the_same_model() {
    let place = Place::new();
    let init = |out: &str, more: &[&str]| {
        place.run(&[&["model", "init", "--preset", "nano", "--dtype", "bf16", "--out", out], more].concat()).ok()
    };
    init("one", &[]);
    assert!(init("several", &["--shard-size", "500kB"]).contains("files (bfloat16)"));
    assert!(place.path("several/model.safetensors.index.json").is_file());
    let (one, several) = (info(&place, &["one"]), info(&place, &["several"]));
    assert_eq!(one["dtypes"]["BF16"], several["dtypes"]["BF16"]);
    assert_eq!(several["memory"]["inference_half"], 2 * several["total_parameters"].as_u64().unwrap());
    let human = place.run(&["model", "info", "several"]).ok();
    for word in ["vision tower", "elements: BF16", "640x480", "LoRA training, rank 16", "full training"] {
        assert!(human.contains(word), "{word} is not in {human}");
    }
}

#[test]
fn what_cannot_be_made_or_told() {
    let place = Place::new();
    let usage = |args: &[&str]| assert_eq!(place.run(args).code, Some(2), "{args:?}");
    usage(&["model", "init", "--preset", "5b", "--out", "x"]);
    usage(&["model", "init", "--preset", "tiny", "--out", "x", "--shard-size", "5 parsecs"]);
    usage(&["model", "info", "x", "--image", "large"]);
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/mine.txt"), "mine").unwrap();
    place.run(&["model", "init", "--preset", "tiny", "--out", "full"]).fails(2, &["full: is there already"]);
    assert!(place.path("full/mine.txt").is_file());
    let from = ["--tokenizer-from", "full"];
    place
        .run(&[&["model", "init", "--preset", "tiny", "--out", "x"], &from[..]].concat())
        .fails(2, &["tokenizer-from"]);
    place.run(&[&["model", "init", "--preset", "3b", "--out", "x"], &from[..]].concat()).fails(2, &["tokenizer.json"]);
    assert!(!place.path("x").exists());
    place.run(&["model", "info", "absent"]).fails(2, &["absent: no such model folder"]);
    place.run(&["model", "info", "acme/absent"]).fails(2, &["acme/absent", "HF_HUB_OFFLINE"]);
    place.run(&["model", "info", "full"]).fails(2, &["config.json"]);
    place.run(&["model", "init", "--preset", "tiny", "--out", "tiny"]).ok();
    let limits = ["--min-pixels", "100", "--max-pixels", "50"];
    place.run(&[&["model", "info", "tiny"], &limits[..]].concat()).fails(2, &["--min-pixels", "100"]);
    place.run(&["model", "info", "tiny", "--image", "1x1000"]).fails(2, &["1x1000"]);
}
