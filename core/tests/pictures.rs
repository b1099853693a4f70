//! Pictures of every kind that is read, against the bytes that Pillow reads (`tests/pictures/make_pictures.py`), and files
//! that lie or are cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../tests/pictures/fixture.rs"]
mod fixture;

use std::path::{Path, PathBuf};

use imagent_core::picture::{self, PictureError};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/pictures")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

#[test]
fn every_kind_gives_pillows_bytes() {
    let table: Value = serde_json::from_slice(&file("pictures.json")).unwrap();
    let mut wrong = Vec::new();
    for row in table.as_array().unwrap() {
        let name = row["file"].as_str().unwrap();
        match picture::decode(&file(name)) {
            Ok(found)
                if row["width"] == found.width()
                    && row["height"] == found.height()
                    && row["sum"] == fixture::sum(&found) => {}
            Ok(found) => wrong.push(format!("{name}: {}x{}, other pixels", found.width(), found.height())),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty() && table.as_array().unwrap().len() >= 40, "{wrong:#?}");
}

#[test]
fn a_file_cut_anywhere_is_refused_or_whole() {
    for name in
        ["420.jpg", "progressive.jpg", "restart.jpg", "rgb.png", "still.gif", "lossy.webp", "lossless.webp", "rgb.bmp"]
    {
        let whole = file(name);
        let expected = fixture::sum(&picture::decode(&whole).unwrap());
        let mut refused = 0;
        for len in (0..whole.len()).step_by(1 + whole.len() / 150) {
            match picture::decode(&whole[..len]) {
                Ok(found) => assert_eq!(fixture::sum(&found), expected, "{name} cut to {len} of {}", whole.len()),
                Err(error) => {
                    assert!(error.to_string().lines().count() == 1 && error.to_string().len() < 200, "{error}");
                    refused += 1;
                }
            }
        }
        assert!(refused >= 140, "{name}: {refused}");
    }
}

#[test]
fn changed_bytes_never_panic() {
    for name in [
        "420.jpg",
        "progressive-444.jpg",
        "cmyk.jpg",
        "440.jpg",
        "palette-clear.png",
        "clear.gif",
        "lossy.webp",
        "palette.bmp",
    ] {
        let whole = file(name);
        for round in 0..400u64 {
            let mut bytes = whole.clone();
            for i in 0..=round % 3 {
                let hash = (round * 7 + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let at = (hash >> 32) as usize % if round % 2 == 0 { bytes.len() } else { bytes.len().min(700) };
                bytes[at] = hash as u8;
            }
            let _ = picture::decode(&bytes);
        }
    }
}

#[test]
fn lying_headers_are_refused_before_anything_is_allocated() {
    let error = picture::decode(&fixture::with_size(file("420.jpg"), 65_500, 65_500)).unwrap_err();
    assert!(matches!(error, PictureError::Pixels { width: 65_500, height: 65_500 }), "{error}");
    let error = picture::decode(&fixture::with_size(file("progressive.jpg"), 13_000, 13_000)).unwrap_err().to_string();
    assert_eq!(error, "broken JPEG image: the file is too short for its size in pixels");
    let error = picture::decode(&fixture::with_size(file("420.jpg"), 0, 5)).unwrap_err().to_string();
    assert!(error.contains("frame header"), "{error}");
}

#[test]
fn scans_without_end_are_refused() {
    let whole = file("progressive.jpg");
    // The first scan again and again.
    let marker = |from: usize, is: fn(u8) -> bool| {
        (from..whole.len() - 1).find(|&at| whole[at] == 0xff && is(whole[at + 1])).unwrap()
    };
    let start = marker(2, |byte| byte == 0xda);
    let end = marker(start + 2, |byte| byte != 0);
    let bytes = [whole[..start].to_vec(), whole[start..end].repeat(600), whole[end..].to_vec()].concat();
    assert_eq!(picture::decode(&bytes).unwrap_err().to_string(), "broken JPEG image: it has more than 500 scans");
}

#[test]
fn what_is_not_read_is_named() {
    let say = |bytes: &[u8]| picture::decode(bytes).unwrap_err().to_string();
    assert_eq!(say(b""), "the file is empty");
    assert!(say(b"plain text").starts_with("not an image"));
    assert_eq!(say(b"II*\0\x08\0\0\0"), "Tiff images are not supported, convert it to PNG or JPEG");
    let arithmetic = say(&file("arithmetic.jpg"));
    assert_eq!(arithmetic, "JPEG with arithmetic coding is not supported, convert it to PNG");
}
