//! Weights: both generations of names, shards, three element types, and nothing half written.

use std::collections::BTreeSet;
use std::path::Path;

use imagent_models::checkpoint::{AUX_FILES, Checkpoint, CheckpointWriter, TensorFile, hub_name, names, write};
use imagent_models::config::{Config, Dtype};
use imagent_models::footprint::Footprint;
use imagent_models::published::Size;
use tempfile::tempdir;

use super::{cases, parity};

type Tensor = (String, Vec<usize>, Vec<f32>);

fn load(dir: &Path) -> (Config, Vec<Tensor>) {
    let config = Config::open(dir).unwrap();
    let checkpoint = Checkpoint::open(dir).unwrap();
    let tensors = names(&config)
        .into_iter()
        .map(|(name, shape)| {
            let values = checkpoint.tensor_shaped(&name, &shape).unwrap();
            (name, shape, values)
        })
        .collect();
    (config, tensors)
}

fn source() -> std::path::PathBuf {
    parity().join("tool_turn/checkpoint")
}

#[test]
fn names_and_shapes_are_the_files() {
    for case in cases() {
        let dir = case.join("checkpoint");
        let config = Config::open(&dir).unwrap();
        let checkpoint = Checkpoint::open(&dir).unwrap();
        checkpoint.check(&config).unwrap();
        let expected: BTreeSet<String> = names(&config).into_iter().map(|(name, _)| name).collect();
        let got: BTreeSet<String> = checkpoint.names().map(str::to_owned).collect();
        assert_eq!(got, expected, "{}", case.display());
    }
}

#[test]
fn published_sizes_give_the_published_counts() {
    // Qwen's own figures of the 3B and the 7B, the hub's of the 32B and the 72B.
    for (size, tensors, vision, total) in [
        (Size::B3, 824, 668_684_288, 3_754_622_976),
        (Size::B7, 729, 676_550_144, 8_292_166_656),
        (Size::B32, 1161, 688_841_984, 33_452_718_336),
        (Size::B72, 1353, 704_573_696, 73_410_777_344),
    ] {
        let footprint = Footprint::of(&size.config());
        let parameters = footprint.parameters;
        assert_eq!(
            (footprint.tensors, parameters.vision + parameters.merger, parameters.total()),
            (tensors, vision, total)
        );
        assert_eq!(Config::from_json(&size.config().to_json()).unwrap().text, size.config().text);
    }
}

