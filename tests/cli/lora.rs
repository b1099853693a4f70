//! Adapters and frozen parts through the program: the same on every rerun, at any number of threads and resumed; what is kept
//! evaluates as the run reported, merges, and bad settings are refused by their key.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::done::Done;
use super::harness::{Place, figure, metrics};

const LORA: [&str; 4] =
    ["--set", "model.lora={ rank = 2, dropout = 0.1, vision = true }", "--set", "adamw.learning_rate=1e-2"];

/// An adapter's files and the trainer's.
fn adapter(run: &Path, step: usize) -> Vec<u8> {
    let checkpoint = run.join(format!("checkpoints/step-{step:06}"));
    assert!(!checkpoint.join("model.safetensors").exists(), "the whole model is kept");
    let files = ["adapter_config.json", "adapter_model.safetensors", "trainer.safetensors", "trainer.json"];
    files.iter().flat_map(|file| fs::read(checkpoint.join(file)).unwrap()).collect()
}

fn same(a: &Path, b: &Path) {
    assert_eq!(metrics(a), metrics(b));
    assert!(adapter(a, 3) == adapter(b, 3), "adapters differ");
}

#[test]
fn adapters_train_the_same_again_with_two_threads_and_resumed() {
    let place = Place::new();
    let one = place.train("one", &LORA);
    assert!(figure(&one, 1, "update/count") > 0.0 && adapter(&one, 1) != adapter(&one, 2), "nothing was learned");
    same(&one, &place.train("two", &LORA));
    let args = [&["train", "config.toml", "--out", "threads"], &LORA[..]].concat();
    Done::from(place.command(&args).env("RAYON_NUM_THREADS", "2").output().unwrap()).ok();
    same(&one, &place.path("threads"));
    let checkpointed = [&LORA[..], &["--set", "model.gradient_checkpointing=true"]].concat();
    same(&one, &place.train("checkpointed", &checkpointed));
    // Steps 2 and 3 again, from the checkpoint of step 1.
    let two = place.path("two");
    for step in [2, 3] {
        fs::remove_dir_all(two.join(format!("checkpoints/step-{step:06}"))).unwrap();
    }
    let done = place.run(&[&["train", "config.toml", "--out", "two", "--resume"], &LORA[..]].concat());
    assert!(done.err.contains("going on after step 1 of 3"), "{}", done.err);
    done.ok();
    same(&one, &two);
}

#[test]
fn a_kept_adapter_evaluates_as_the_run_reported_and_so_does_the_merged_model() {
    let place = Place::new();
    let lora = ["--set", "model.lora={ rank = 2 }", "--set", "adamw.learning_rate=1e-2"];
    let run = place.train("run", &lora);
    let reported: Value = serde_json::from_slice(&fs::read(run.join("eval-after.json")).unwrap()).unwrap();
    let figures = |args: &[&str]| -> Value {
        let told = place.run(&[&["eval", "--json", "--model"], args].concat()).ok();
        serde_json::from_str::<Value>(&told).unwrap()["metrics"].clone()
    };
    let checkpoint = "run/checkpoints/step-000003";
    assert_eq!(figures(&[checkpoint]), reported);
    // Without the run's settings: the adapter says itself what it is, and the model it is for.
    assert_eq!(figures(&[checkpoint, "config.toml"]), reported);
    place.run(&["model", "merge", "--adapter", checkpoint, "--out", "merged"]).ok();
    assert_eq!(figures(&["merged", "config.toml"]), reported);
    assert!(place.path("merged/tokenizer.json").is_file() && !place.path("merged/adapter_config.json").exists());
    let again = place.run(&["model", "merge", "--adapter", checkpoint, "--out", "merged"]);
    again.fails(2, &["merged", "--out"]);
    let base = super::harness::model().to_str().unwrap();
    place.run(&["model", "merge", "--model", base, "--adapter", base, "--out", "x"]).fails(2, &["adapter_config.json"]);
    // Training goes on from the adapter.
    let more = ["--set", "model.path=run/checkpoints/step-000003", "--set", "train.steps=1"];
    let more = place.train("more", &more);
    assert!(more.join("checkpoints/step-000001/adapter_model.safetensors").is_file());
}

#[test]
fn a_frozen_tower_stays_as_it_is() {
    let place = Place::new();
    let run = place.train("run", &["--set", "model.freeze=[\"visual.*\"]", "--set", "adamw.rates.language=0.5"]);
    let start = fs::read(super::harness::model().join("model.safetensors")).unwrap();
    let end = fs::read(run.join("checkpoints/step-000003/model.safetensors")).unwrap();
    let (start, end) = (safetensors::SafeTensors::deserialize(&start), safetensors::SafeTensors::deserialize(&end));
    let (start, end) = (start.unwrap(), end.unwrap());
    let mut moved = 0;
    for (name, tensor) in start.tensors() {
        let same = tensor.data() == end.tensor(&name).unwrap().data();
        assert!(same || !name.starts_with("visual."), "{name} has moved");
        moved += usize::from(!same);
    }
    assert!(moved > 5, "{moved} parameters have moved");
    let trainer = fs::read(run.join("checkpoints/step-000003/trainer.safetensors")).unwrap();
    let trainer = safetensors::SafeTensors::deserialize(&trainer).unwrap();
    assert!(trainer.names().iter().all(|name| !name.contains("visual.")), "moments of frozen parameters are kept");
}

