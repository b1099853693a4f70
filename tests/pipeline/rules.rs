//! Pipelines of rules: whole, the same again, gone on with, trained on, and refused.

use std::fs;
use std::path::Path;

use imagent::core::SampleSource;
use imagent_data::Folder;

use super::process::command;
use super::{RULES, contents, lines, pipeline, run, summary, with_config};

const FILES: [&str; 5] =
    ["1-groups.jsonl", "2-questions.jsonl", "3-answers.jsonl", "4-verdicts.jsonl", "5-difficulty.jsonl"];

#[test]
fn rules_make_questions_that_need_a_zoom() {
    let dir = with_config(RULES);
    let said = pipeline(dir.path(), &[]).ok();
    let out = dir.path().join("out");
    let count = |file: &str| lines(&out.join(file)).len();
    assert_eq!((count(FILES[0]), count(FILES[1])), (40, 80));
    let difficulties = lines(&out.join(FILES[4]));
    let (kept, easy): (Vec<_>, Vec<_>) = difficulties.iter().partition(|line| line["kept"].is_object());
    assert!(kept.len() > 20 && easy.len() > 5, "{} {}", kept.len(), easy.len());
    assert!(easy.iter().all(|line| line["rejected"].as_str().unwrap().starts_with("easy (")));
    assert!(said.contains(&format!("difficulty          easy  {:>5}", easy.len())), "{said}");
    let folder = Folder::open(out.join("dataset")).unwrap();
    assert_eq!(summary(&out)["steps"][5]["kept"], folder.len());
    for position in 0..folder.len() {
        let sample = folder.get(position).unwrap();
        assert_ne!(sample.kind, "which", "what can be seen without a zoom is left out");
        assert!(!sample.gold.is_empty() && sample.meta["reviewed"] == false, "{}", sample.id);
        assert!((2..=4).contains(&sample.images.len()));
    }
}

#[test]
fn the_same_comes_of_the_same_whatever_the_threads() {
    let dir = with_config(RULES);
    pipeline(dir.path(), &[]).ok();
    let (out, other) = (dir.path().join("out"), dir.path().join("other"));
    let before = (contents(&out), summary(&out));
    assert!(before.0.len() > 5 + 30, "the steps, and a dataset with images");
    pipeline(dir.path(), &[]).ok();
    assert_eq!((contents(&out), summary(&out)), before);
    for threads in ["1", "5"] {
        let mut made = command(&["data", "pipeline", "p.toml", "--out", "other"]);
        let made = made.env("RAYON_NUM_THREADS", threads).current_dir(dir.path()).output().unwrap();
        assert!(made.status.success());
        assert_eq!((contents(&other), summary(&other)), before, "{threads} threads");
        fs::remove_dir_all(&other).unwrap();
    }
    pipeline(dir.path(), &["--out", "other", "--set", "seed=2"]).ok();
    assert_ne!(contents(&other), before.0);
}

#[test]
fn what_is_made_can_be_checked_evaluated_and_trained_on() {
    let dir = with_config(RULES);
    pipeline(dir.path(), &["--set", "groups=6"]).ok();
    run(dir.path(), &["data", "check", "out/dataset"]).ok();
    let limits = "limits.max_new_tokens=8";
    let eval = ["eval", "--model", "nano", "--data", "out/dataset", "--limit", "2", "--json", "--set", limits];
    let figures: serde_json::Value = serde_json::from_str(&run(dir.path(), &eval).ok()).unwrap();
    assert!(figures["metrics"]["accuracy"].is_number(), "{figures}");
    let config = "[data.train]\npath = \"out/dataset\"\n\n[limits]\nmax_turns = 1\nmax_new_tokens = 4\n\n\
                  [train]\nsteps = 1\nprompts_per_step = 1\ngroup_size = 2\n";
    fs::write(dir.path().join("t.toml"), config).unwrap();
    run(dir.path(), &["train", "t.toml", "--out", "run"]).ok();
    assert_eq!(lines(&dir.path().join("run/metrics.jsonl")).len(), 1);
}

