//! Weights in 16 bits: a checkpoint in bf16 or f16 gives what the same values in f32 give, to the bit.

use std::fs;
use std::path::{Path, PathBuf};

use imagent::models::checkpoint::{Checkpoint, names, write};
use imagent::models::config::{Config, Dtype};
use serde_json::Value;

use super::harness::{Place, model};

/// A copy of a checkpoint in another type.
fn copy(from: &Path, to: &Path, dtype: Dtype) {
    let config = Config::open(from).unwrap();
    let checkpoint = Checkpoint::open(from).unwrap();
    let tensors = names(&config).into_iter().map(|(name, _)| {
        let (shape, values) = checkpoint.tensor_f32(&name).unwrap();
        (name, shape, values)
    });
    write(to, &config, tensors, dtype, from).unwrap();
}

/// The checkpoint narrowed to `dtype`, and the values of that in f32.
fn pair(place: &Place, from: &Path, dtype: Dtype) -> [PathBuf; 2] {
    let [narrow, wide] = [place.path("narrow"), place.path("wide")];
    copy(from, &narrow, dtype);
    copy(&narrow, &wide, Dtype::F32);
    let size = |dir: &Path| fs::metadata(dir.join("model.safetensors")).unwrap().len();
    assert!(size(&narrow) < size(&wide) * 6 / 10);
    [narrow, wide]
}

/// What `eval` and `rollout` say of a model, without its name.
fn played(place: &Place, model: &Path, more: &[&str]) -> (Value, Vec<u8>) {
    let model = ["--model", model.to_str().unwrap()];
    let eval = ["eval", "config.toml", "--out", "figures.json"];
    place.run(&[&eval, &model[..], more].concat()).ok();
    let figures: Value = serde_json::from_slice(&fs::read(place.path("figures.json")).unwrap()).unwrap();
    let rollout = ["rollout", "config.toml", "--index", "1", "--out", "episode"];
    place.run(&[&rollout, &model[..], more].concat()).ok();
    let episode = place.path("episode");
    let record = fs::read(episode.join("trajectory.json")).unwrap();
    fs::remove_dir_all(episode).unwrap();
    (figures["metrics"].clone(), record)
}

#[test]
fn rollouts_of_a_16_bit_checkpoint_are_those_of_its_values_in_f32() {
    for (dtype, name) in [(Dtype::Bf16, "bf16"), (Dtype::F16, "f16")] {
        let place = Place::new();
        let [narrow, wide] = pair(&place, model(), dtype);
        let expected = played(&place, &wide, &[]);
        assert!(!expected.0.as_object().unwrap().is_empty());
        assert_eq!(expected, played(&place, &narrow, &[]), "{name}");
        assert_eq!(expected, played(&place, &narrow, &["--dtype", "f32"]), "{name} widened");
        assert_eq!(expected, played(&place, &wide, &["--dtype", name]), "narrowed to {name}");
    }
}

#[test]
fn forward_of_a_16_bit_checkpoint_is_that_of_its_values_in_f32() {
    let place = Place::new();
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/single_image");
    let [narrow, wide] = pair(&place, &case.join("checkpoint"), Dtype::Bf16);
    let messages = case.join("messages.json");
    let forward = |model: &Path, out: &str, more: &[&str]| {
        let (model, messages) = (model.to_str().unwrap(), messages.to_str().unwrap());
        let args = ["forward", "--model", model, "--messages", messages, "--out", out];
        place.run(&[&args, more].concat())
    };
    for (model, out) in [(&narrow, "a"), (&wide, "b")] {
        forward(model, out, &["--generate", "6", "--attention"]).ok();
    }
    assert!(fs::read(place.path("a")).unwrap() == fs::read(place.path("b")).unwrap(), "tensors differ");
    // Narrowing changes them: else the test would be idle.
    forward(&case.join("checkpoint"), "c", &["--generate", "6", "--attention"]).ok();
    assert!(fs::read(place.path("a")).unwrap() != fs::read(place.path("c")).unwrap());
    forward(&narrow, "c", &["--gradients"]).ok();
    forward(&narrow, "d", &["--gradients", "--dtype", "bf16"]).fails(2, &["--gradients", "--dtype"]);
    assert_eq!(forward(&narrow, "d", &["--dtype", "f64"]).code, Some(2));
}
