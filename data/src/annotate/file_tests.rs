//! Datasets to trajectories on disk: from our world, from detection annotation, from published conversations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use imagent_core::{BoxFrame, Size};
use serde_json::{Value, json};

use super::*;
use crate::folder::{Folder, SynthConfig, synth};
use crate::formats::{Select, open};
use crate::world::{QuestionMix, WorldConfig};

fn quarter(size: Size) -> Option<Size> {
    Some(Size::new(size.width / 4, size.height / 4))
}

fn annotator<'a>(wording: &'a Wording, frame: BoxFrame) -> Annotator<'a> {
    Annotator { teller: Teller { wording, frame, shown: &quarter, seed: 1 }, suffix: " Answer.".into(), rewrite: None }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder of the grounding world.
fn world(path: &Path) {
    let questions =
        QuestionMix { read: 0.0, which: 1.0, same: 0.0, two: 0.0, find: 1.0, largest: 1.0, common: 1.0, differ: 1.0 };
    let config = SynthConfig {
        world: WorldConfig { questions, ..WorldConfig::default() },
        samples: 20,
        ..SynthConfig::default()
    };
    synth(&config, path).unwrap();
}

#[test]
fn our_folders_become_conversations_that_every_reader_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (from, out) = (dir.path().join("world"), dir.path().join("out"));
    world(&from);
    let wording = Wording::named("plain").unwrap();
    let annotator = annotator(&wording, BoxFrame::Shown);
    let write = || annotator.write(samples_of(&from, Select::default()).unwrap(), &out, &mut |_| ()).unwrap();
    let (summary, report) = write();
    let kept: usize = report.kept.values().sum();
    assert_eq!((report.read, summary.samples, summary.written), (20, kept, true));
    // What is asked for a number of an image has no box.
    let rejects = lines(&out.join("rejects.jsonl"));
    assert!(!rejects.is_empty() && rejects.iter().all(|reject| reject["reason"] == "no_box"));
    assert_eq!(report.rejected, BTreeMap::from([("no_box".to_owned(), rejects.len())]));
    assert_eq!(rejects.len() + kept, 20);
    // Again it is the same, to the byte.
    assert!(!write().0.written);
    let statistics: Value = serde_json::from_slice(&fs::read(out.join("annotate.json")).unwrap()).unwrap();
    assert_eq!((&statistics["frame"], &statistics["counts"]["read"]), (&json!("shown"), &json!(20)));
    let folder = Folder::open(&out).unwrap();
    for file in ["sharegpt.jsonl", "openai.jsonl"] {
        let read = open(&out.join(file), Select::default()).unwrap();
        assert_eq!(read.len(), kept, "{file}");
        for position in 0..kept {
            let (own, entry) = (folder.sample(position).unwrap(), read.entry(position).unwrap());
            assert_eq!(json!(entry.conversation), own.meta["conversation"], "{file}");
            assert_eq!(entry.pictures.len(), own.images.len());
        }
    }
    let sample = folder.sample(0).unwrap();
    let asked = sample.meta["conversation"][0]["content"].as_str().unwrap();
    assert!(asked.starts_with("<image><image>") && asked.ends_with(" Answer."), "{asked}");
    assert_eq!((&sample.meta["box_frame"], &sample.meta["shown"][0]), (&json!("shown"), &json!([112, 112])));
}

/// The number at the end of an id.
fn number(id: &str) -> usize {
    id.rsplit('-').next().unwrap().parse().unwrap()
}

#[test]
fn a_text_that_cannot_be_rewritten_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (from, out) = (dir.path().join("world"), dir.path().join("out"));
    world(&from);
    let wording = Wording::named("short").unwrap();
    let rewriter = Rewriter { write: &|_, _| Err("nobody is there".to_owned()), at_once: 2 };
    let annotator = Annotator { rewrite: Some(rewriter), ..annotator(&wording, BoxFrame::Relative1000) };
    let error = annotator.write(samples_of(&from, Select::default()).unwrap(), &out, &mut |_| ()).unwrap_err();
    assert!(error.to_string().ends_with("cannot be rewritten: nobody is there"), "{error}");
    assert!(!out.exists());
}

