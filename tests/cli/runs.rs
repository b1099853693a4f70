//! A run is a function of config, data and seed: on every rerun, at any number of threads, resumed, and composed in code.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imagent::config::{Config, open_dataset};
use imagent::prelude::*;
use imagent::run::{Quiet, train};
use serde_json::Value;

use super::done::Done;
use super::harness::{Place, figure, metrics};

fn weights(run: &Path, step: usize) -> Vec<u8> {
    let checkpoint = run.join(format!("checkpoints/step-{step:06}"));
    let files = ["model.safetensors", "trainer.safetensors", "trainer.json"];
    files.iter().flat_map(|file| fs::read(checkpoint.join(file)).unwrap()).collect()
}

/// Same figures and same weights.
fn same(a: &Path, b: &Path, steps: usize) {
    assert_eq!(metrics(a), metrics(b));
    assert!(weights(a, steps) == weights(b, steps), "weights differ");
}

#[test]
fn twice_and_with_two_threads_the_same_to_the_bit() {
    let place = Place::new();
    let one = place.train("one", &[]);
    let two = place.train("two", &[]);
    same(&one, &two, 3);
    let mut command = place.command(&["train", "config.toml", "--out", "threads"]);
    Done::from(command.env("RAYON_NUM_THREADS", "2").output().unwrap()).ok();
    same(&one, &place.path("threads"), 3);
    assert!(figure(&one, 1, "update/count") > 0.0, "something must have been learned for this to mean anything");
    assert!(weights(&one, 1) != weights(&one, 2));
    let other = place.train("other", &["--set", "seed=4"]);
    assert_ne!(metrics(&one), metrics(&other));
}

#[test]
fn resumed_the_same_to_the_bit_also_with_a_reference() {
    let place = Place::new();
    let kl: [&str; 6] =
        ["--set", "optimizer.kl_coef=0.1", "--set", "adamw.learning_rate=1e-2", "--set", "train.epochs=2"];
    let whole = place.train("whole", &kl);
    assert!(figure(&whole, 3, "update/kl") > 0.0);
    for kept in [1, 2] {
        let name = format!("cut-{kept}");
        let cut = place.path(&name);
        copy(&whole, &cut);
        (kept + 1..=3).for_each(|step| fs::remove_dir_all(cut.join(format!("checkpoints/step-{step:06}"))).unwrap());
        let args = [&["train", "config.toml", "--out", &name, "--resume"], &kl[..]].concat();
        let done = place.run(&args);
        assert!(done.err.contains(&format!("going on after step {kept} of 3")), "{}", done.err);
        assert!(done.ok().contains("accuracy"));
        same(&whole, &cut, 3);
    }
    let done = place.run(&[&["train", "config.toml", "--out", "whole", "--resume"], &kl[..]].concat());
    assert!(done.ok().contains("after"), "a run that is complete shows its table again");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(drop).unwrap() }
    }
}

#[test]
fn a_trained_checkpoint_evaluates_as_the_run_reported() {
    let place = Place::new();
    let run = place.train("run", &[]);
    let reported: Value = serde_json::from_slice(&fs::read(run.join("eval-after.json")).unwrap()).unwrap();
    let checkpoint = "run/checkpoints/step-000003";
    let told = place.run(&["eval", "--model", checkpoint, "--json", "--out", "figures.json"]).ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["metrics"], reported);
    let written: Value = serde_json::from_slice(&fs::read(place.path("figures.json")).unwrap()).unwrap();
    assert_eq!(written, told);
    // The same settings by name, and another dataset.
    let named = place.run(&["eval", "config.toml", "--model", checkpoint, "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&named).unwrap()["metrics"], reported);
    let data = place.path("data/train");
    let other = place.run(&["eval", "--model", checkpoint, "--data", data.to_str().unwrap(), "--limit", "2", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&other.ok()).unwrap()["metrics"]["trajectories"], 2.0);
}

#[test]
fn composed_in_code_the_same_to_the_bit() {
    let place = Place::new();
    let named = place.train("named", &[]);
    let config = Config::read(&place.config(), &[] as &[&str]).unwrap();
    let model = open_model(&config.model, &config.adamw).unwrap();
    let source = open_dataset(&config.data.train, "data.train.path").unwrap();
    let held_out = open_dataset(config.data.eval.as_ref().unwrap(), "data.eval.path").unwrap();
    let mut experiment = Experiment {
        policy: model.policy,
        toolbox: Box::new((ZoomIn::default(),)),
        reward: Box::new(ImAgent::default()),
        masks: Box::new(ActionMask::default()),
        optimizer: Box::new(Grpo::default()),
        source,
        held_out: Some(held_out),
        settings: config.settings(),
        eval_sampling: config.train.eval_sampling.clone(),
    };
    let options = RunOptions {
        dir: place.path("composed"),
        resume: false,
        config: config.to_toml(),
        schedule: config.train.schedule(),
        alarms: config.alarms.clone(),
        model_dir: model.dir,
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    let outcome = train(&mut experiment, &options, &mut Quiet).unwrap();
    assert_eq!(outcome.steps, 3);
    same(&named, &options.dir, 3);
}

#[test]
fn a_run_folder_holds_what_it_should() {
    let place = Place::new();
    let run = place.train("run", &[]);
    let files = [
        "config.toml",
        "metrics.jsonl",
        "eval-before.json",
        "eval-after.json",
        "rollouts/step-000002.jsonl",
        "rollouts/eval-before.jsonl",
        "rollouts/eval-000002.jsonl",
        "rollouts/eval-after.jsonl",
        "checkpoints/step-000003/config.json",
        "checkpoints/step-000003/model.safetensors",
        "checkpoints/step-000003/tokenizer.json",
        "checkpoints/step-000003/chat_template.json",
        "checkpoints/step-000003/preprocessor_config.json",
        "checkpoints/step-000003/trainer.safetensors",
        "checkpoints/step-000003/trainer.json",
        "report.html",
    ];
    files.iter().for_each(|file| assert!(run.join(file).is_file(), "{file} is missing"));
    assert_eq!(fs::read_dir(run.join("tensorboard")).unwrap().count(), 1);
    assert_eq!(metrics(&run).len(), 4);
    assert_eq!(figure(&run, 0, "eval/trajectories"), 4.0);
    assert_eq!(figure(&run, 2, "eval/trajectories"), 2.0);
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("data:image/jpeg"), "the report has images");
}
