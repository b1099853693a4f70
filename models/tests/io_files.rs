//! Files in, numbers out: configuration, images, tokens, templates and checkpoints against what Hugging Face makes of them.
//!
//! Every case folder under `tests/parity` is tried; `IMAGENT_PARITY=folder` adds the cases of another one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "io_files/chat.rs"]
mod chat;
#[path = "io_files/checkpoint.rs"]
mod checkpoint;
#[path = "io_files/config.rs"]
mod config;
#[path = "io_files/faults.rs"]
mod faults;
#[path = "io_files/image.rs"]
mod image;
#[path = "io_files/nano.rs"]
mod nano;
#[path = "io_files/qwen_tokenizer.rs"]
mod qwen_tokenizer;
#[path = "io_files/random.rs"]
mod random;
#[path = "io_files/tokenizer.rs"]
mod tokenizer;

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;

/// `tests/parity` of the repository.
fn parity() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity")
}

/// Folders of the cases that hold a golden, a checkpoint and messages.
fn cases() -> Vec<PathBuf> {
    let roots = [Some(parity()), std::env::var_os("IMAGENT_PARITY").map(PathBuf::from)];
    let mut cases: Vec<PathBuf> = roots
        .iter()
        .flatten()
        .flat_map(|root| std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()))
        .filter(|p| p.join("golden.safetensors").is_file())
        .collect();
    cases.sort();
    assert!(cases.len() >= 3);
    cases
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The golden tensors of a case.
struct Golden(Vec<u8>);

impl Golden {
    fn open(case: &Path) -> Self {
        Self(std::fs::read(case.join("golden.safetensors")).unwrap())
    }

    fn bytes(&self, name: &str) -> Option<(Vec<usize>, Vec<u8>)> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).ok().map(|t| (t.shape().to_vec(), t.data().to_vec()))
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let (_, bytes) = self.bytes(name).unwrap();
        bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect()
    }

    fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let (_, bytes) = self.bytes(name)?;
        Some(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    fn picture(&self, name: &str) -> Option<::image::RgbImage> {
        let (shape, bytes) = self.bytes(name)?;
        ::image::RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes)
    }
}