#[test]
fn rewritten_texts_are_taken_only_with_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (from, out) = (dir.path().join("world"), dir.path().join("out"));
    world(&from);
    let wording = Wording::named("short").unwrap();
    // Every second text loses its answer, every third is none.
    let rewrite = |sample: &imagent_core::Sample, text: &str| {
        let other = text.replace("<think>", "<think>Well, ");
        Ok(match number(&sample.id) % 3 {
            0 => Some(other),
            1 => Some(other.replace("\"image\": ", "\"image\": 1")),
            _ => None,
        })
    };
    let rewriter = Rewriter { write: &rewrite, at_once: 4 };
    let annotator = Annotator { rewrite: Some(rewriter), ..annotator(&wording, BoxFrame::Relative1000) };
    let (_, report) = annotator.write(samples_of(&from, Select::default()).unwrap(), &out, &mut |_| ()).unwrap();
    let kept: usize = report.kept.values().sum();
    let taken = lines(&out.join("openai.jsonl"))
        .iter()
        .filter(|row| number(row["id"].as_str().unwrap()).is_multiple_of(3))
        .count();
    assert!(taken > 0 && taken < kept);
    assert_eq!(report.rewritten, [taken, kept - taken]);
    let well = lines(&out.join("openai.jsonl")).iter().filter(|row| row.to_string().contains("Well, ")).count();
    assert_eq!(well, report.rewritten[0]);
}

/// A small file in COCO's layout: four photographs of noise with dogs, cats and a crowd.
fn coco(dir: &Path) -> std::path::PathBuf {
    let photos = dir.join("photos");
    fs::create_dir_all(&photos).unwrap();
    for (name, side) in [("a.png", 100), ("b.png", 100), ("c.png", 120), ("d.png", 100)] {
        image::RgbImage::from_fn(side, side, |x, y| image::Rgb([x as u8, y as u8, name.as_bytes()[0]]))
            .save(photos.join(name))
            .unwrap();
    }
    let image = |id: u64, name: &str, side: u32| json!({"id": id, "file_name": name, "width": side, "height": side, "license": 1});
    let annotation = |image: u64, category: u64, bbox: [f64; 4], crowd: u8| {
        json!({"id": image * 10 + category, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": crowd,
               "area": bbox[2] * bbox[3], "segmentation": [[0.0, 0.0, 1.0, 1.0]]})
    };
    let file = dir.join("instances.json");
    let whole = json!({
        "info": {"year": 2017},
        "images": [image(4, "a.png", 100), image(7, "b.png", 100), image(9, "c.png", 120), image(11, "d.png", 100)],
        "annotations": [
            annotation(4, 1, [10.0, 10.0, 30.0, 30.0], 0),
            annotation(4, 2, [50.0, 50.0, 40.0, 20.5], 0),
            annotation(7, 2, [5.0, 5.0, 60.0, 60.0], 0),
            annotation(9, 1, [0.0, 0.0, 110.0, 110.0], 0),
            annotation(9, 3, [10.0, 10.0, 90.0, 90.0], 1),
            annotation(11, 3, [10.0, 10.0, 3.0, 3.0], 0),
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "person"}],
    });
    fs::write(&file, whole.to_string()).unwrap();
    file
}

