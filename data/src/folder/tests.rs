//! Tests of dataset folders, with real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage, Rgba, RgbaImage};
use imagent_core::{BBox, Gold, Sample, SampleSource};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::write::write_with;
use super::*;
use crate::error::DataError;
use crate::formats::{FOLDER, Finding, Select, Survey, survey};
use crate::world::WorldConfig;

fn picture(shade: u8) -> RgbImage {
    RgbImage::from_fn(8, 6, |x, y| Rgb([shade, 10 * x as u8, 10 * y as u8]))
}

fn sample(id: &str, shades: &[u8]) -> Sample {
    Sample {
        id: id.into(),
        images: shades.iter().map(|&shade| Arc::new(picture(shade))).collect(),
        later_images: Vec::new(),
        question: "What is it ?".into(),
        answer: "3".into(),
        kind: "read".into(),
        zooms_needed: Some(1),
        gold: vec![Gold { image: 1, bbox: BBox::new(1.0, 2.5, 3.0, 4.0) }],
        meta: json!({"source": "here", "deep": {"a": [1, null]}}).as_object().unwrap().clone(),
    }
}

/// A folder with `a.png` (8×6) and these lines.
fn folder(lines: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    picture(1).save(dir.path().join("a.png")).unwrap();
    fs::write(dir.path().join(SAMPLES), lines.join("\n")).unwrap();
    dir
}

fn line(id: &str, image: &str) -> String {
    json!({"id": id, "images": [image], "question": "q", "answer": "a"}).to_string()
}

/// Everything that is wrong with a folder, and its counts.
fn check(path: &Path) -> (Vec<String>, Survey) {
    let mut bad = Vec::new();
    let survey = survey(path, Select { format: Some(FOLDER), ..Select::default() }, &mut |finding| {
        if let Finding::Problem(error) = finding {
            bad.push(error.to_string());
        }
    });
    let survey = survey.unwrap();
    assert_eq!(survey.problems, bad.len());
    (bad, survey)
}

fn open_error(dir: &TempDir) -> String {
    let error = Folder::open(dir.path()).unwrap_err();
    let text = error.to_string();
    assert_eq!(check(dir.path()).0[0], text, "the survey agrees with open");
    text
}

fn assert_has(text: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| text.contains(part)), "{text:?} lacks one of {parts:?}");
}

#[test]
fn samples_survive_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/set");
    let mut bare = sample("b", &[1, 2, 1]);
    (bare.zooms_needed, bare.gold, bare.meta) = (None, Vec::new(), Default::default());
    let samples = [sample("a/1", &[1, 2]), bare];
    let summary = write_folder(&path, &samples).unwrap();
    assert_eq!(summary, Summary { samples: 2, images: 2, written: true }, "shared images are written once");
    let opened = Folder::open(&path).unwrap();
    assert_eq!((opened.len(), opened.image_files()), (2, 2));
    for (position, wanted) in samples.iter().enumerate() {
        let got = opened.get(position).unwrap();
        assert_eq!(format!("{:?}", got), format!("{wanted:?}"));
    }
    assert!(Arc::ptr_eq(&opened.get(0).unwrap().images[0], &opened.get(1).unwrap().images[2]));
    let (bad, survey) = check(&path);
    assert_eq!((bad.len(), survey.rows, survey.images), (0, 2, 2));
    assert!(matches!(opened.sample(2), Err(DataError::NoSample { position: 2, samples: 2, .. })));
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "no draft is left behind");
}

#[test]
fn meta_is_optional_and_blank_lines_are_skipped() {
    let dir = folder(&["\u{feff}", "", &line("x", "a.png"), "  ", ""]);
    fs::write(dir.path().join(SAMPLES), format!("\u{feff}{}\r\n\r\n", line("x", "./a.png"))).unwrap();
    let sample = Folder::open(dir.path()).unwrap().sample(0).unwrap();
    assert_eq!((sample.kind.as_str(), sample.zooms_needed, sample.gold.len()), ("question", None, 0));
}

