//! Where the parts of a case lie: for the tests of the library and of the program.

use std::path::{Path, PathBuf};

/// Copies the checkpoint of the case in `dir` to the folder `to`: its own files over those of `single_image` in `parity`,
/// whose weights it has if it has none of its own.
pub(crate) fn copy_checkpoint(parity: &Path, dir: &Path, to: &Path) {
    let files = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_weights = |path: &PathBuf| path.extension().is_some_and(|end| end == "safetensors");
    let own: Vec<PathBuf> = files(dir.join("checkpoint")).collect();
    let has_weights = own.iter().any(is_weights);
    let base = files(parity.join("single_image/checkpoint"));
    for file in base.filter(|file| !has_weights || !is_weights(file)).chain(own.clone()) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// Every case folder that can be found: in `parity`, in its folder `small`, in `IMAGENT_PARITY`.
pub(crate) fn cases(parity: &Path) -> Vec<PathBuf> {
    let more = std::env::var_os("IMAGENT_PARITY").map(PathBuf::from);
    let mut cases: Vec<PathBuf> = [Some(parity.to_path_buf()), Some(parity.join("small")), more]
        .iter()
        .flatten()
        .flat_map(|root| std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.join("golden.safetensors").is_file())
        .collect();
    cases.sort();
    assert!(cases.len() >= 5, "cases are missing");
    cases
}
