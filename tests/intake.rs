//! Pictures through the program: every kind that is read gives the documented bytes, everything else one short error that
//! names the file, fast and in little memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "pictures/fixture.rs"]
mod fixture;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Most address space that a run may take, in KiB: a refused picture must not cost its pixels.
const ADDRESS_SPACE: u64 = 3 << 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn pictures() -> PathBuf {
    root().join("tests/pictures")
}

/// A folder with a chat.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// `imagent forward` on a chat of these parts, within [`ADDRESS_SPACE`].
    fn forward(&self, parts: &[Value]) -> Output {
        let chat = json!([{"role": "user", "content": parts}]);
        self.write("chat.json", chat.to_string().as_bytes());
        let model = root().join("tests/parity/single_image/checkpoint");
        let limited = format!("ulimit -v {ADDRESS_SPACE}; exec \"$@\"");
        Command::new("sh")
            .args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_imagent"), "forward", "--model"])
            .arg(model)
            .arg("--messages")
            .arg(self.path("chat.json"))
            .arg("--out")
            .arg(self.path("out.safetensors"))
            .output()
            .unwrap()
    }

    /// Refused with exit code 2 and one line.
    fn refused(&self, part: Value) -> String {
        let start = Instant::now();
        let output = self.forward(&[part]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("error: ") && said.lines().count() == 1 && said.len() < 400, "{said}");
        assert!(start.elapsed() < Duration::from_secs(20), "{said} after {:?}", start.elapsed());
        assert!(!self.path("out.safetensors").exists());
        said
    }
}

fn image(path: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": path}})
}

#[test]
fn every_kind_of_picture_reaches_the_model_as_documented() {
    let table: Value = serde_json::from_slice(&std::fs::read(pictures().join("pictures.json")).unwrap()).unwrap();
    // Those whose sides are multiples of 28 are shown as they are.
    let rows: Vec<&Value> =
        table.as_array().unwrap().iter().filter(|row| row["width"].as_u64().unwrap() % 28 == 0).collect();
    let place = Place::new();
    let path = |row: &&Value| pictures().join(row["file"].as_str().unwrap()).to_str().unwrap().to_owned();
    let parts: Vec<Value> = rows.iter().map(|row| image(&path(row))).collect();
    let output = place.forward(&parts);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(place.path("out.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for (i, row) in rows.iter().enumerate() {
        let shown = tensors.tensor(&format!("image.{i}.resized")).unwrap();
        assert_eq!(json!(shown.shape()), json!([row["height"], row["width"], 3]), "{row}");
        assert_eq!(row["sum"], fixture::sum(shown.data()), "{row}");
    }
    assert!(rows.len() >= 38);
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    let place = Place::new();
    let whole = |name: &str| std::fs::read(pictures().join(name)).unwrap();
    let half = |name: &str| {
        let bytes = whole(name);
        bytes[..bytes.len() / 2].to_vec()
    };
    let cases: [(&str, Vec<u8>, &str); 13] = [
        ("text.png", b"not a picture".to_vec(), "not an image"),
        ("zero.png", Vec::new(), "the file is empty"),
        ("cut.png", half("rgb.png"), "broken PNG image"),
        ("cut.jpg", half("420.jpg"), "broken JPEG image"),
        ("cut-progressive.jpg", half("progressive.jpg"), "broken JPEG image"),
        ("cut.gif", half("still.gif"), "broken GIF image"),
        ("cut.webp", half("lossy.webp"), "broken WebP image"),
        ("cut.bmp", half("rgb.bmp"), "broken BMP image"),
        ("huge.jpg", fixture::with_size(whole("420.jpg"), 65_500, 65_500), "65500×65500 is more than 178956970 pixels"),
        ("lying.jpg", fixture::with_size(whole("progressive.jpg"), 13_000, 13_000), "too short for its size"),
        ("arithmetic.jpg", whole("arithmetic.jpg"), "arithmetic coding is not supported"),
        ("scan.tif", b"II*\0\x08\0\0\0".to_vec(), "Tiff images are not supported"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(), "not an image"),
    ];
    for (name, bytes, problem) in cases {
        place.write(name, &bytes);
        let said = place.refused(image(name));
        assert!(said.contains(name) && said.contains(problem) && said.contains("message 1"), "{name}: {said}");
    }
}

#[test]
fn a_png_that_promises_65500_pixels_a_side_is_refused() {
    let place = Place::new();
    let mut png = std::fs::read(pictures().join("rgb.png")).unwrap();
    png[16..20].copy_from_slice(&65_500u32.to_be_bytes());
    png[20..24].copy_from_slice(&65_500u32.to_be_bytes());
    let crc = png[12..29].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    png[29..33].copy_from_slice(&(!crc).to_be_bytes());
    place.write("huge.png", &png);
    let said = place.refused(image("huge.png"));
    assert!(said.contains("huge.png") && said.contains("65500×65500 is more than"), "{said}");
}

#[test]
fn folders_links_and_thin_pictures() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder.png")).unwrap();
    assert!(place.refused(image("folder.png")).contains("folder.png: a folder, not an image"));
    assert!(place.refused(image("absent.png")).contains("absent.png"));
    std::os::unix::fs::symlink("absent.png", place.path("dangling.png")).unwrap();
    assert!(place.refused(image("dangling.png")).contains("dangling.png"));
    assert!(place.refused(image("/dev/zero")).contains("/dev/zero: no regular file"));
    ::image::RgbImage::new(2010, 10).save(place.path("thin.png")).unwrap();
    let said = place.refused(image("thin.png"));
    assert!(said.contains("thin.png: image of 2010x10") && said.contains("at most 200 times"), "{said}");
    std::os::unix::fs::symlink(pictures().join("rgb.png"), place.path("link.png")).unwrap();
    assert!(place.forward(&[image("link.png")]).status.success());
}

#[test]
fn what_models_of_this_kind_can_and_imagent_cannot() {
    let place = Place::new();
    for part in [
        json!({"type": "video", "video": "clip.mp4"}),
        json!({"type": "video_url", "video_url": {"url": "clip.mp4"}}),
        json!({"video": ["a.png", "b.png"]}),
    ] {
        let said = place.refused(part);
        assert!(said.contains("chat.json: message 1: videos are not supported"), "{said}");
    }
    let said = place.refused(json!({"type": "audio", "audio": "a.wav"}));
    assert!(said.contains("message 1") && said.contains("`audio`"), "{said}");
}