#[test]
fn bad_settings_are_refused_by_their_key() {
    let place = Place::new();
    for (set, named) in [
        ("model.lora.rank=0", "model.lora.rank"),
        ("model.lora.alpha=-1.0", "model.lora.alpha"),
        ("model.lora.dropout=1.0", "model.lora.dropout"),
        ("model.lora.rnak=2", "did you mean `rank`"),
        ("model.lora.target_modules=[\"oproj\"]", "oproj"),
        ("model.lora.target_modules=[\"qkv\"]", "vision = true"),
        ("model.lora.target_modules='(('", "model.lora.target_modules"),
        ("model.lora.target_modules=3", "model.lora.target_modules"),
        ("model.lora.target_modules=[]", "model.lora.target_modules"),
        ("model.freeze=[\"visuals.*\"]", "visuals.*"),
        ("model.freeze=[\"*\"]", "model.freeze"),
        ("model.adapter=nowhere", "model.adapter"),
        ("adamw.rates.vision=-1.0", "adamw.rates.vision"),
        ("adamw.rates.text=1.0", "adamw.rates.text"),
    ] {
        place.run(&["train", "config.toml", "--set", set, "--out", "x"]).fails(2, &[named]);
        assert!(!place.path("x").exists(), "{set} left a folder");
    }
    let both = ["--set", "model.lora.rank=2", "--set", "model.freeze=[\"visual.*\"]", "--out", "x"];
    place.run(&[&["train", "config.toml"], &both[..]].concat()).fails(2, &["model.freeze", "model.lora"]);
}

#[test]
fn an_adapter_is_told_with_its_model() {
    let place = Place::new();
    let run = place.train("run", &["--set", "model.lora={ rank = 3, alpha = 6.0, vision = true }"]);
    let kept = "run/checkpoints/step-000003";
    let told: Value = serde_json::from_str(&place.run(&["model", "info", kept, "--json"]).ok()).unwrap();
    let adapter = &told["adapter"];
    let base = super::harness::model().to_str().unwrap();
    assert_eq!((&adapter["base"], &told["base"]["model"]), (&base.into(), &base.into()));
    assert_eq!((&adapter["rank"], &adapter["scale"]), (&3.into(), &2.0.into()));
    let file = run.join("checkpoints/step-000003/adapter_model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let elements: usize = stored.tensors().iter().map(|(_, tensor)| tensor.data().len() / 4).sum();
    assert_eq!((&adapter["parameters"], &adapter["bytes"]), (&elements.into(), &bytes.len().into()));
    assert_eq!(adapter["modules"], stored.len() / 2);
    let training = told["base"]["memory"]["inference_f32"].as_u64().unwrap() + 20 * elements as u64;
    assert_eq!(adapter["training"], training);
    let human = place.run(&["model", "info", kept]).ok();
    for word in ["rank 3, alpha 6 (scale 2)", base, "visual.blocks.*.attn.qkv", "q_proj", "full training", "tokens"] {
        assert!(human.contains(word), "{word} is not in {human}");
    }
    let name = |base: &str| {
        let settings = run.join("checkpoints/step-000003/adapter_config.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&settings).unwrap()).unwrap();
        json["base_model_name_or_path"] = base.into();
        fs::write(&settings, json.to_string()).unwrap();
    };
    // Told without its model as well, and nothing is fetched for it.
    name("acme/absent");
    let human = place.run(&["model", "info", kept]).ok();
    assert!(human.contains("acme/absent (not a folder here)") && !human.contains("full training"), "{human}");
    // For another model it is none.
    place.run(&["model", "init", "--preset", "nano", "--out", "other"]).ok();
    name(place.path("other").to_str().unwrap());
    place.run(&["model", "info", kept]).fails(2, &["adapter_model.safetensors", "expected shape"]);
    fs::write(&file, &bytes[..bytes.len() - 4]).unwrap();
    place.run(&["model", "info", kept]).fails(2, &["adapter_model.safetensors"]);
    fs::remove_file(&file).unwrap();
    place.run(&["model", "info", kept]).fails(2, &["adapter_model.safetensors"]);
    fs::write(run.join("checkpoints/step-000003/adapter_config.json"), r#"{"peft_type": "LOHA"}"#).unwrap();
    place.run(&["model", "info", kept]).fails(2, &["adapter_config.json", "peft_type"]);
}

#[test]
fn adapters_name_their_modules_so_that_peft_finds_linear_maps_only() {
    let place = Place::new();
    let targets = |out: &str, lora: &str| -> Vec<String> {
        let run = place.train(out, &["--set", &format!("model.lora={{ rank = 2, {lora} }}"), "--set", "train.steps=1"]);
        let settings = fs::read(run.join("checkpoints/step-000001/adapter_config.json")).unwrap();
        let settings: Value = serde_json::from_slice(&settings).unwrap();
        serde_json::from_value(settings["target_modules"].clone()).unwrap()
    };
    // `0` would be the first block, `proj` the patch embedding.
    let all = ["attn.proj", "down_proj", "gate_proj", "k_proj", "mlp.0", "mlp.2", "o_proj", "q_proj", "qkv", "up_proj"];
    assert_eq!(targets("all", "vision = true"), [&all[..], &["v_proj"]].concat());
    let language = ["k_proj", "layers.0.mlp.down_proj", "layers.0.mlp.gate_proj", "layers.0.mlp.up_proj"];
    assert_eq!(targets("language", "vision = false"), [&language[..], &["o_proj", "q_proj", "v_proj"]].concat());
}