#[test]
fn detection_annotation_becomes_questions_with_one_answer() {
    let dir = tempfile::tempdir().unwrap();
    let file = coco(dir.path());
    let coco = Coco::open(&file, Some(&dir.path().join("photos"))).unwrap();
    let settings = CocoQuestions { samples: 60, images: [2, 3], ..CocoQuestions::default() };
    let wording = Wording::named("plain").unwrap();
    let annotator = annotator(&wording, BoxFrame::Relative1000);
    let out = dir.path().join("out");
    let (summary, report) = annotator.write(coco.questions(&settings).unwrap(), &out, &mut |_| ()).unwrap();
    assert_eq!((summary.samples, report.kept.len()), (60, 3), "{report:?}");
    assert_eq!(summary.images, 4);
    let folder = Folder::open(&out).unwrap();
    for position in 0..60 {
        let sample = folder.sample(position).unwrap();
        let things: Vec<Thing> = serde_json::from_value(sample.meta[OBJECTS].clone()).unwrap();
        let own = things
            .iter()
            .find(|thing| thing.bbox == sample.gold[0].bbox && thing.image == sample.gold[0].image)
            .unwrap();
        assert_ne!(own.name, "person", "a crowd, or too small");
        match sample.kind.as_str() {
            "find" => assert_eq!(sample.question, format!("Find the {}.", own.name)),
            "common" => assert!(sample.question.ends_with("shows too.")),
            _ => assert!(sample.question.ends_with("does not show.")),
        }
    }
    let text = |seed: u64| {
        let settings = CocoQuestions { seed, ..settings.clone() };
        let all: Vec<String> = coco.questions(&settings).unwrap().map(|drawn| drawn.unwrap().0.question).collect();
        all.join("\n")
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}

#[test]
fn what_is_wrong_with_detection_annotation_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = coco(dir.path());
    let photos = dir.path().join("photos");
    let whole = fs::read_to_string(&file).unwrap();
    let opened = |text: String| {
        fs::write(&file, text).unwrap();
        Coco::open(&file, Some(&photos)).map_err(|error| error.to_string())
    };
    assert!(opened(whole.replace("\"id\":7", "\"id\":4")).unwrap_err().contains("two images have the id 4"));
    assert!(opened(whole.replace("\"image_id\":9", "\"image_id\":8")).unwrap_err().contains("no image has the id 8"));
    assert!(
        opened(whole.replace("\"name\":\"cat\"", "\"name\":\" \"")).unwrap_err().contains("no category has the id 2")
    );
    assert!(opened(whole.replace("\"annotations\"", "\"anotations\"")).unwrap_err().contains("annotations"));
    let reasons = |text: String, settings: &CocoQuestions| {
        let coco = opened(text).unwrap();
        let drawn: Vec<_> =
            coco.questions(settings).unwrap().filter_map(Result::err).map(|(_, reject)| reject).collect();
        drawn
    };
    let settings = CocoQuestions { samples: 30, images: [4, 4], kinds: [1.0, 0.0, 0.0], ..CocoQuestions::default() };
    // Four images: two dogs, two cats, and two people of whom one is a crowd.
    assert_eq!(reasons(whole.clone(), &settings), vec![Reject::NoQuestion; 30]);
    let two = CocoQuestions { images: [2, 2], ..settings };
    let gone = reasons(whole.replace("b.png", "gone.png"), &two);
    assert!(gone.iter().any(|reject| reject.to_string().contains("\"gone.png\" does not exist")), "{gone:?}");
    let other = reasons(whole.replace("\"width\":120", "\"width\":121"), &two);
    assert!(
        other.iter().any(|reject| reject.to_string().contains("120×120 pixels, annotated for 121×120")),
        "{other:?}"
    );
    let outside = reasons(whole.replace("b.png", "../photos/b.png"), &two);
    assert!(outside.iter().any(|reject| reject.to_string().contains("..")), "{outside:?}");
    let coco = opened(whole).unwrap();
    for (settings, key) in [
        (CocoQuestions { images: [1, 2], ..CocoQuestions::default() }, "images"),
        (CocoQuestions { images: [5, 6], ..CocoQuestions::default() }, "images"),
        (CocoQuestions { kinds: [0.0; 3], ..CocoQuestions::default() }, "kinds"),
        (CocoQuestions { min_area: 1.0, ..CocoQuestions::default() }, "min_area"),
    ] {
        let refused = coco.questions(&settings).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|text| text.contains(key)), "{key}");
    }
}

#[test]
fn published_conversations_with_boxes_become_trajectories() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png"] {
        image::RgbImage::new(200, 100).save(dir.path().join(name)).unwrap();
    }
    let row = |answer: &str, kind: &str| {
        json!({"id": "1", "images": ["a.png", "b.png"], "type": kind, "conversations": [
            {"from": "human", "value": "<image>\n<image>\nLocate <|object_ref_start|>the dog<|object_ref_end|>."},
            {"from": "gpt", "value": answer},
        ]})
    };
    let rows = json!([
        row("It's in the second image. <|box_start|>(100,200),(500,800)<|box_end|>", "gg_train"),
        row("<|box_start|>(100,200),(500,800)<|box_end|>", "refer"),
        row("There is no dog.", "free"),
    ]);
    fs::write(dir.path().join("train.json"), rows.to_string()).unwrap();
    let wording = Wording::named("plain").unwrap();
    let annotator = annotator(&wording, BoxFrame::Relative1000);
    let out = dir.path().join("out");
    let drawn =
        samples_of(&dir.path().join("train.json"), Select { format: Some("mgrounding"), ..Select::default() }).unwrap();
    let (_, report) = annotator.write(drawn, &out, &mut |_| ()).unwrap();
    assert_eq!(report.kept, BTreeMap::from([("gg_train".to_owned(), 1)]));
    assert_eq!(report.rejected, BTreeMap::from([("no_box".to_owned(), 1), ("no_image".to_owned(), 1)]));
    let sample = Folder::open(&out).unwrap().sample(0).unwrap();
    let text = sample.meta["conversation"][1]["content"].as_str().unwrap();
    assert!(
        text.contains("dog") && text.ends_with(r#"<answer>{"image": 2, "bbox_2d": [100, 200, 500, 800]}</answer>"#),
        "{text}"
    );
}