#[test]
fn the_config_that_is_shipped_works_in_a_clone() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("nano");
    let made = run(
        Path::new(env!("CARGO_MANIFEST_DIR")),
        &["data", "pipeline", "configs/pipeline/nano.toml", "--out", out.to_str().unwrap()],
    );
    let said = made.ok();
    let samples = lines(&out.join("dataset/samples.jsonl")).len();
    assert!(samples > 50 && said.contains(&format!("{samples} samples in ")), "{said}");
    run(&out, &["data", "check", "dataset"]).ok();
    // The other one waits for somebody's photographs and models, and leaves nothing where there are none.
    let out = dir.path().join("photos");
    let args = ["data", "pipeline", "configs/pipeline/served.toml", "--out", out.to_str().unwrap()];
    run(Path::new(env!("CARGO_MANIFEST_DIR")), &args).fails(2, &["configs/pipeline/photos"]);
    assert!(!out.exists());
}

#[test]
fn a_pipeline_goes_on_where_it_ended() {
    let dir = with_config(RULES);
    let out = dir.path().join("out");
    pipeline(dir.path(), &[]).ok();
    let whole = (contents(&out), summary(&out));
    for (at, file) in FILES.iter().enumerate() {
        let bytes = fs::read(out.join(file)).unwrap();
        // Cut off within a line, and nothing after it.
        fs::write(out.join(file), &bytes[..bytes.len() * 2 / 3]).unwrap();
        FILES[at + 1..].iter().for_each(|later| fs::remove_file(out.join(later)).unwrap());
        fs::remove_dir_all(out.join("dataset")).unwrap();
        pipeline(dir.path(), &[]).ok();
        assert_eq!((contents(&out), summary(&out)), whole, "{file}");
    }
    // More groups come after those that are there; fewer would leave some over.
    let groups = fs::read(out.join(FILES[0])).unwrap();
    pipeline(dir.path(), &["--set", "groups=45"]).ok();
    let more = fs::read(out.join(FILES[0])).unwrap();
    assert!(more.starts_with(&groups) && lines(&out.join(FILES[0])).len() == 45);
    pipeline(dir.path(), &["--set", "groups=3"])
        .fails(2, &["1-groups.jsonl: line 4", "no item of this pipeline; `groups` may become more, not fewer"]);
}

