//! Fuzzes `samples.jsonl`: a folder that a survey finds nothing wrong with opens, and every sample of it can be had.
#![no_main]

use std::fs;
use std::sync::OnceLock;

use imagent::core::SampleSource;
use imagent::data::Folder;
use imagent::data::formats::{FOLDER as OWN, Finding, Select, survey};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: OnceLock<TempDir> = OnceLock::new();

/// A folder with two pictures, a text with a picture's name, and, beside it, a picture that no row may reach.
fn folder() -> TempDir {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("data");
    fs::create_dir_all(root.join("sub")).unwrap();
    for path in ["rgb.png", "../rgb.png"] {
        fs::write(root.join(path), include_bytes!("../../tests/pictures/rgb.png")).unwrap();
    }
    fs::write(root.join("sub/grey.png"), include_bytes!("../../tests/pictures/grey.png")).unwrap();
    fs::write(root.join("text.png"), "no picture").unwrap();
    outer
}

fuzz_target!(|bytes: &[u8]| {
    let root = FOLDER.get_or_init(folder).path().join("data");
    fs::write(root.join("samples.jsonl"), bytes).unwrap();
    let select = Select { format: Some(OWN), ..Select::default() };
    let report = survey(&root, select, &mut |finding| {
        if let Finding::Problem(error) = finding {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    });
    let (report, opened) = (report.unwrap(), Folder::open(&root));
    if report.problems == 0 {
        let folder = opened.unwrap();
        assert_eq!(folder.len(), report.rows);
        for position in 0..folder.len() {
            let sample = folder.sample(position).unwrap();
            assert!(!sample.images.is_empty());
        }
    }
});
