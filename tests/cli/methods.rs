//! Every policy optimiser, and what a run does around it, through the program: two steps, finite figures, twice the same bits.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::harness::{Place, figure, metrics, model};

/// A name, what is set, and a figure that shows that it was done: one that is above 0 in some step.
const METHODS: [(&str, &str, &str); 14] = [
    ("grpo", "", "update/count"),
    ("dr_grpo", "", "update/count"),
    ("dapo", "", "update/count"),
    ("gspo", "", "update/count"),
    ("cispo", "", "update/count"),
    ("rloo", "", "update/count"),
    ("reinforce_plus_plus", "", "update/count"),
    ("reinforce_plus_plus_baseline", "", "update/count"),
    ("grpo", "optimizer.kl_coef=0.1", "update/kl"),
    ("reinforce_plus_plus", "optimizer.kl_coef=0.1 optimizer.kl_in=reward", "update/kl"),
    ("dapo", "train.drop_flat_groups=true train.refill_rounds=3", "refill/prompts"),
    ("grpo", "train.importance_cap=2", "mismatch/factor_mean"),
    ("gspo", "train.epochs=3", "update/approx_kl"),
    (
        "dapo",
        "reward={type=\"sum\",terms=[{reward={type=\"accuracy\"}},{reward={type=\"length\",tokens=3,slack=2}}]}",
        "update/count",
    ),
];

/// Every figure of every step; a figure that is not finite is no number in the file.
fn finite(run: &Path, name: &str) {
    let rows = metrics(run);
    assert_eq!(rows.len(), 3, "{name}: before the first step and after each");
    for row in rows {
        let row: Value = serde_json::from_str(&row).unwrap();
        let figures = row["metrics"].as_object().unwrap();
        assert!(
            !figures.is_empty() && figures.values().all(|value| value.as_f64().is_some_and(f64::is_finite)),
            "{name}: {row}"
        );
    }
}

#[test]
fn every_method_trains_and_twice_the_same() {
    let place = Place::new();
    let weights = |run: &Path, file: &str| fs::read(run.join("checkpoints/step-000002").join(file)).unwrap();
    let start = fs::read(model().join("model.safetensors")).unwrap();
    for (nth, (tag, more, shown)) in METHODS.into_iter().enumerate() {
        let name = format!("{nth}: {tag} {more}");
        let tag = format!("optimizer.type={tag}");
        let keys =
            ["train.steps=2", "train.eval_every=0", "train.checkpoint_every=0", "adamw.learning_rate=1e-2", &tag];
        let sets: Vec<&str> = keys.into_iter().chain(more.split_whitespace()).flat_map(|set| ["--set", set]).collect();
        let [one, two] = ["one", "two"].map(|twin| place.train(&format!("{nth}-{twin}"), &sets));
        finite(&one, &name);
        assert!((1..=2).any(|step| figure(&one, step, shown) > 0.0), "{name}: {shown} is 0");
        assert!((1..=2).any(|step| figure(&one, step, "update/count") > 0.0), "{name}: nothing was learned");
        assert_eq!(metrics(&one), metrics(&two), "{name}");
        for file in ["model.safetensors", "trainer.safetensors", "trainer.json"] {
            assert!(weights(&one, file) == weights(&two, file), "{name}: {file} differs");
        }
        assert!(weights(&one, "model.safetensors") != start, "{name}: the weights are those of the start");
    }
}
