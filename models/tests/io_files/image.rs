//! Pictures: sizes, resized bytes and patches against transformers and Pillow.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, RgbaImage};
use imagent_models::image_processor::{Grid, ImageProcessor, decode, decode_bytes, resize_bicubic, smart_resize};
use serde_json::json;

use super::{Golden, cases, parity};

#[test]
fn smart_resize_table() {
    let table = super::json(&parity().join("smart_resize/smart_resize_cases.json"));
    for row in table["rows"].as_array().unwrap() {
        let n = |i: usize| row[i].as_u64().unwrap();
        let got = smart_resize(n(0) as u32, n(1) as u32, n(2) as u32, n(3), n(4));
        match row[5].as_array() {
            Some(size) => {
                let size = (size[0].as_u64().unwrap() as u32, size[1].as_u64().unwrap() as u32);
                assert_eq!(got.unwrap(), size, "{row}");
            }
            None => assert!(got.is_err(), "{row}"),
        }
    }
    assert!(smart_resize(0, 10, 28, 3136, 50176).is_err());
}

#[test]
fn resized_bytes_are_pillows() {
    let mut pictures = 0;
    for case in cases() {
        let golden = Golden::open(&case);
        let processor = ImageProcessor::open(&case.join("checkpoint")).unwrap();
        for i in 0.. {
            let Some(rgb) = golden.picture(&format!("image.{i}.rgb")) else { break };
            let expected = golden.picture(&format!("image.{i}.resized_pil_hfirst")).unwrap();
            let got = processor.resize(&rgb).unwrap();
            assert_eq!(got.dimensions(), expected.dimensions(), "{} image {i}", case.display());
            assert!(got == expected, "{} image {i}", case.display());
            pictures += 1;
        }
    }
    assert!(pictures >= 7);
}

/// Sums over bytes of Pillow 12.3's result for a picture made by a formula; see `pillow_sums.py` beside the goldens.
#[test]
fn larger_pictures_resize_as_in_pillow() {
    let table = super::json(&parity().join("smart_resize/pillow_sums.json"));
    for row in table.as_array().unwrap() {
        let n = |i: usize| row[i].as_u64().unwrap();
        let picture = RgbImage::from_fn(n(0) as u32, n(1) as u32, |x, y| {
            Rgb([0, 1, 2].map(|c| {
                let hash = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519) ^ (c * 3_266_489_917);
                ((hash ^ (hash >> 15)).wrapping_mul(2_246_822_519) >> 24) as u8
            }))
        });
        let out = resize_bicubic(&picture, n(2) as u32, n(3) as u32);
        let sum = out
            .as_raw()
            .iter()
            .enumerate()
            .fold(0u64, |s, (i, b)| (s + (i as u64 % 65_521 + 1) * u64::from(*b)) % (1 << 40));
        assert_eq!(sum, n(4), "{row}");
    }
}

/// From given bytes: to the bit against the Pillow backend, to rounding against the torchvision one (which fuses the
/// normalisation).
#[test]
fn pixel_values_are_transformers() {
    for case in cases() {
        for (bytes, values, bound) in [("resized_pil", "pixel_values_pil", 0.0), ("resized", "pixel_values", 1e-6)] {
            compare_pixel_values(&case, bytes, values, bound);
        }
    }
}

fn compare_pixel_values(case: &Path, bytes: &str, values: &str, bound: f32) {
    let golden = Golden::open(case);
    let Some(expected) = golden.floats(values) else { return };
    if golden.bytes("image.0.rgb_pil_object").is_some() {
        return; // that case puts a transparent palette colour over white after its bytes were noted down
    }
    let processor = ImageProcessor::open(&case.join("checkpoint")).unwrap();
    let grids = golden.ids("image_grid_thw");
    let mut got = Vec::new();
    for (i, grid) in grids.as_chunks::<3>().0.iter().enumerate() {
        let resized = golden.picture(&format!("image.{i}.{bytes}")).unwrap();
        let patches = processor.patchify(&resized).unwrap();
        let [t, h, w] = grid.map(|n| n as usize);
        assert_eq!(patches.grid, Grid { t, h, w });
        assert_eq!(patches.values.len(), patches.grid.patches() * 1176);
        got.extend(patches.values);
    }
    assert_eq!(got.len(), expected.len());
    let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= bound, "{} {values}: {worst:e}", case.display());
}

