//! How much of a mapped file stays in memory; alone in its process, because it looks at the process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::fs;

use imagent_models::checkpoint::{CheckpointWriter, TensorFile};
use imagent_models::config::Dtype;
use tempfile::tempdir;

/// Reading a model tensor by tensor keeps neither the file nor the copies in memory.
#[test]
fn a_file_is_not_held_beside_its_copies() {
    let resident = || -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let dir = tempdir().unwrap();
    let writer = CheckpointWriter::new(&dir.path().join("m")).unwrap();
    let tensors = (0..16).map(|i| (format!("t{i}"), vec![1 << 20], vec![i as f32; 1 << 20]));
    writer.tensors("large.safetensors", tensors, Dtype::F32).unwrap();
    writer.finish().unwrap();
    let file = TensorFile::open(&dir.path().join("m/large.safetensors")).unwrap();
    let before = resident();
    for i in 0..16 {
        let (_, values) = file.tensor_f32(&format!("t{i}")).unwrap();
        assert!(values.iter().all(|&value| value == i as f32));
    }
    let kept = resident().saturating_sub(before);
    assert!(kept < 16 << 10, "{kept} kB of a file of 64 MB are still mapped in");
}
