//! Fuzzes weight files: any bytes give tensors of the size that their header says, or an error.
#![no_main]

use imagent::models::checkpoint::TensorFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let Ok(file) = TensorFile::open(&path) else { return };
    for name in file.names() {
        if let Ok((shape, values)) = file.tensor_f32(&name) {
            assert_eq!(shape.iter().product::<usize>(), values.len());
        }
    }
});