/// To the bit, JPEG as well.
#[test]
fn files_decode_as_in_pillow() {
    for case in cases() {
        let golden = Golden::open(&case);
        let manifest = super::json(&case.join("manifest.json"));
        for (i, entry) in manifest["images"].as_array().into_iter().flatten().enumerate() {
            let Some(file) = entry["file"].as_str() else { continue };
            let Some(expected) = golden.picture(&format!("image.{i}.rgb")) else { continue };
            let got = decode(&case.join(file)).unwrap();
            assert!(got == expected, "{} {file}", case.display());
        }
    }
}

#[test]
fn equal_size_is_left_alone_and_grids_agree() {
    let processor = ImageProcessor::default();
    let picture = RgbImage::from_fn(112, 84, |x, y| Rgb([x as u8, y as u8, 7]));
    assert_eq!(processor.resize(&picture).unwrap(), picture);
    let patches = processor.patches(&picture).unwrap();
    assert_eq!((patches.grid, patches.grid.tokens(2)), (processor.grid(112, 84).unwrap(), 12));
    assert_eq!(processor.shown_size(1920, 1080).unwrap(), (1316, 728)); // width first
    assert!(processor.patchify(&RgbImage::new(30, 28)).is_err());
    assert!(processor.patches(&RgbImage::new(0, 5)).is_err());
    assert!(processor.shown_size(1, 201).is_err());
}

#[test]
fn settings_in_both_forms() {
    let old = ImageProcessor::from_json(&json!({"min_pixels": 12544, "max_pixels": 12544})).unwrap();
    let new = ImageProcessor::from_json(&json!({"size": {"shortest_edge": 12544, "longest_edge": 12544}})).unwrap();
    assert_eq!(old, new);
    assert_eq!(old.shown_size(448, 448).unwrap(), (112, 112));
    for (key, value) in
        [("do_resize", json!(false)), ("resample", json!(2)), ("patch_size", json!(0)), ("min_pixels", json!(0))]
    {
        let message = ImageProcessor::from_json(&json!({ key: value })).unwrap_err().to_string();
        assert!(message.contains(key) && message.contains("preprocessor_config.json"), "{message}");
    }
}

#[test]
fn pictures_are_not_enlarged_without_bound() {
    let settings = json!({"min_pixels": 4_000_000_000u64, "max_pixels": 10_000_000_000u64});
    let message = ImageProcessor::from_json(&settings).unwrap_err().to_string();
    assert!(message.contains("`min_pixels`: expected at most 178956970"), "{message}");
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

#[test]
fn alpha_is_dropped() {
    let clear = RgbaImage::from_pixel(3, 2, image::Rgba([10, 20, 30, 0]));
    let got = decode_bytes(&png(clear), Path::new("clear.png")).unwrap();
    assert_eq!(got, RgbImage::from_pixel(3, 2, Rgb([10, 20, 30])));
}

/// A JPEG with an EXIF block that says "rotate a quarter clockwise".
#[test]
fn exif_orientation_is_applied() {
    let wide = RgbImage::from_fn(32, 16, |x, _| if x < 16 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
    let mut jpeg = Vec::new();
    DynamicImage::from(wide).write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg).unwrap();
    let tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut block = vec![0xff, 0xe1, 0, tiff.len() as u8 + 2];
    block.extend_from_slice(tiff);
    jpeg.splice(2..2, block);
    let got = decode_bytes(&jpeg, Path::new("turned.jpg")).unwrap();
    assert_eq!(got.dimensions(), (16, 32));
    assert!(got.get_pixel(8, 4)[0] > 200 && got.get_pixel(8, 28)[2] > 200);
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("picture.png");
    std::fs::write(&text, "not a picture").unwrap();
    let message = decode(&text).unwrap_err().to_string();
    assert!(message.contains("picture.png") && message.contains("not an image"), "{message}");
    let mut cut = png(RgbImage::new(64, 64));
    cut.truncate(60);
    std::fs::write(&text, cut).unwrap();
    let message = decode(&text).unwrap_err().to_string();
    assert!(message.contains("picture.png") && message.contains("broken PNG image"), "{message}");
    assert!(decode(&dir.path().join("none.png")).unwrap_err().to_string().contains("none.png"));
}
