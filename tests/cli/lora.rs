//! Adapters and frozen parts through the program: the same on every rerun, at any number of threads and resumed; what is kept
//! evaluates as the run reported, merges, and bad settings are refused by their key.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::harness::{Done, Place, figure, metrics};

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
