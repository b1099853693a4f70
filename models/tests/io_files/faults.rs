//! Checkpoints that are cut short, lie or disagree: one clear error each, naming the file and the tensor.

use std::fs;
use std::path::Path;

use dfdx::prelude::Cpu;
use imagent_models::adamw::AdamWConfig;
use imagent_models::checkpoint::{Checkpoint, TensorFile};
use imagent_models::config::Config;
use imagent_models::policy::QwenPolicy;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use super::parity;

/// A copy of a case's checkpoint.
fn copy(case: &str) -> TempDir {
    let dir = tempdir().unwrap();
    for entry in fs::read_dir(parity().join(case).join("checkpoint")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

/// The error of opening a model has all of `words`, on one line.
#[track_caller]
fn refused(dir: &Path, words: &[&str]) {
    let message = QwenPolicy::open(dir, Cpu::default(), AdamWConfig::default()).unwrap_err().to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
}

/// A file with this header and so many bytes of data; what is said of it.
fn header(header: &Value, data: usize) -> String {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let text = header.to_string();
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    fs::write(&path, bytes).unwrap();
    let message = TensorFile::open(&path).unwrap_err().to_string();
    assert!(message.contains("x.safetensors"), "{message}");
    message
}

fn tensor(dtype: &str, shape: &[u64], offsets: [u64; 2]) -> Value {
    json!({"dtype": dtype, "shape": shape, "data_offsets": offsets})
}

#[test]
fn headers_that_lie() {
    let lie = |json: Value, data: usize, words: &[&str]| {
        let message = header(&json, data);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    let good = tensor("F32", &[2, 3], [0, 24]);
    lie(json!({"a": good}), 20, &["`a`", "0..24", "beyond the 20"]);
    lie(json!({"a": good}), 28, &["24 bytes", "28"]);
    lie(json!({"a": good, "b": tensor("F32", &[2], [20, 28])}), 28, &["`b`", "20..28", "overlap", "24"]);
    lie(json!({"a": good, "b": tensor("F32", &[2], [32, 40])}), 40, &["`b`", "gap", "24"]);
    lie(json!({"a": tensor("F32", &[2, 3], [0, 20])}), 20, &["`a`", "20 bytes", "takes 24"]);
    lie(json!({"a": tensor("F32", &[2, 3], [24, 0])}), 24, &["`a`", "before it begins"]);
    lie(json!({"a": tensor("F128", &[2], [0, 32])}), 32, &["`a`", "unknown element type F128"]);
    lie(json!({"a": tensor("F32", &[1 << 40, 1 << 40], [0, 8])}), 8, &["`a`", "no file can hold"]);
    lie(json!({"a": {"dtype": "F32", "shape": [2]}}), 8, &["`a`", "data_offsets"]);
    lie(json!({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}), 8, &["`a`", "shape"]);
    lie(json!([1, 2]), 8, &["no JSON object"]);
}

#[test]
fn files_that_are_no_weights() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let said = |bytes: &[u8], word: &str| {
        fs::write(&path, bytes).unwrap();
        let message = TensorFile::open(&path).unwrap_err().to_string();
        assert!(message.contains("x.safetensors") && message.contains(word), "{message}");
    };
    said(b"", "0 bytes are too few");
    said(b"version https://git-lfs.github.com/spec/v1\n", "the header should have");
    said(&u64::MAX.to_le_bytes(), "the header should have");
    said(&[&4u64.to_le_bytes()[..], b"{{{{"].concat(), "not JSON");
}

#[test]
fn weights_cut_short() {
    let dir = copy("tool_turn");
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1000]).unwrap();
    refused(dir.path(), &["model.safetensors", "tensor `", "beyond"]);
    fs::write(&path, &bytes[..100]).unwrap();
    refused(dir.path(), &["model.safetensors", "the header should have"]);
}