#[test]
fn written_as_f32_reads_back_to_the_bit() {
    let (config, tensors) = load(&source());
    let dir = tempdir().unwrap();
    let target = dir.path().join("runs/step-1");
    let items = tensors.iter().map(|(n, s, v)| (n.as_str(), s.clone(), v.as_slice()));
    write(&target, &config, items, Dtype::F32, &source()).unwrap();
    let (again, read) = load(&target);
    assert!(read == tensors);
    assert_eq!(again, config);
    for name in AUX_FILES.iter().filter(|n| source().join(n).exists()) {
        assert_eq!(std::fs::read(target.join(name)).unwrap(), std::fs::read(source().join(name)).unwrap(), "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path().join("runs")).unwrap().collect();
    assert_eq!(left.len(), 1);
    let file = std::fs::read(target.join("model.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
}

#[test]
fn narrow_types_round_to_nearest() {
    let (config, tensors) = load(&source());
    let dir = tempdir().unwrap();
    for dtype in [Dtype::Bf16, Dtype::F16] {
        let target = dir.path().join("narrow"); // the second replaces the first
        write(&target, &config, tensors.clone(), dtype, &source()).unwrap();
        let (again, read) = load(&target);
        assert_eq!(again.dtype, dtype);
        for ((name, _, before), (_, _, after)) in tensors.iter().zip(&read) {
            for (x, y) in before.iter().zip(after) {
                let expected = match dtype {
                    Dtype::Bf16 => half::bf16::from_f32(*x).to_f32(),
                    _ => half::f16::from_f32(*x).to_f32(),
                };
                assert_eq!(*y, expected, "{name}");
            }
        }
    }
}

/// The same weights under the names of transformers ≥ 4.52, in two shards.
#[test]
fn new_names_and_shards() {
    let (config, tensors) = load(&source());
    let dir = tempdir().unwrap();
    let target = dir.path().join("sharded");
    let renamed = |name: &str| match name.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None => format!("model.{name}"),
    };
    let writer = CheckpointWriter::new(&target).unwrap();
    let mut map = serde_json::Map::new();
    for (i, half) in tensors.chunks(tensors.len() / 2 + 1).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", i + 1);
        map.extend(half.iter().map(|(n, _, _)| (renamed(n), file.clone().into())));
        writer.tensors(&file, half.iter().map(|(n, s, v)| (renamed(n), s.clone(), v)), Dtype::F32).unwrap();
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    writer.file("model.safetensors.index.json", index.to_string().as_bytes()).unwrap();
    writer.finish().unwrap();
    let checkpoint = Checkpoint::open(&target).unwrap();
    checkpoint.check(&config).unwrap();
    for (name, shape, values) in &tensors {
        assert!(checkpoint.tensor_f32(name).unwrap() == (shape.clone(), values.clone()));
        assert!(checkpoint.tensor_f32(&renamed(name)).unwrap().1 == *values);
        assert_eq!(hub_name(&renamed(name)), *name);
    }
    std::fs::remove_file(target.join("model-00002-of-00002.safetensors")).unwrap();
    assert!(Checkpoint::open(&target).unwrap_err().to_string().contains("model-00002-of-00002.safetensors"));
}

#[test]
fn errors_name_file_and_tensor() {
    let (config, tensors) = load(&source());
    let checkpoint = Checkpoint::open(&source()).unwrap();
    let told = |message: String, words: &[&str]| {
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    };
    let error = checkpoint.tensor_f32("model.layers.7.mlp.up_proj.weight").unwrap_err();
    told(error.to_string(), &["model.safetensors", "model.layers.7.mlp.up_proj.weight", "missing"]);
    let error = checkpoint.tensor_shaped("model.norm.weight", &[65]).unwrap_err();
    told(error.to_string(), &["model.safetensors", "model.norm.weight", "[65]", "[64]"]);
    let mut wider = config.clone();
    wider.text.layers = 2;
    let error = checkpoint.check(&wider).unwrap_err();
    told(error.to_string(), &["model.safetensors", "model.layers.2.", "no parameter"]);

    let dir = tempdir().unwrap();
    let target = dir.path().join("step");
    write(&target, &config, tensors.clone(), Dtype::F32, &source()).unwrap();
    let before = std::fs::read(target.join("model.safetensors")).unwrap();
    let error = write(&target, &config, tensors[1..].to_vec(), Dtype::F32, &source()).unwrap_err();
    told(error.to_string(), &[&tensors[0].0, "missing"]);
    let mut extra = tensors.clone();
    extra.push(("extra.weight".into(), vec![1], vec![0.0]));
    told(write(&target, &config, extra, Dtype::F32, &source()).unwrap_err().to_string(), &["extra.weight"]);
    let mut short = tensors.clone();
    short[3].2.pop();
    told(write(&target, &config, short, Dtype::F32, &source()).unwrap_err().to_string(), &[&tensors[3].0]);
    assert_eq!(std::fs::read(target.join("model.safetensors")).unwrap(), before); // as it was
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let cut = &before[..before.len() - 1];
    std::fs::write(target.join("model.safetensors"), cut).unwrap();
    told(Checkpoint::open(&target).unwrap_err().to_string(), &["model.safetensors", "safetensors file"]);
}

#[test]
fn a_trainers_state_travels_with_the_weights() {
    let dir = tempdir().unwrap();
    let target = dir.path().join("state");
    let writer = CheckpointWriter::new(&target).unwrap();
    writer.tensors("trainer.safetensors", [("adam.m", vec![2], vec![1.5f32, -0.25])], Dtype::F32).unwrap();
    assert!(!target.exists());
    writer.finish().unwrap();
    let file = TensorFile::open(&target.join("trainer.safetensors")).unwrap();
    assert_eq!(file.tensor_f32("adam.m").unwrap(), (vec![2], vec![1.5, -0.25]));
    assert!(file.tensor_f32("adam.v").is_err());
}

#[test]
fn integers_are_no_weights() {
    let golden = TensorFile::open(&parity().join("tool_turn/golden.safetensors")).unwrap();
    let message = golden.tensor_f32("input_ids").unwrap_err().to_string();
    assert!(message.contains("input_ids") && message.contains("I64"), "{message}");
}