#[test]
fn images_of_a_folder_are_known_by_their_objects() {
    let dir = with_config("out = \"out\"\ngroups = 12\nsize = [2, 2]\n\n[images]\npath = \"photos\"\n");
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).unwrap();
    let mut told = String::new();
    for (i, word) in ["open", "closed", "open"].into_iter().enumerate() {
        let name = format!("{i}.jpg");
        image::RgbImage::from_pixel(1600, 1200, image::Rgb([90 + i as u8, 20, 30])).save(photos.join(&name)).unwrap();
        let detail = serde_json::json!({"kind": "word", "text": word, "bbox": [20, 20, 120, 60]});
        let door = serde_json::json!({"name": "door", "bbox": [10, 10, 160, 160], "detail": detail});
        let sign = serde_json::json!({"name": format!("sign {i}"), "bbox": [200, 10, 300, 160]});
        told += &format!("{}\n", serde_json::json!({"image": name, "objects": [door, sign]}));
    }
    fs::write(photos.join("objects.jsonl"), &told).unwrap();
    fs::write(photos.join("notes.txt"), "no image").unwrap();
    pipeline(dir.path(), &[]).ok();
    let questions = lines(&dir.path().join("out/2-questions.jsonl"));
    assert!(questions.iter().all(|line| line["kept"]["images"].as_array().unwrap().len() == 2));
    assert!(questions.iter().any(|line| line["kept"]["question"].as_str().unwrap().contains("word is on the")));
    run(dir.path(), &["data", "check", "out/dataset"]).ok();
    let first = &lines(&dir.path().join("out/dataset/samples.jsonl"))[0];
    let copied = fs::read(dir.path().join("out/dataset").join(first["images"][0].as_str().unwrap())).unwrap();
    let is_copied = |i: usize| fs::read(photos.join(format!("{i}.jpg"))).unwrap() == copied;
    assert!((0..3).any(is_copied), "photographs are copied as they are");
    for (broken, said) in [
        (told.replace("0.jpg", "9.jpg"), "objects.jsonl: line 1: there is no image file \"9.jpg\""),
        (told.replace("1.jpg", "0.jpg"), "objects.jsonl: line 2: \"0.jpg\" has a line already"),
        (format!("{told}{{"), "objects.jsonl: line 4: EOF"),
    ] {
        fs::write(photos.join("objects.jsonl"), broken).unwrap();
        pipeline(dir.path(), &["--out", "again"]).fails(2, &[said]);
    }
    fs::write(photos.join("objects.jsonl"), &told).unwrap();
    fs::copy(photos.join("0.jpg"), photos.join("3.jpg")).unwrap();
    pipeline(dir.path(), &[]).fails(2, &["images.jsonl", "have changed", "another folder"]);
    fs::remove_dir_all(&photos).unwrap();
    pipeline(dir.path(), &[]).fails(2, &["photos"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = with_config(RULES);
    let refused = |set: &str, parts: &[&str]| pipeline(dir.path(), &["--set", set]).fails(2, parts);
    refused("size=[3,2]", &["size"]);
    refused("writer.endpoint=big", &["writer.endpoint", "[endpoints.big]"]);
    refused("prices.big.prompt=1", &["prices.big"]);
    refused("groups=0", &["groups"]);
    refused("grouper.colour=1", &["colour"]);
    refused("critic.endpoint=m", &["unknown key `critic`"]);
    refused("agreement=0", &["agreement"]);
    refused("images.count=3", &["fewer than the largest group"]);
    assert!(!dir.path().join("out").exists(), "what is refused leaves nothing");
    refused("writer.prompt=w.txt", &["writer.prompt", "no endpoint"]);
    fs::create_dir(dir.path().join("full")).unwrap();
    fs::write(dir.path().join("full/mine.txt"), "mine").unwrap();
    pipeline(dir.path(), &["--out", "full"]).fails(2, &["full", "other files"]);
    pipeline(dir.path(), &["--out", "whole"]).ok();
    pipeline(dir.path(), &["--out", "whole", "--set", "seed=2"]).fails(2, &["config.toml", "another `seed`"]);
    let file = dir.path().join("whole/3-answers.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("g000000", "g999999", 1)).unwrap();
    pipeline(dir.path(), &["--out", "whole"]).fails(2, &["3-answers.jsonl: line 1", "no item"]);
    fs::write(&file, format!("broken\n{text}")).unwrap();
    pipeline(dir.path(), &["--out", "whole"]).fails(2, &["3-answers.jsonl: line 1"]);
    let empty = pipeline(dir.path(), &["--out", "none", "--set", "difficulty.legible=1000"]).ok();
    assert!(empty.ends_with("no question is left\n") && !dir.path().join("none/dataset").exists(), "{empty}");
}

#[test]
fn prompts_are_checked_before_anybody_is_asked() {
    // Nobody listens there.
    let dir = with_config(&format!("{RULES}\n[endpoints.m]\nurl = \"http://127.0.0.1:9\"\nmodel = \"m\"\n"));
    let written = |role: &str, text: Option<&str>, parts: &[&str]| {
        let file = dir.path().join("prompt.txt");
        text.map_or_else(|| drop(fs::remove_file(&file)), |text| fs::write(&file, text).unwrap());
        let (endpoint, prompt) = (format!("{role}.endpoint=m"), format!("{role}.prompt=prompt.txt"));
        pipeline(dir.path(), &["--set", &endpoint, "--set", &prompt]).fails(2, parts);
        assert!(!dir.path().join("out").exists());
    };
    written("writer", None, &["prompt.txt: the prompt of the writer cannot be read", "No such file"]);
    written(
        "writer",
        Some("Look.\nAsk of {pictures}."),
        &["prompt.txt: line 2: {pictures} is no placeholder", "{count}"],
    );
    written("answerer", Some("Answer."), &["prompt.txt: the prompt of the answerer must say {question}"]);
}