#[test]
fn shards_that_are_missing_or_lack_a_tensor() {
    let dir = copy("three_images");
    let (shard, name) = ("model-00002-of-00003.safetensors", "model.norm.weight");
    let away = dir.path().join("away");
    fs::rename(dir.path().join(shard), &away).unwrap();
    refused(dir.path(), &[shard]);
    fs::rename(&away, dir.path().join(shard)).unwrap();
    let path = dir.path().join("model.safetensors.index.json");
    let mut index = super::json(&path);
    let right = index["weight_map"][name].clone();
    let wrong = if right == shard { "model-00001-of-00003.safetensors" } else { shard };
    // The tensor is in another shard than the index says.
    index["weight_map"][name] = wrong.into();
    fs::write(&path, index.to_string()).unwrap();
    refused(dir.path(), &[wrong, name, "missing"]);
    index["weight_map"][name] = right;
    index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = shard.into();
    fs::write(&path, index.to_string()).unwrap();
    refused(dir.path(), &[shard, "model.layers.9.mlp.up_proj.weight", "missing"]);
    fs::write(&path, r#"{"weight_map": {"a": "../a.safetensors"}}"#).unwrap();
    refused(dir.path(), &["model.safetensors.index.json", "../a.safetensors"]);
    fs::write(&path, r#"{"weight_map": 3}"#).unwrap();
    refused(dir.path(), &["model.safetensors.index.json"]);
}

#[test]
fn a_config_that_the_files_disagree_with() {
    let with = |pointer: &str, value: Value, words: &[&str]| {
        let dir = copy("tool_turn");
        let path = dir.path().join("config.json");
        let mut json = super::json(&path);
        *json.pointer_mut(pointer).unwrap() = value;
        fs::write(&path, json.to_string()).unwrap();
        refused(dir.path(), words);
    };
    with("/intermediate_size", json!(64), &["model.safetensors", "model.layers.0.mlp.gate_proj.weight", "[64, 64]"]);
    with("/vocab_size", json!(1024), &["model.safetensors", "model.embed_tokens.weight", "[1024, 64]"]);
    with("/num_hidden_layers", json!(4), &["model.safetensors", "model.layers.3.", "missing"]);
    with("/hidden_act", json!("gelu"), &["config.json", "`hidden_act`", "gelu"]);
    with(
        "/vision_config/hidden_act",
        json!("quick_gelu"),
        &["config.json", "`vision_config.hidden_act`", "quick_gelu"],
    );
    with("/rope_scaling/type", json!("yarn"), &["config.json", "`rope_scaling.type`", "yarn"]);
    with("/image_token_id", json!(930), &["tokenizer.json", "<|image_pad|>", "id 930", "image_token_id", "931"]);
    with("/vision_start_token_id", json!(927), &["tokenizer.json", "<|vision_start|>", "928"]);
    with("/vision_config/patch_size", json!(16), &["preprocessor_config.json", "`patch_size`", "16", "14"]);
}

#[test]
fn a_tokenizer_larger_than_the_embedding() {
    let dir = copy("tool_turn");
    let path = dir.path().join("config.json");
    let mut json = super::json(&path);
    json["vocab_size"] = json!(900);
    fs::write(&path, json.to_string()).unwrap();
    refused(dir.path(), &["tokenizer.json", "below 900", "940"]);
}

#[test]
fn what_is_in_the_files_is_told() {
    let dir = parity().join("three_images/checkpoint");
    let checkpoint = Checkpoint::open(&dir).unwrap();
    checkpoint.check(&Config::open(&dir).unwrap()).unwrap();
    let on_disk: u64 = checkpoint.files().map(|file| fs::metadata(file.path()).unwrap().len()).sum();
    assert_eq!(checkpoint.files().map(TensorFile::size).sum::<u64>(), on_disk);
    let counts = checkpoint.dtypes();
    let elements: usize = checkpoint.names().map(|name| checkpoint.tensor_f32(name).unwrap().1.len()).sum();
    assert_eq!(counts.values().sum::<u64>(), elements as u64, "{counts:?}");
}
