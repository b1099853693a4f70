//! Random checkpoints of published form: shards as Hugging Face makes them, values that depend on seed, name and place alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use imagent_models::checkpoint::{Checkpoint, CheckpointWriter, SHARD_SIZE, names};
use imagent_models::config::{Config, Dtype};
use imagent_models::published::{Size, copy_companions, write_companions, write_random};
use imagent_models::tokenizer::Tokenizer;
use tempfile::tempdir;

use super::parity;

/// A model of published form that is small, but has a tensor of several pieces.
fn config() -> Config {
    let mut config = Size::B7.config();
    let text = &mut config.text;
    (text.hidden_size, text.intermediate_size, text.layers, text.heads, text.kv_heads) = (64, 96, 2, 4, 2);
    text.mrope_section = [2, 3, 3];
    let vision = &mut config.vision;
    (vision.depth, vision.hidden_size, vision.intermediate_size, vision.heads) = (2, 32, 48, 2);
    (vision.out_hidden_size, vision.fullatt_block_indexes) = (64, vec![1]);
    config
}

fn write(dir: &Path, seed: u64, kind: (Dtype, u64), threads: usize) -> u64 {
    let done = AtomicU64::new(0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let writer = CheckpointWriter::new(dir).unwrap();
        write_companions(&writer, &config()).unwrap();
        let count = |bytes| {
            done.fetch_add(bytes, Ordering::Relaxed);
        };
        write_random(&writer, &config(), seed, kind, &count).unwrap();
        writer.finish().unwrap();
    });
    done.into_inner()
}

fn values(dir: &Path) -> BTreeMap<String, Vec<f32>> {
    let checkpoint = Checkpoint::open(dir).unwrap();
    checkpoint.check(&Config::open(dir).unwrap()).unwrap();
    checkpoint.names().map(|name| (name.to_owned(), checkpoint.tensor_f32(name).unwrap().1)).collect()
}

#[test]
fn values_depend_on_seed_name_and_place_alone() {
    let root = tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    write(&at("one"), 7, (Dtype::Bf16, SHARD_SIZE), 1);
    write(&at("two"), 7, (Dtype::Bf16, SHARD_SIZE), 2);
    assert_eq!(fs::read(at("one/model.safetensors")).unwrap(), fs::read(at("two/model.safetensors")).unwrap());
    let done = write(&at("shards"), 7, (Dtype::Bf16, 1_000_000), 2);
    let (whole, shards) = (values(&at("one")), values(&at("shards")));
    assert!(whole == shards);
    assert_eq!(done, 2 * whole.values().map(|values| values.len() as u64).sum::<u64>());
    write(&at("other"), 8, (Dtype::Bf16, SHARD_SIZE), 2);
    assert!(values(&at("other"))["lm_head.weight"] != whole["lm_head.weight"]);
    assert!(whole["lm_head.weight"] != whole["model.embed_tokens.weight"]);
}

#[test]
fn weights_start_as_hugging_faces_do() {
    let root = tempdir().unwrap();
    let dir = root.path().join("model");
    write(&dir, 1, (Dtype::F32, SHARD_SIZE), 2);
    for (name, values) in values(&dir) {
        let count = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let deviation = (values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count).sqrt();
        let matrix = names(&config()).iter().any(|(known, shape)| *known == name && shape.len() > 1);
        match (matrix, name.ends_with("bias")) {
            // Five deviations of the estimates.
            (true, _) => {
                assert!(mean.abs() < 5.0 * 0.02 / count.sqrt(), "{name}: mean {mean}");
                assert!((deviation / 0.02 - 1.0).abs() < 5.0 / (2.0 * count).sqrt(), "{name}: deviation {deviation}");
                // No piece repeats another.
                assert!(values.chunks_exact(1 << 16).zip(values.chunks_exact(1 << 16).skip(1)).all(|(a, b)| a != b));
            }
            (false, true) => assert!(values.iter().all(|&x| x == 0.0), "{name}"),
            (false, false) => assert!(values.iter().all(|&x| x == 1.0), "{name}"),
        }
    }
}

#[test]
fn shards_and_index_are_hugging_faces() {
    let root = tempdir().unwrap();
    let dir = root.path().join("model");
    let limit = 1_000_000;
    write(&dir, 1, (Dtype::Bf16, limit), 1);
    let index = super::json(&dir.join("model.safetensors.index.json"));
    let parameters: usize = names(&config()).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(index["metadata"]["total_size"], 2 * parameters as u64);
    let map = index["weight_map"].as_object().unwrap();
    assert!(map.keys().is_sorted() && map.len() == names(&config()).len());
    // The order of the model, cut before a file would grow over the limit; what is larger stands alone.
    let mut used: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, shape) in names(&config()) {
        let bytes = 2 * shape.iter().product::<usize>() as u64;
        let file = map[&name].as_str().unwrap();
        let sum = used.entry(file).or_default();
        *sum += bytes;
        assert!(*sum <= limit || *sum == bytes, "{file}");
    }
    assert!(used.len() >= 3);
    for (number, (file, bytes)) in used.iter().enumerate() {
        assert_eq!(*file, format!("model-{:05}-of-{:05}.safetensors", number + 1, used.len()));
        let content = fs::read(dir.join(file)).unwrap();
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&content).unwrap();
        assert_eq!(content.len() as u64, 8 + header as u64 + bytes);
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        assert!(header.is_multiple_of(8) && metadata.offset_keys().is_sorted());
    }
}

#[test]
fn a_byte_tokenizer_under_the_published_ids() {
    let root = tempdir().unwrap();
    let dir = root.path().join("model");
    write(&dir, 1, (Dtype::Bf16, SHARD_SIZE), 1);
    let tokenizer = Tokenizer::open(&dir).unwrap();
    let config = Config::open(&dir).unwrap();
    tokenizer.check(&config, &dir).unwrap();
    let special = tokenizer.special();
    assert_eq!((special.im_start, special.im_end, special.image_pad), (151_644, 151_645, 151_655));
    assert_eq!((config.tokens.eos.as_slice(), config.tokens.vision_pad), (&[151_645, 151_643][..], Some(151_654)));
    assert_eq!(tokenizer.size(), 151_665);
    // Ids of single characters in the published vocabulary: `!` is 0, a digit follows, a space is 220, a line end 198.
    assert_eq!(tokenizer.encode("!1 \n").unwrap(), [0, 16, 220, 198]);
    assert_eq!(tokenizer.encode("<tool_call><|fim_pad|>").unwrap(), [151_657, 151_662]);
    for text in ["Hello, world!", "naïve 你好 🙂", "a\r\n\tb", "<|im_start|>user\nx<|im_end|>\n"] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap(), false).unwrap(), text);
    }
    let all: String = (0..=255u8).map(char::from).collect();
    assert_eq!(tokenizer.decode(&tokenizer.encode(&all).unwrap(), false).unwrap(), all);
}

#[test]
fn a_foreign_tokenizer_must_fit() {
    let root = tempdir().unwrap();
    let writer = CheckpointWriter::new(&root.path().join("model")).unwrap();
    let from = parity().join("tokenizer/checkpoint");
    let message = copy_companions(&writer, &config(), &from).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json") && message.contains("151655"), "{message}");
    let absent = copy_companions(&writer, &config(), root.path()).unwrap_err().to_string();
    assert!(absent.contains("tokenizer.json"), "{absent}");
    drop(writer);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}