#[test]
fn answers_are_what_the_row_says_they_are() {
    let row = |answer: &str, meta: &str| {
        line("x", "a.png").replace(r#""answer":"a""#, &format!(r#""answer":{answer:?},"meta":{meta}"#))
    };
    let choice = r#"{"answer_kind":"choice","options":["red","blue"]}"#;
    let of_box = r#"{"answer_kind":"box"}"#;
    for (answer, meta) in
        [("B", choice), ("red", choice), ("[1, 2, 3, 4]", of_box), ("any", r#"{"answer_kind":"text"}"#)]
    {
        let (bad, _) = check(folder(&[&row(answer, meta)]).path());
        assert!(bad.is_empty(), "{answer}: {bad:?}");
    }
    let off = r#"{"image": 3, "bbox_2d": [1, 2, 3, 4]}"#;
    let cases = [
        ("Z", choice, "none of the 2 options"),
        ("3", of_box, "is no box"),
        (off, of_box, "on image 3, which is none of the sample's 1"),
        ("a", r#"{"answer_kind":"foo"}"#, "none of text, choice and box"),
    ];
    for (answer, meta, part) in cases {
        let (bad, _) = check(folder(&[&row(answer, meta)]).path());
        assert_eq!(bad.len(), 1, "{answer}: {bad:?}");
        assert_has(&bad[0], &["samples.jsonl:1: ", part]);
    }
}

#[test]
fn folders_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no");
    assert!(matches!(Folder::open(&missing), Err(DataError::NoFolder { path }) if path == missing));
    assert!(matches!(Folder::open(dir.path()), Err(DataError::NoDataset { .. })));
    assert!(survey(&missing, Select::default(), &mut |_| ()).is_err());
    let empty = folder(&["", " "]);
    assert!(matches!(Folder::open(empty.path()), Err(DataError::Empty { file }) if file.ends_with(SAMPLES)));
    let (bad, survey) = check(empty.path());
    assert_eq!((bad.len(), survey.rows), (1, 0));
    assert_has(&bad[0], &["the dataset is empty"]);
}

#[test]
fn bad_rows_name_file_and_line() {
    let good = line("x", "a.png");
    let with = |extra: &str| good.replacen('{', &format!("{{{extra},"), 1);
    let cases: Vec<(String, Vec<&str>)> = vec![
        (with(r#""answr": 1"#), vec!["unknown field `answr`", "`answer`", "column"]),
        (with(r#""ans\nwer": 1"#), vec!["unknown field `ans\\nwer`", "column"]),
        (good.replace(r#""question":"q","#, ""), vec!["missing field `question`"]),
        (good.replace(r#""id":"x","#, ""), vec!["missing field `id`"]),
        (good.replace(r#""answer":"a""#, r#""answer":3"#), vec!["invalid type: integer `3`, expected a string"]),
        (good.replace(r#""answer":"a""#, r#""answer":" ""#), vec!["`answer` is empty"]),
        (good.replace(r#"["a.png"]"#, "[]"), vec!["`images` is empty"]),
        (good.replace(r#"["a.png"]"#, r#""a.png""#), vec!["expected a sequence"]),
        (line("", "a.png"), vec!["`id` is empty"]),
        (line("first", "a.png"), vec!["id \"first\" is that of line 1 already"]),
        (good[..good.len() - 1].to_owned(), vec!["EOF"]),
        ("[1]".into(), vec!["invalid"]),
        (with(r#""meta":{"gold":[{"image":2,"bbox":[0,0,1,1]}]}"#), vec!["gold region 1", "image 2 is none"]),
        (with(r#""meta":{"gold":[{"image":0,"bbox":[0,0,1,1]}]}"#), vec!["image 0 is none"]),
        (with(r#""meta":{"gold":[{"image":1,"bbox":[3,0,1,1]}]}"#), vec!["x1 < x2"]),
        (with(r#""meta":{"gold":[{"image":1,"bbox":[3,0,1]}]}"#), vec!["length 3"]),
        (with(r#""meta":{"zooms_needed":-1}"#), vec!["-1"]),
        (line("x", "b.png"), vec!["image \"b.png\" does not exist"]),
        (line("x", "a.png/b"), vec!["does not exist"]),
        (line("x", ""), vec!["does not exist"]),
        (line("x", "."), vec!["does not exist"]),
        (line("x", "/etc/passwd"), vec!["\"/etc/passwd\" is not inside the dataset", "absolute"]),
        (line("x", "sub/../a.png"), vec!["is not inside the dataset", "`..`"]),
    ];
    for (bad, parts) in cases {
        let dir = folder(&[&line("first", "a.png"), "", &bad, &line("last", "a.png")]);
        let text = open_error(&dir);
        assert_has(&text, &["samples.jsonl:3: "]);
        assert_has(&text, &parts);
        assert!(!text.contains("at line 1"), "{text}");
    }
}

#[test]
fn lines_that_are_not_text() {
    let dir = folder(&[]);
    fs::write(dir.path().join(SAMPLES), b"{\"id\": \"\xff\"}\n").unwrap();
    assert_has(&open_error(&dir), &["samples.jsonl:1: not UTF-8"]);
}

#[cfg(unix)]
#[test]
fn links_must_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    picture(1).save(outside.path().join("a.png")).unwrap();
    let dir = folder(&[&line("in", "inner.png"), &line("out", "outer/a.png")]);
    std::os::unix::fs::symlink("a.png", dir.path().join("inner.png")).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("outer")).unwrap();
    assert_has(&open_error(&dir), &["samples.jsonl:2:", "a link that leads out"]);
    std::os::unix::fs::symlink("loop.png", dir.path().join("loop.png")).unwrap();
    fs::write(dir.path().join(SAMPLES), line("x", "loop.png")).unwrap();
    assert_has(&open_error(&dir), &["does not exist"]);
    // The root itself may be a link.
    fs::write(dir.path().join(SAMPLES), line("x", "inner.png")).unwrap();
    let link = outside.path().join("set");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    assert!(Folder::open(link).unwrap().get(0).is_ok());
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |c: u32| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
    !bytes.iter().fold(u32::MAX, |c, &b| (0..8).fold(c ^ u32::from(b), |c, _| step(c)))
}

/// The start of a PNG that promises `side`² pixels.
fn huge_png(side: u32) -> Vec<u8> {
    let header = [b"IHDR".as_slice(), &side.to_be_bytes(), &side.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let idat = [b"IDAT".as_slice(), &[0x78, 0x9c]].concat();
    let chunk = |c: &[u8]| [&(c.len() as u32 - 4).to_be_bytes(), c, &crc(c).to_be_bytes()].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(&header), chunk(&idat)].concat()
}

#[test]
fn files_that_are_no_images() {
    let mut png = Vec::new();
    let image = RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
    PngEncoder::new(&mut png).write_image(&image, 64, 64, ExtendedColorType::Rgb8).unwrap();
    let cases: [(&[u8], &str); 7] = [
        (b"", "the file is empty"),
        (b"hello, I am a text", "not an image"),
        (b"II*\0\x08\0\0\0", "Tiff images are not supported"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "broken WebP image"),
        (&png[..png.len() / 2], "broken PNG image"),
        (b"\xff\xd8\xff\xe0", "broken JPEG image"),
        (&huge_png(60_000), "60000×60000 is more than"),
    ];
    for (content, problem) in cases {
        let dir = folder(&[&line("a", "a.png"), &line("b", "b.png"), &line("c", "b.png")]);
        fs::write(dir.path().join("b.png"), content).unwrap();
        let opened = Folder::open(dir.path()).unwrap();
        assert!(opened.get(0).is_ok());
        let error = opened.get(2).unwrap_err().to_string();
        assert_has(&error, &["samples.jsonl:2: image \"b.png\": ", problem]);
        let (bad, survey) = check(dir.path());
        assert_eq!((survey.rows, survey.images, bad.len()), (3, 1, 2), "{bad:#?}");
        assert_has(&bad[1], &["samples.jsonl:3: ", problem]);
    }
}

#[test]
fn the_survey_lists_everything() {
    let outside =
        r#"{"id":"g","images":["a.png"],"question":"q","answer":"a","meta":{"gold":[{"image":1,"bbox":[0,0,9,6]}]}}"#;
    let dir = folder(&[&line("x", "a.png"), "{}", &line("x", "a.png"), &line("y", "no.png"), outside, "oops"]);
    let (bad, survey) = check(dir.path());
    let text = bad.join("\n");
    assert_eq!((survey.rows, survey.images, bad.len()), (6, 1, 5), "{text}");
    let starts = ["samples.jsonl:2: missing", "samples.jsonl:3: id", "samples.jsonl:4: image", "samples.jsonl:6: exp"];
    assert_has(&text, &starts);
    assert_has(&text, &["samples.jsonl:5: gold region 1: [0.0, 0.0, 9.0, 6.0] leaves the image of 8×6"]);
}

/// An EXIF block that holds nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    [b"II*\0\x08\0\0\0\x01\0".as_slice(), &entry, &[0; 4]].concat()
}

#[test]
fn images_are_upright_and_without_alpha_and_told_by_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrong-ending.txt");
    let image = picture(200);
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif(6)).unwrap();
    encoder.write_image(&image, 8, 6, ExtendedColorType::Rgb8).unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(decode::decode(&path).unwrap(), image::imageops::rotate90(&image));
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
    encoder.set_exif_metadata(exif(8)).unwrap();
    encoder.write_image(&image, 8, 6, ExtendedColorType::Rgb8).unwrap();
    fs::write(&path, &bytes).unwrap();
    let found = decode::decode(&path).unwrap();
    let wanted = image::imageops::rotate270(&image);
    assert_eq!(found.dimensions(), (6, 8));
    assert!(found.iter().zip(wanted.iter()).all(|(a, b)| a.abs_diff(*b) < 12));
    let clear = RgbaImage::from_pixel(2, 2, Rgba([9, 8, 7, 0]));
    clear.save_with_format(&path, image::ImageFormat::Png).unwrap();
    assert_eq!(decode::decode(&path).unwrap().get_pixel(1, 1), &Rgb([9, 8, 7]));
}

#[test]
fn the_cache_keeps_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set");
    let samples: Vec<Sample> = (0..5).map(|n| sample(&n.to_string(), &[n])).collect();
    write_folder(&path, &samples).unwrap();
    let size = 8 * 6 * 3;
    let opened = Folder::open(&path).unwrap().with_cache(2 * size + 1);
    let first = opened.get(0).unwrap();
    opened.get(1).unwrap();
    assert!(Arc::ptr_eq(&first.images[0], &opened.get(0).unwrap().images[0]), "held");
    opened.get(2).unwrap();
    assert_eq!(opened.cached_bytes(), 2 * size);
    assert!(Arc::ptr_eq(&first.images[0], &opened.get(0).unwrap().images[0]), "used later than 1");
    (1..5).for_each(|n| drop(opened.get(n).unwrap()));
    assert!(Arc::ptr_eq(&first.images[0], &opened.get(0).unwrap().images[0]), "in use: not decoded again");
    let left = Arc::downgrade(&first.images[0]);
    drop(first);
    (1..5).for_each(|n| drop(opened.get(n).unwrap()));
    assert!(left.upgrade().is_none(), "forgotten");
    let none = Folder::open(&path).unwrap().with_cache(0);
    assert_eq!(none.get(3).unwrap().images[0].as_raw(), samples[3].images[0].as_raw());
    assert_eq!(none.cached_bytes(), 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|n| assert_eq!(opened.get(n % 5).unwrap().id, (n % 5).to_string())));
        }
    });
    assert!(opened.cached_bytes() <= 2 * size);
}

#[test]
fn samples_are_decoded_ahead_into_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set");
    // Sample n has image n and, but for the first, that of the sample before.
    let shades = |n: u8| if n == 0 { vec![0] } else { vec![n, n - 1] };
    let samples: Vec<Sample> = (0..6).map(|n| sample(&n.to_string(), &shades(n))).collect();
    write_folder(&path, &samples).unwrap();
    let size = 8 * 6 * 3;
    let opened = Folder::open(&path).unwrap().with_cache(3 * size);
    let ready = |n: usize| opened.prefetch(n).iter().map(|image| image.get_pixel(0, 0)[0]).collect::<Vec<u8>>();
    assert_eq!([ready(1), ready(2)], [vec![1, 0], vec![2, 1]]);
    let ahead: Vec<_> = opened.prefetch(1).iter().map(Arc::downgrade).collect();
    assert_eq!((ready(4), ready(9)), (vec![], vec![]), "no room, no sample");
    assert_eq!(opened.cached_bytes(), 3 * size);
    let got = opened.get(1).unwrap();
    assert!(got.images.iter().zip(&ahead).all(|(image, ahead)| ahead.ptr_eq(&Arc::downgrade(image))));
    assert_eq!(ready(5), [5, 4], "what was asked for makes room");
    assert_eq!(opened.cached_bytes(), 3 * size);
    let none = Folder::open(&path).unwrap().with_cache(0);
    assert!(none.prefetch(0).is_empty());
    // A file that is broken is told by `get`, each time, and never by `prefetch`.
    fs::write(opened.images().last().unwrap(), b"no image").unwrap();
    let broken = Folder::open(&path).unwrap();
    for _ in 0..2 {
        assert_eq!(broken.prefetch(5).len(), 1);
        assert_has(&broken.get(5).unwrap_err().to_string(), &["samples.jsonl:6", "image"]);
    }
}

fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(contents(&path)) } else { found.push((path.clone(), fs::read(&path).unwrap())) }
    }
    found.sort();
    found
}

#[test]
fn writing_keeps_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set");
    fs::create_dir(&path).unwrap();
    let one = [sample("a", &[1])];
    assert!(write_folder(&path, &one).unwrap().written, "an empty folder is as good as none");
    let before = contents(&path);
    assert!(!write_folder(&path, &one).unwrap().written);
    assert!(matches!(write_folder(&path, [sample("b", &[1])]), Err(DataError::Occupied { path: p }) if p == path));
    assert!(matches!(write_folder(&path, [sample("a", &[2])]), Err(DataError::Occupied { .. })));
    assert!(matches!(write_with(&path, &one, &[("x", "y".into())]), Err(DataError::Occupied { .. })));
    assert_eq!(contents(&path), before);
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    assert!(matches!(write_folder(&other, &one), Err(DataError::Occupied { .. })));
    assert!(matches!(write_folder(&other.join("notes.txt"), &one), Err(DataError::Occupied { .. })));
    assert!(matches!(
        write_folder(&other.join("notes.txt/x"), &one),
        Err(DataError::Io { .. } | DataError::Occupied { .. })
    ));
    assert!(matches!(write_folder(Path::new("/"), &one), Err(DataError::Occupied { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no draft is left behind");
}

#[test]
fn samples_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set");
    let change = |f: fn(&mut Sample)| {
        let mut changed = sample("x", &[1]);
        f(&mut changed);
        changed
    };
    let cases = [
        (change(|s| s.images.clear()), "no image"),
        (change(|s| s.answer.clear()), "`answer` is empty"),
        (change(|s| s.gold[0].image = 2), "image 2 is none"),
        (change(|s| drop(s.meta.insert("gold".into(), json!(1)))), "key `gold`"),
        (change(|s| s.images = vec![Arc::new(RgbImage::new(0, 0))]), "cannot be written"),
        (sample("first", &[1]), "the same id"),
    ];
    for (bad, problem) in cases {
        let error = write_folder(&path, [sample("first", &[1]), bad.clone()]).unwrap_err();
        assert!(matches!(&error, DataError::Unwritable { id, .. } if *id == bad.id));
        assert_has(&error.to_string(), &[problem]);
    }
    assert!(matches!(write_folder(&path, [] as [Sample; 0]), Err(DataError::Empty { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

fn small() -> SynthConfig {
    let world = WorldConfig { across: 0.1 + 0.2, ..WorldConfig::default() };
    SynthConfig { world, samples: 4, seed: 7, prefix: "t".into() }
}

#[test]
fn synthetic_datasets_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set");
    let made = ensure_synth(&small(), &path).unwrap();
    assert!(made.written && made.samples == 4);
    let before = contents(&path);
    let again = ensure_synth(&small(), &path).unwrap();
    assert_eq!(again, Summary { written: false, ..made });
    assert!(!synth(&small(), &path).unwrap().written);
    let other = SynthConfig { world: WorldConfig { digits: 3, ..small().world }, ..small() };
    let error = ensure_synth(&other, &path).unwrap_err();
    assert_has(&error.to_string(), &["`world.digits`", "(10, not 3)"]);
    assert!(matches!(synth(&other, &path), Err(DataError::Occupied { .. })));
    let longer = ensure_synth(&SynthConfig { samples: 5, ..small() }, &path).unwrap_err();
    assert!(matches!(longer, DataError::OtherDataset { key, .. } if key == "samples"));
    assert_eq!(contents(&path), before);

    let opened = Folder::open(&path).unwrap();
    let wanted = crate::generate(&small().world, 7, 3).sample;
    let got = opened.sample(3).unwrap();
    assert_eq!(got.id, "t-000003");
    assert_eq!(format!("{:?}", Sample { id: wanted.id.clone(), ..got }), format!("{wanted:?}"));
    assert_eq!(check(&path).0, Vec::<String>::new());

    fs::remove_file(path.join("images/000001.png")).unwrap();
    assert!(matches!(ensure_synth(&small(), &path), Err(DataError::MissingImage { .. })));
    fs::remove_file(path.join("dataset.json")).unwrap();
    assert!(matches!(ensure_synth(&small(), &path), Err(DataError::Occupied { .. })));
}

#[test]
fn synthetic_configs_are_validated_by_key() {
    let world = WorldConfig { digits: 0, ..WorldConfig::default() };
    let cases = [
        (SynthConfig { samples: 0, ..small() }, "`samples`"),
        (SynthConfig { prefix: "a/b".into(), ..small() }, "`prefix`"),
        (SynthConfig { world, ..small() }, "`world.digits`"),
    ];
    for (config, key) in cases {
        let dir = tempfile::tempdir().unwrap();
        assert_has(&synth(&config, &dir.path().join("x")).unwrap_err().to_string(), &[key]);
        assert_has(&ensure_synth(&config, &dir.path().join("x")).unwrap_err().to_string(), &[key]);
    }
    assert!(serde_json::from_str::<SynthConfig>(r#"{"sample": 1}"#).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_the_bytes_nothing_panics(lines in prop::collection::vec(any::<u8>(), 0..200), image in prop::collection::vec(any::<u8>(), 0..100)) {
        let dir = folder(&[&line("x", "b"), ""]);
        let mut all = fs::read(dir.path().join(SAMPLES)).unwrap();
        all.extend(lines);
        fs::write(dir.path().join(SAMPLES), all).unwrap();
        fs::write(dir.path().join("b"), image).unwrap();
        prop_assert!(!check(dir.path()).0.is_empty());
        if let Ok(opened) = Folder::open(dir.path()) {
            prop_assert!(opened.get(0).is_err());
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set");
    let timed = |name: &str, per: usize, act: &dyn Fn()| {
        let start = std::time::Instant::now();
        act();
        println!("{name}: {:?}, {:?} an image", start.elapsed(), start.elapsed() / per as u32);
    };
    let config = SynthConfig { samples: 300, ..SynthConfig::default() };
    timed("synth", 900, &|| drop(synth(&config, &path)));
    timed("ensure", 900, &|| drop(ensure_synth(&config, &path)));
    let opened = Folder::open(&path).unwrap();
    println!("{} images", opened.image_files());
    timed("read", opened.image_files(), &|| (0..300).for_each(|n| drop(opened.get(n))));
    timed("read again", opened.image_files(), &|| (0..300).for_each(|n| drop(opened.get(n))));
    let bytes: usize = contents(&path).iter().map(|(_, bytes)| bytes.len()).sum();
    println!("{} bytes an image", bytes / opened.image_files());
}
