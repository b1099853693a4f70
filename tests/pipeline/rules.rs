//! Pipelines of rules: whole, the same again, gone on with, and refused.

use std::fs;
use std::path::Path;

use imagent::core::SampleSource;
use imagent_data::Folder;

use super::{Done, RULES, lines, run};

const FILES: [&str; 5] =
    ["1-groups.jsonl", "2-questions.jsonl", "3-answers.jsonl", "4-verdicts.jsonl", "5-difficulty.jsonl"];

fn made(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.toml"), config).unwrap();
    dir
}

fn pipeline(dir: &Path, more: &[&str]) -> Done {
    run(dir, &[&["data", "pipeline", "p.toml"], more].concat())
}

fn contents(out: &Path) -> Vec<Vec<u8>> {
    FILES
        .iter()
        .chain(["summary.json", "dataset/samples.jsonl"].iter())
        .map(|file| fs::read(out.join(file)).unwrap())
        .collect()
}

#[test]
fn rules_make_questions_that_need_a_zoom() {
    let dir = made(RULES);
    let done = pipeline(dir.path(), &[]);
    done.works();
    let out = dir.path().join("out");
    let count = |file: &str| lines(&out.join(file)).len();
    assert_eq!((count(FILES[0]), count(FILES[1])), (40, 80));
    let hard = lines(&out.join(FILES[4]));
    let (kept, easy): (Vec<_>, Vec<_>) = hard.iter().partition(|line| line["kept"].is_object());
    assert!(kept.len() > 20 && easy.len() > 5, "{} {}", kept.len(), easy.len());
    assert!(easy.iter().all(|line| line["rejected"].as_str().unwrap().starts_with("easy")));
    let folder = Folder::open(out.join("dataset")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["dataset"], folder.len());
    for position in 0..folder.len() {
        let sample = folder.get(position).unwrap();
        assert_ne!(sample.kind, "which", "what can be seen without a zoom is left out");
        assert!(!sample.gold.is_empty() && sample.meta["reviewed"] == false, "{}", sample.id);
    }
    assert!(done.out.contains("difficulty  easy") || done.out.contains("easy"), "{}", done.out);
    run(dir.path(), &["data", "check", "out/dataset"]).works();
    // The same again changes nothing, and elsewhere it comes out the same.
    let before = contents(&out);
    pipeline(dir.path(), &[]).works();
    assert_eq!(contents(&out), before);
    pipeline(dir.path(), &["--out", "other"]).works();
    assert_eq!(contents(&dir.path().join("other")), before);
}

#[test]
fn a_pipeline_goes_on_where_it_ended() {
    let dir = made(RULES);
    let out = dir.path().join("out");
    pipeline(dir.path(), &[]).works();
    let whole = contents(&out);
    for (at, file) in FILES.iter().enumerate() {
        let bytes = fs::read(out.join(file)).unwrap();
        // Cut off within a line, and nothing after it.
        fs::write(out.join(file), &bytes[..bytes.len() * 2 / 3]).unwrap();
        FILES[at + 1..].iter().for_each(|later| fs::remove_file(out.join(later)).unwrap());
        pipeline(dir.path(), &[]).works();
        assert_eq!(contents(&out), whole, "{file}");
    }
    // More groups come after those that are there.
    pipeline(dir.path(), &["--set", "groups=45"]).works();
    let more = fs::read(out.join(FILES[0])).unwrap();
    assert!(more.starts_with(&whole[0]) && lines(&out.join(FILES[0])).len() == 45);
}

#[test]
fn images_of_a_folder_are_known_by_their_objects() {
    let dir = made("out = \"out\"\ngroups = 12\nsize = [2, 2]\n\n[images]\npath = \"photos\"\n");
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).unwrap();
    let object = |name: &str, text: &str| serde_json::json!({"name": name, "bbox": [10, 10, 60, 60], "detail": {"kind": "word", "text": text, "bbox": [20, 20, 60, 34]}});
    let mut told = String::new();
    for (i, word) in ["open", "closed", "open"].into_iter().enumerate() {
        let name = format!("{i}.png");
        image::RgbImage::from_pixel(400, 300, image::Rgb([90 + i as u8, 20, 30])).save(photos.join(&name)).unwrap();
        let objects = [object("door", word), object(&format!("sign {i}"), "exit")];
        told += &format!("{}\n", serde_json::json!({"image": name, "objects": objects}));
    }
    fs::write(photos.join("objects.jsonl"), &told).unwrap();
    fs::write(photos.join("notes.txt"), "no image").unwrap();
    pipeline(dir.path(), &[]).works();
    let questions = lines(&dir.path().join("out/2-questions.jsonl"));
    assert!(questions.iter().all(|line| line["kept"]["images"].as_array().unwrap().len() == 2));
    assert!(questions.iter().any(|line| line["kept"]["question"].as_str().unwrap().contains("word is on the")));
    for (broken, said) in [
        (told.replace("0.png", "9.png"), "objects.jsonl: line 1: there is no image file \"9.png\""),
        (told.replace("1.png", "0.png"), "objects.jsonl: line 2: \"0.png\" has a line already"),
        (format!("{told}{{"), "objects.jsonl: line 4: EOF"),
    ] {
        fs::write(photos.join("objects.jsonl"), broken).unwrap();
        pipeline(dir.path(), &["--out", "again"]).fails(2, &[said]);
    }
    fs::remove_dir_all(&photos).unwrap();
    pipeline(dir.path(), &["--out", "again"]).fails(2, &["photos"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = made(RULES);
    pipeline(dir.path(), &["--set", "size=[3,2]"]).fails(2, &["size"]);
    pipeline(dir.path(), &["--set", "writer.endpoint=big"]).fails(2, &["writer.endpoint", "[endpoints.big]"]);
    pipeline(dir.path(), &["--set", "prices.big.prompt=1"]).fails(2, &["prices.big"]);
    pipeline(dir.path(), &["--set", "groups=0"]).fails(2, &["groups"]);
    pipeline(dir.path(), &["--set", "grouper.colour=1"]).fails(2, &["colour"]);
    pipeline(dir.path(), &["--set", "images.count=1"]).fails(2, &["fewer than a group"]);
    fs::create_dir(dir.path().join("full")).unwrap();
    fs::write(dir.path().join("full/mine.txt"), "mine").unwrap();
    pipeline(dir.path(), &["--out", "full"]).fails(2, &["full", "other files"]);
    pipeline(dir.path(), &[]).works();
    pipeline(dir.path(), &["--set", "seed=2"]).fails(2, &["config.toml", "another `seed`"]);
    let file = dir.path().join("out/3-answers.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("g000000", "g999999", 1)).unwrap();
    pipeline(dir.path(), &[]).fails(2, &["3-answers.jsonl: line 1", "remove the file"]);
    fs::write(&file, format!("broken\n{text}")).unwrap();
    pipeline(dir.path(), &[]).fails(2, &["3-answers.jsonl: line 1"]);
}
