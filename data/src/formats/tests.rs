//! Tests of formats: small datasets in the published layouts, made here or, for parquet, by pyarrow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{Rgb, RgbImage};
use imagent_core::{BoxFrame, SampleSource};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::folder::Folder;
use crate::tables::{Cell, CellPath, Spot};

mod conversations;
mod odd;

/// The bytes of a picture whose every pixel is `(shade, 0, 0)`.
fn png(shade: u8, (width, height): (u32, u32)) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(width, height, Rgb([shade, 0, 0]));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn base64(shade: u8) -> String {
    STANDARD.encode(png(shade, (20, 10)))
}

/// A folder with these files.
fn place(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn with_images(names: &[&str], files: &[(&str, String)]) -> TempDir {
    let images: Vec<Vec<u8>> = (0..names.len()).map(|n| png(n as u8 + 1, (20, 10))).collect();
    let images = names.iter().zip(&images).map(|(name, bytes)| (*name, bytes.as_slice()));
    let files: Vec<(&str, &[u8])> = images.chain(files.iter().map(|(name, text)| (*name, text.as_bytes()))).collect();
    place(&files)
}

/// The shade of each image of a sample.
fn shades(sample: &imagent_core::Sample) -> Vec<u8> {
    sample.images.iter().map(|image| image.get_pixel(0, 0).0[0]).collect()
}

fn of(format: Option<&str>) -> Select<'_> {
    Select { format, ..Select::default() }
}

fn open(path: &Path, format: Option<&str>) -> Result<Box<dyn Reader>, DataError> {
    super::open(path, of(format))
}

fn problems(path: &Path, format: Option<&str>) -> Vec<String> {
    let mut found = Vec::new();
    let survey = survey(path, of(format), &mut |finding| {
        if let Finding::Problem(error) = finding {
            found.push(error.to_string());
        }
    });
    assert_eq!(survey.unwrap().problems, found.len());
    found
}

fn assert_has(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in {text:?}"));
}

fn parquet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name)
}

#[test]
fn vstar_has_its_annotations_beside_the_images() {
    let annotation = |bbox: Value| json!({"target_object": ["cup"], "bbox": bbox, "question": "What colour?", "options": ["red", "blue", "grey", "pink"]});
    let unscored = json!({"target_object": [], "bbox": [], "question": "?", "options": ["a"]});
    let dir = with_images(
        &["direct_attributes/sa_1.jpg", "relative_position/sa_2.jpg", "OCR/sa_3.jpg"],
        &[
            ("direct_attributes/sa_1.json", annotation(json!([[2, 3, 5, 4]])).to_string()),
            ("relative_position/sa_2.json", annotation(json!([[1, 1, 2, 2], [0, 0, 3.5, 1]])).to_string()),
            ("OCR/sa_3.json", unscored.to_string()),
            ("README.md", "V*".into()),
        ],
    );
    let dataset = open(dir.path(), None).unwrap();
    assert_eq!((dataset.format(), dataset.len()), ("vstar", 2));
    let (entry, sample) = (dataset.entry(0).unwrap(), dataset.sample(0).unwrap());
    assert_eq!((entry.id.as_str(), entry.kind.as_str()), ("direct_attributes/sa_1", "direct_attributes"));
    assert_eq!((entry.answer, entry.options[0].as_str()), (Answer::Choice('A'), "red"));
    assert_eq!(sample.question, "What colour?\nA. red\nB. blue\nC. grey\nD. pink");
    assert_eq!((sample.answer.as_str(), sample.gold[0].bbox.to_array()), ("A", [2.0, 3.0, 7.0, 7.0]));
    assert_eq!(sample.meta["answer_kind"], "choice");
    assert_eq!(dataset.sample(1).unwrap().gold.len(), 2);
    fs::remove_file(dir.path().join("direct_attributes/sa_1.jpg")).unwrap();
    assert_has(&problems(dir.path(), None)[0], &["direct_attributes/sa_1.json:1", "sa_1.jpg\" does not exist"]);
}

#[test]
fn vstar_questions_have_their_options_in_the_text() {
    let line = |label: &str| {
        json!({"image": "direct_attributes/a.jpg", "text": "Which? (A) red (B) blue\nAnswer with the option's letter from the given choices directly.",
            "category": "direct_attributes", "label": label, "question_id": 7})
    };
    let lines = format!("{}\n\n{}\n", line("B"), line("C"));
    let dir = with_images(&["direct_attributes/a.jpg"], &[("test_questions.jsonl", lines)]);
    let found = problems(dir.path(), None);
    assert_eq!(found.len(), 1);
    assert_has(&found[0], &["test_questions.jsonl:3: the answer C is none of the 2 options"]);
    fs::write(dir.path().join("test_questions.jsonl"), line("B").to_string()).unwrap();
    let entry = open(dir.path(), None).unwrap().entry(0).unwrap();
    assert_eq!(
        (entry.question.as_str(), entry.options, entry.answer),
        ("Which?", vec!["red".into(), "blue".into()], Answer::Choice('B'))
    );
}

const HR_HEAD: &str = "index\tquestion\tanswer\tcategory\tA\tB\tC\tD\tcycle_category\timage\n";

#[test]
fn hrbench_cells_may_have_megabytes_and_line_breaks() {
    let side = 1100;
    let noise =
        |x: u32, y: u32| Rgb([0, 1, 2].map(|c| (x.wrapping_mul(2654435761) ^ (y + c).wrapping_mul(40503) >> 3) as u8));
    let mut large = std::io::Cursor::new(Vec::new());
    RgbImage::from_fn(side, side, noise).write_to(&mut large, image::ImageFormat::Bmp).unwrap();
    let large = STANDARD.encode(large.into_inner());
    assert!(large.len() > 4 << 20);
    let row = |index: usize, question: &str, image: &str| {
        format!("{index}\t{question}\tB\tsingle\tred\t\"a \"\"b\"\"\"\tgrey\tpink\t{index}\t{image}\n")
    };
    let text = [HR_HEAD, &row(0, "\"one\ntwo\tthree\"", &large), &row(1, "short", &base64(9))].concat();
    let dir = place(&[("hr_bench_4k.tsv", text.as_bytes())]);
    let dataset = open(dir.path(), None).unwrap();
    assert_eq!((dataset.format(), dataset.len()), ("hrbench", 2));
    let sample = dataset.sample(0).unwrap();
    assert_eq!((sample.images[0].dimensions(), *sample.images[0].get_pixel(5, 7)), ((side, side), noise(5, 7)));
    assert_eq!(sample.question, "one\ntwo\tthree\nA. red\nB. a \"b\"\nC. grey\nD. pink");
    assert_eq!((sample.kind.as_str(), &sample.meta["cycle_category"]), ("single", &json!("0")));
    assert_eq!((shades(&dataset.sample(1).unwrap()), dataset.entry(1).unwrap().question.as_str()), (vec![9], "short"));
}

#[test]
fn bad_rows_of_a_tsv_are_all_told_with_their_lines() {
    let good = format!("0\t\"two\nlines\"\tA\tsingle\ta\tb\tc\td\t0\t{}\n", base64(1));
    let rows = [
        good.clone(),
        "1\tcut\tA\n".into(),
        good.replace("\tA\tsingle", "\tE\tsingle"),
        good.replace(&base64(1), "@@@@"),
        good.replace(&base64(1), "aGVsbG8="),
        good.replace(&base64(1), ""),
    ];
    let dir = place(&[("hr_bench_8k.tsv", [HR_HEAD, &rows.concat()].concat().as_bytes())]);
    let found = problems(dir.path(), Some("hrbench"));
    let wanted: [&[&str]; 5] = [
        &["hr_bench_8k.tsv:4: 3 cells in a table of 10 columns"],
        &["hr_bench_8k.tsv:5: the answer E is none of the 4 options"],
        &["hr_bench_8k.tsv:7: image \"image\": \"@@@@\" is neither", "base64"],
        &["hr_bench_8k.tsv:9: image \"image\": \"aGVsbG8=\" is neither"],
        &["hr_bench_8k.tsv:11", "`image` has an image without content"],
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    found.iter().zip(wanted).for_each(|(text, parts)| assert_has(text, parts));
    assert_eq!(open(dir.path(), None).unwrap_err().to_string(), found[0]);
    let open_quote = place(&[("x.tsv", [HR_HEAD, &good, "2\t\"never closed\t"].concat().as_bytes())]);
    assert_eq!(problems(open_quote.path(), Some("hrbench")).len(), 1);
}

#[test]
fn mme_realworld_in_its_three_layouts() {
    let choices = json!(["(A) one", "(B) two", "(C) three", "(D) four", "(E) The image does not feature it."]);
    let files = json!([{"Question_id": "Perception/OCR/0", "Question Type": "Multiple Choice", "Image": "sub/a.jpg", "Text": "How many?",
        "Answer choices": choices, "Ground truth": "E", "Task": "Perception", "Subtask": "Monitoring", "Category": "count", "Dataset": "x"}]);
    let dir = with_images(&["sub/a.jpg"], &[("MME_RealWorld.json", files.to_string())]);
    let dataset = open(dir.path(), None).unwrap();
    let entry = dataset.entry(0).unwrap();
    assert_eq!(
        (dataset.format(), entry.kind.as_str(), &entry.answer),
        ("mme_realworld", "Monitoring", &Answer::Choice('E'))
    );
    assert_eq!((entry.options[1].as_str(), &entry.meta["Question_id"]), ("two", &json!("Perception/OCR/0")));
    let cells = |image: &str| {
        json!([{"index": 3, image: base64(5), "question": "How many?", "multi-choice options": choices, "answer": "B",
            "category": "Perception/Monitoring", "l2-category": "count"}])
    };
    for column in ["image", "bytes"] {
        let dir = place(&[("monitoring/part.json", cells(column).to_string().as_bytes())]);
        let sample = open(dir.path(), None).unwrap().sample(0).unwrap();
        assert_eq!(
            (shades(&sample), sample.answer.as_str(), sample.kind.as_str()),
            (vec![5], "B", "Perception/Monitoring")
        );
    }
}

#[test]
fn mig_bench_boxes_are_fractions_of_the_image_that_is_named() {
    let row = |task: &str, question: &str, info: &str, answer: Value| {
        json!({"task": task, "images": ["./MIG-Bench/images/a.jpg", "./MIG-Bench/images/b.jpg"], "question": question,
            "answer": answer, "additional_info": info, "need_format": true})
    };
    let rows = json!([
        row("common_object", "Recognize and locate this object in the 2th image. ", "", json!([0.1, 0.2, 0.5, 0.7])),
        row(
            "group_grounding",
            "Locate the sign.",
            "It is in the first image. <|box_start|>(1,2),(3,4)<|box_end|>. ",
            json!([0, 0, 1.048, 1])
        ),
        row("region", "Please locate the 1th region picture in the source image. ", "", json!([0.5, 0.5, 0.6, 0.6])),
        row("diff", "Give me the coordinates of their difference. ", "", json!([0.5, 0.5, 0.2, 0.6])),
    ]);
    let dir = with_images(&[], &[("MIG-Bench/MIG_data.json", format!("{rows:#}"))]);
    let root = dir.path().join("MIG-Bench");
    fs::create_dir(root.join("images")).unwrap();
    fs::write(root.join("images/a.jpg"), png(1, (20, 10))).unwrap();
    fs::write(root.join("images/b.jpg"), png(2, (200, 100))).unwrap();
    for path in [&root, dir.path()] {
        let dataset = open(path, None).unwrap();
        assert_eq!((dataset.format(), dataset.len()), ("mig_bench", 4));
        let named: Vec<Option<usize>> =
            (0..4).map(|n| dataset.entry(n).unwrap().regions().next().unwrap().image).collect();
        assert_eq!(named, [Some(2), Some(1), Some(1), None]);
        let sample = dataset.sample(0).unwrap();
        assert_eq!((sample.gold[0].image, sample.gold[0].bbox.to_array()), (2, [20.0, 20.0, 100.0, 70.0]));
        let answer: Value = serde_json::from_str(&sample.answer).unwrap();
        assert_eq!(answer, json!({"image": 2, "bbox_2d": [20.0, 20.0, 100.0, 70.0]}));
        assert_eq!(dataset.sample(1).unwrap().gold[0].bbox.to_array(), [0.0, 0.0, 20.0, 10.0], "cut to the image");
        assert!(dataset.sample(3).unwrap().gold.is_empty(), "no box where the published one is none");
        let entry = dataset.entry(3).unwrap();
        assert_eq!(
            entry.answer,
            Answer::Box(Region { image: None, corners: [0.5, 0.5, 0.2, 0.6], frame: BoxFrame::Unit })
        );
    }
    assert_eq!(problems(&root, None), Vec::<String>::new(), "published oddities are warnings");
    let mut warnings = Vec::new();
    survey(&root, of(None), &mut |finding| {
        if let Finding::Warning(error) = finding {
            warnings.push(error.to_string());
        }
    })
    .unwrap();
    assert_eq!(warnings.len(), 2);
    assert_has(&warnings[0], &["MIG_data.json:18", "leaves the image"]);
    assert_has(&warnings[1], &["x1 < x2"]);
}

#[test]
fn mgrounding_answers_are_boxes_where_there_is_one() {
    let names = ["MGrounding-630k/Group_Grounding/SA-1B/a.jpg", "MGrounding-630k/Group_Grounding/SA-1B/b.jpg"];
    let row = |value: &str| {
        json!({"id": "7", "images": names.map(|name| format!("./{name}")), "type": "gg_train", "conversations": [
            {"from": "human", "value": "<image>\n<image>\nFind the cup."}, {"from": "gpt", "value": value}]})
    };
    let rows = json!([
        row("It's in the second image. <|box_start|>(500,200),(1000,999)<|box_end|>"),
        row("Two: <|box_start|>(1,2),(3,4)<|box_end|> <|box_start|>(1,2),(3,4)<|box_end|>"),
    ]);
    let file = "MGrounding-630k/Group_Grounding/gg_train_120k.json";
    let dir = with_images(&names, &[(file, rows.to_string())]);
    // Images are named from above the dataset's folder, whichever is taken for it.
    let id = |path: &str| open(&dir.path().join(path), None).unwrap().sample(0).unwrap().id;
    assert_eq!(id("MGrounding-630k"), "Group_Grounding/gg_train_120k-000000");
    assert_eq!([id("MGrounding-630k/Group_Grounding"), id(file)], ["gg_train_120k-000000"; 2]);
    let dataset = open(dir.path(), None).unwrap();
    assert_eq!((dataset.format(), dataset.len()), ("mgrounding", 2));
    let sample = dataset.sample(0).unwrap();
    assert_eq!(
        (sample.question.as_str(), sample.kind.as_str(), shades(&sample)),
        ("Find the cup.", "gg_train", vec![1, 2])
    );
    assert_eq!((sample.gold[0].image, sample.gold[0].bbox.to_array()), (2, [10.0, 2.0, 20.0, 9.99]));
    assert!(matches!(dataset.entry(1).unwrap().answer, Answer::Text(_)));
}

#[test]
fn bad_rows_of_json_are_all_told_with_their_lines() {
    let row = |image: &str| {
        json!({"images": [image], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}).to_string()
    };
    let good = row("a.jpg");
    let rows = [
        (good.clone(), None),
        (row("b.jpg"), Some("image \"b.jpg\" does not exist")),
        (row("../a.jpg"), Some("not inside the dataset: its path has `..`")),
        (row("/etc/passwd.jpg"), Some("not inside the dataset: its path is absolute")),
        (row("link.jpg"), Some("it is a link that leads out")),
        (row("https://example.org/a.jpg"), Some("is an address")),
        (row("broken.jpg"), Some("image \"broken.jpg\": not an image")),
        ("[1, \"{\\\"]\"]".into(), Some("not a JSON object")),
        ("{\"messages\": nothing}".into(), Some("expected")),
        (good.replace("\"q\"", "\"<image><image>\""), Some("2 `<image>` for 1 images")),
        (good.replace("assistant", "user"), Some("nobody answers")),
        (good.replace("\"assistant\"", "\"robot\""), Some("messages[1] has no role that is known")),
        (good.replace("\"a\"", "\" \""), Some("the answer is empty")),
        (good.replace("[\"a.jpg\"]", "[]"), Some("it has no image")),
        (good, None),
    ];
    let dir = with_images(&["a.jpg"], &[("broken.jpg", "no image".into())]);
    let outside = place(&[("secret.jpg", &png(1, (2, 2)))]);
    #[cfg(unix)]
    std::os::unix::fs::symlink(outside.path().join("secret.jpg"), dir.path().join("link.jpg")).unwrap();
    let texts: Vec<&str> = rows.iter().map(|(row, _)| row.as_str()).collect();
    let list = format!("[\n{}\n]\n", texts.join(",\n"));
    for (name, text, first) in [("t.json", list, 2), ("t.jsonl", texts.join("\n"), 1)] {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        let found = problems(&file, None);
        let wanted: Vec<(usize, &str)> =
            rows.iter().enumerate().filter_map(|(n, (_, part))| Some((n, (*part)?))).collect();
        assert_eq!(found.len(), wanted.len(), "{found:#?}");
        for (text, (nth, part)) in found.iter().zip(wanted) {
            assert_has(text, &[&format!("{name}:{}", nth + first), part]);
        }
    }
}

#[test]
fn rows_of_one_line_are_told_by_number() {
    let row = |image: &str| json!({"images": [image], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    let rows: Vec<Value> = ["b.jpg", "a.jpg", "b.jpg", "a.jpg"].map(row).into();
    let dir = with_images(&["a.jpg"], &[("t.json", json!(rows).to_string())]);
    let found = problems(dir.path(), None);
    assert_eq!(found.len(), 2);
    assert_has(&found[0], &["t.json:1: image \"b.jpg\""]);
    assert_has(&found[1], &["t.json:row 3: image \"b.jpg\""]);
    // Lines count where a row begins one, and a file that breaks off says within which row.
    let text = format!("[{}, {},\n{}, {}", rows[1], rows[0], rows[0], &rows[2].to_string()[..20]);
    fs::write(dir.path().join("t.json"), text).unwrap();
    let found = problems(dir.path(), None);
    assert_eq!(found.len(), 3);
    for (text, part) in
        found.iter().zip(["t.json:row 2: image", "t.json:2: image", "t.json:row 4: the file ends within a row"])
    {
        assert_has(text, &[part]);
    }
}

#[test]
fn json_files_that_end_early_or_late() {
    let row = json!({"images": ["a.jpg"], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}).to_string();
    let cases = [
        (format!("[{row}"), "the file ends before its list is closed"),
        (format!("[{row},\n{}", &row[..20]), "t.json:2: the file ends within a row"),
        (format!("[{row}] 1"), "something stands after the end of the list"),
        (format!("[{row},,{row}]"), "a comma without a row"),
    ];
    for (text, part) in cases {
        let dir = with_images(&["a.jpg"], &[("t.json", text)]);
        assert_has(&problems(dir.path(), None).join("\n"), &[part]);
    }
    for good in [format!("\u{feff} [ {row} , {row} ] \n"), format!("{row}\n{row}"), format!("{row}{row}")] {
        let dir = with_images(&["a.jpg"], &[("t.json", good)]);
        assert_eq!(open(dir.path(), None).unwrap().len(), 2);
    }
}

#[test]
fn verl_parquet_has_structs_lists_and_nulls() {
    let dataset = open(&parquet("verl.parquet"), None).unwrap();
    assert_eq!((dataset.format(), dataset.len()), ("verl", 5));
    // In order, backwards, and in order again: the readers within the columns go back.
    for n in [0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 0, 4] {
        let sample = dataset.sample(n).unwrap();
        let wanted: Vec<u8> = (0..1 + n % 2).map(|k| (10 * n + k) as u8).collect();
        assert_eq!((shades(&sample), sample.question, sample.answer), (wanted, format!("Q{n}?"), format!("A{n}")));
        assert_eq!(sample.meta.get("env_name").is_some(), n > 0);
    }
    let entry = dataset.entry(0).unwrap();
    assert_eq!(
        (entry.kind.as_str(), &entry.meta["extra_info"]),
        ("thinklite_eureka", &json!({"index": "0", "split": "train"}))
    );
    assert_eq!(
        (&entry.meta["system"], &entry.meta["prompt"]),
        (&json!("Tools."), &json!("<image>\nQ0?\nThink first."))
    );
    assert_eq!(problems(&parquet("verl.parquet"), None), Vec::<String>::new());
}

#[test]
fn verl_rows_may_be_json_lines() {
    let row = json!({"data_source": "geo", "prompt": [{"role": "user", "content": "<image>Which?\nA. one\nB. two"}],
        "images": [{"image": "a.jpg"}], "ability": "math", "reward_model": {"style": "rule", "ground_truth": "B"}, "extra_info": {"split": "test"}});
    let dir = with_images(&["a.jpg"], &[("test.jsonl", row.to_string())]);
    let entry = open(dir.path(), None).unwrap().entry(0).unwrap();
    assert_eq!((entry.options, entry.answer), (vec!["one".to_owned(), "two".to_owned()], Answer::Choice('B')));
    let other = row.to_string().replace("\"B\"", "\"H. pylori\"");
    fs::write(dir.path().join("test.jsonl"), other).unwrap();
    let entry = open(dir.path(), None).unwrap().entry(0).unwrap();
    assert_eq!(entry.answer, Answer::Text("H. pylori".into()), "a letter of no option is no choice");
}

#[test]
fn benchmarks_in_parquet() {
    let blink = open(&parquet("blink.parquet"), None).unwrap();
    assert_eq!((blink.format(), blink.len()), ("blink", 3));
    assert_eq!(shades(&blink.sample(0).unwrap()), [51, 52]);
    assert_eq!(shades(&blink.sample(1).unwrap()), [61, 62, 63]);
    assert_eq!(
        (blink.entry(2).unwrap().answer, blink.entry(2).unwrap().kind.as_str()),
        (Answer::Choice('B'), "Counting")
    );
    let muir = open(&parquet("muirbench.parquet"), None).unwrap();
    assert_eq!((muir.format(), shades(&muir.sample(1).unwrap())), ("muirbench", vec![110, 111, 112]));
    let entry = muir.entry(1).unwrap();
    assert_eq!(
        (entry.question.as_str(), entry.options[1].as_str(), entry.answer),
        ("How many?", "image 3", Answer::Choice('C'))
    );
    let hr = open(&parquet("hrbench.parquet"), None).unwrap();
    assert_eq!((hr.format(), hr.len()), ("hrbench", 4));
    assert_eq!(hr.sample(2).unwrap().images[0].dimensions(), (32, 32));
    assert!(std::ptr::eq(hr.sample(3).unwrap().images[0].as_ref(), hr.sample(3).unwrap().images[0].as_ref()), "kept");
}

#[test]
fn parquet_files_that_are_wrong() {
    let error = open(&parquet("brotli.parquet"), None).unwrap_err().to_string();
    assert_has(&error, &["brotli.parquet: column `idx` is compressed with brotli"]);
    let zstd = open(&parquet("zstd.parquet"), None);
    if cfg!(feature = "zstd") {
        assert_eq!(shades(&zstd.unwrap().sample(1).unwrap()), [61, 62, 63]);
    } else {
        assert_has(&zstd.unwrap_err().to_string(), &["zstd.parquet", "compressed with zstd"]);
    }
    let bytes = fs::read(parquet("verl.parquet")).unwrap();
    let dir = place(&[("cut.parquet", &bytes[..bytes.len() / 2]), ("sub/none.parquet", b"PAR1")]);
    assert_has(
        &open(&dir.path().join("cut.parquet"), None).unwrap_err().to_string(),
        &["cut.parquet: cannot be read as parquet"],
    );
    assert_has(&open(&dir.path().join("sub"), None).unwrap_err().to_string(), &["none.parquet"]);
}

#[test]
fn mantis_and_mmiu_as_json() {
    let mantis = json!([
        {"id": "1", "question_type": "multi-choice", "question": "Which? <image> or <image>", "images": ["a.jpg", "b.jpg"], "options": ["(A) left", "(B) right"], "answer": "B", "data_source": "x", "category": "compare"},
        {"id": "3", "question_type": "multi-choice", "question": "Is <image> red?", "images": ["a.jpg", "b.jpg"], "options": ["yes", "no"], "answer": "A", "data_source": "x", "category": "compare"},
        {"id": "2", "question_type": "short-answer", "question": "How many?", "images": ["a.jpg"], "options": [], "answer": "3", "data_source": "x", "category": "count"}]);
    let dir = with_images(&["a.jpg", "b.jpg"], &[("test.json", mantis.to_string())]);
    let dataset = open(dir.path(), None).unwrap();
    let (choice, short) = (dataset.entry(0).unwrap(), dataset.entry(2).unwrap());
    assert_eq!(dataset.entry(1).unwrap().question, "Is image 2 red?", "images without a marker come first");
    assert_eq!(
        (dataset.format(), choice.question.as_str(), choice.options[0].as_str()),
        ("mantis", "Which? image 1 or image 2", "left")
    );
    assert_eq!((short.answer, short.kind.as_str()), (Answer::Text("3".into()), "count"));
    let mmiu = json!([{"task": "person_reid", "visual_input_component": "natural image", "source": "x", "options": "A: the first\nB: the second\nC: none",
        "question": "Which is it?", "context": "Look.\nSelect from the following choices.\nA: the first\nB: the second\nC: none\n", "input_image_path": ["./a.jpg", "b.jpg"], "output": "C"}]);
    fs::write(dir.path().join("test.json"), mmiu.to_string()).unwrap();
    let dataset = open(dir.path(), None).unwrap();
    let sample = dataset.sample(0).unwrap();
    assert_eq!(
        (dataset.format(), sample.question.as_str()),
        ("mmiu", "Look.\nSelect from the following choices.\nWhich is it?\nA. the first\nB. the second\nC. none")
    );
}

#[test]
fn what_is_no_dataset_says_why() {
    let error = |dir: &TempDir, format| open(dir.path(), format).unwrap_err().to_string();
    assert_has(
        &error(&place(&[("a.txt", b"x")]), None),
        &["not a dataset of a known format", "samples.jsonl", "parquet"],
    );
    assert_has(
        &error(&place(&[("images.zip", b"PK"), ("x/data.tar.gz", b"x")]), None),
        &["images.zip is an archive", "unpacked"],
    );
    assert_has(&error(&place(&[("a.json", b"[{\"x\": 1}]")]), None), &["a.json has x"]);
    assert_has(
        &error(&place(&[("a.json", b"[{\"x\": 1}]")]), Some("mmiu")),
        &["format `mmiu`", "input_image_path", "a.json has x"],
    );
    assert_has(&error(&place(&[("a.json", b"nonsense")]), None), &["a.json:1", "neither a JSON list nor an object"]);
    assert_has(&error(&place(&[]), Some("nonsense")), &["`format`", "\"nonsense\" is none of folder, vstar"]);
    assert_has(&open(Path::new("absent"), None).unwrap_err().to_string(), &["absent: no such folder"]);
    let row = json!({"images": ["pictures/a.jpg"], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    let packed = place(&[("t.json", row.to_string().as_bytes()), ("pictures.zip", b"PK")]);
    assert_has(&error(&packed, None), &["t.json:1", "pictures.zip is an archive that has to be unpacked"]);
    #[cfg(unix)]
    {
        let (real, linked) = (place(&[("t.json", row.to_string().as_bytes())]), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(real.path().join("t.json"), linked.path().join("t.json")).unwrap();
        assert_has(&error(&linked, None), &["t.json: is a link that leads out of the dataset"]);
    }
}

#[test]
fn images_in_parquet_are_read_in_any_order() {
    let dataset = open(&parquet("pages.parquet"), None).unwrap();
    assert_eq!(dataset.len(), 50);
    let wanted = |n: usize| (0..1 + n % 3).map(|k| (3 * n + k) as u8).collect::<Vec<_>>();
    let shade = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().to_rgb8().get_pixel(0, 0).0[0];
    // The walk in order, and between its steps jumps of all lengths over both row groups, forwards and backwards.
    for n in (0..50).flat_map(|step| [(step * 17) % 50, (step * 31 + 7) % 50, step]) {
        let files = dataset.files(&dataset.entry(n).unwrap()).unwrap();
        let shades: Vec<u8> = files.iter().map(|file| shade(file)).collect();
        assert_eq!(shades, wanted(n), "row {n}");
    }
    // A page without values does not end a column.
    let empty = open(&parquet("empty.parquet"), None).unwrap();
    for n in [0, 1, 2, 3, 4, 4, 2, 0, 3] {
        assert_eq!(shades(&empty.sample(n).unwrap()), [n as u8], "row {n}");
    }
    assert_eq!(problems(&parquet("empty.parquet"), None), Vec::<String>::new());
    let table = crate::tables::open(&parquet("pages.parquet")).unwrap().unwrap();
    for n in (0..50).rev().chain([3, 40, 2, 41, 49, 0]) {
        let spot = Spot { number: n + 1, is_line: false, start: n as u64, len: 0 };
        let cell = table.cell(spot, &CellPath { column: "single".into(), nth: None }, &mut None).unwrap();
        let found = cell.map(|cell| if let Cell::Bytes(bytes) = cell { shade(&bytes) } else { 255 });
        assert_eq!(found, (n % 4 != 0).then_some(n as u8), "row {n}");
    }
}

#[test]
fn a_better_form_of_the_same_table_is_taken() {
    let hr = fs::read(parquet("hrbench.parquet")).unwrap();
    let row = format!("0\tq\tA\tsingle\ta\tb\tc\td\t0\t{}\n", base64(1));
    let dir = place(&[("hr_bench_4k.parquet", &hr), ("hr_bench_4k.tsv", [HR_HEAD, &row].concat().as_bytes())]);
    assert_eq!(open(dir.path(), None).unwrap().len(), 4);
    fs::rename(dir.path().join("hr_bench_4k.tsv"), dir.path().join("hr_bench_8k.tsv")).unwrap();
    let both = open(dir.path(), None).unwrap();
    assert_eq!((both.len(), both.entry(4).unwrap().id.as_str()), (5, "hr_bench_8k-000000"));
    assert!(open(&parquet("blink.parquet"), Some("hrbench")).is_err());
}

#[test]
fn splits_are_not_mixed_unseen() {
    let row = |answer: &str| {
        json!({"images": ["a.jpg"], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]}).to_string()
    };
    let files = [
        ("train-00000-of-00002.jsonl", "a"),
        ("train-00001-of-00002.jsonl", "b"),
        ("test.jsonl", "c"),
        ("trains.jsonl", "d"),
    ];
    let dir = with_images(&["a.jpg"], &files.map(|(name, answer)| (name, row(answer))));
    assert_has(&open(dir.path(), None).unwrap_err().to_string(), &["holds the splits test, train", "`split`"]);
    let split = |name| super::open(dir.path(), Select { split: Some(name), ..Select::default() });
    let answers = |name| -> Vec<String> {
        let dataset = split(name).unwrap();
        (0..dataset.len()).map(|n| dataset.sample(n).unwrap().answer).collect()
    };
    assert_eq!(
        (answers("train"), answers("test"), answers("trains")),
        (vec!["a".into(), "b".into()], vec!["c".into()], vec!["d".into()])
    );
    assert_has(
        &split("val").unwrap_err().to_string(),
        &["no table whose name, or whose folder's, begins with \"val\""],
    );
    assert_eq!(open(&dir.path().join("test.jsonl"), None).unwrap().len(), 1);
    // Folders of splits; the name of a file counts before that of its folder.
    let files =
        [("train/part.jsonl", "a"), ("x/test/0000.jsonl", "b"), ("train/test.jsonl", "c"), ("training/p.jsonl", "d")];
    let folders = with_images(&["a.jpg"], &files.map(|(name, answer)| (name, row(answer))));
    assert_has(&open(folders.path(), None).unwrap_err().to_string(), &["holds the splits test, train", "`split`"]);
    let count = |split| super::open(folders.path(), Select { split: Some(split), ..Select::default() }).unwrap().len();
    assert_eq!((count("train"), count("test"), count("training")), (1, 2, 1));
    let one = with_images(&["a.jpg"], &[("test/0000.jsonl", row("a"))]);
    assert_eq!(open(one.path(), None).unwrap().len(), 1, "one split is no question");
    let own = tempfile::tempdir().unwrap();
    import(&dir.path().join("test.jsonl"), of(None), &own.path().join("own"), &mut Err, &mut |_| ()).unwrap();
    let error = super::open(&own.path().join("own"), Select { split: Some("train"), ..Select::default() });
    assert_has(&error.unwrap_err().to_string(), &["has no splits"]);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_named_may_be_a_link() {
    let (blobs, snapshot) = (tempfile::tempdir().unwrap(), with_images(&["a.jpg"], &[]));
    let row = json!({"images": ["a.jpg"], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    fs::write(blobs.path().join("4f1a"), row.to_string()).unwrap();
    let link = snapshot.path().join("t.json");
    std::os::unix::fs::symlink(blobs.path().join("4f1a"), &link).unwrap();
    assert_eq!(shades(&open(&link, None).unwrap().sample(0).unwrap()), [1], "images lie beside the link");
}

#[test]
fn a_table_that_cannot_be_read_is_told_with_the_rest() {
    let bad = json!({"images": ["b.jpg"], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    let dir = with_images(&["a.jpg"], &[("a.jsonl", bad.to_string()), ("b.parquet", "PAR1".into())]);
    let found = problems(dir.path(), None);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_has(&found[0], &["b.parquet: cannot be read as parquet"]);
    assert_has(&found[1], &["a.jsonl:1: image \"b.jpg\""]);
    assert_eq!(open(dir.path(), None).unwrap_err().to_string(), found[0]);
}

#[test]
fn an_import_is_the_same_dataset() {
    let dir = tempfile::tempdir().unwrap();
    for (name, rows) in [("verl", 5), ("blink", 3), ("muirbench", 2)] {
        let (from, out) = (parquet(&format!("{name}.parquet")), dir.path().join(name));
        let mut told = Vec::new();
        let summary = import(&from, of(None), &out, &mut Err, &mut |done| told.push(done)).unwrap();
        assert_eq!((summary.samples, summary.written, told.last()), (rows, true, Some(&rows)));
        assert!(!import(&from, of(None), &out, &mut Err, &mut |_| ()).unwrap().written, "it is there already");
        let (published, own) = (open(&from, None).unwrap(), open(&out, None).unwrap());
        assert_eq!(own.format(), FOLDER);
        for n in 0..rows {
            assert_eq!(format!("{:?}", own.sample(n).unwrap()), format!("{:?}", published.sample(n).unwrap()));
            let (a, b) = (own.entry(n).unwrap(), published.entry(n).unwrap());
            assert_eq!(Entry { pictures: Vec::new(), ..a.clone() }, Entry { pictures: Vec::new(), ..b.clone() });
            assert_eq!(own.files(&a).unwrap(), published.files(&b).unwrap(), "files are copied");
        }
        assert_eq!(problems(&out, None), Vec::<String>::new());
    }
    let two = import(
        &parquet("verl.parquet"),
        Select { limit: Some(2), ..of(None) },
        &dir.path().join("two"),
        &mut Err,
        &mut |_| (),
    )
    .unwrap();
    assert_eq!((two.samples, Folder::open(dir.path().join("two")).unwrap().len()), (2, 2));
    let broken = with_images(&["a.jpg"], &[("b.jpg", "x".into())]);
    let row = |image: &str| {
        json!({"images": [image], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}).to_string()
    };
    fs::write(broken.path().join("t.jsonl"), [row("a.jpg"), row("b.jpg")].join("\n")).unwrap();
    let error =
        import(broken.path(), of(None), &dir.path().join("half"), &mut Err, &mut |_| ()).unwrap_err().to_string();
    assert_has(&error, &["t.jsonl:2: image \"b.jpg\": not an image"]);
    assert!(
        !dir.path().join("half").exists() && fs::read_dir(dir.path()).unwrap().count() == 4,
        "nothing is left behind"
    );
}

#[test]
fn what_a_model_may_refuse_is_warned_of() {
    let row = json!({"images": ["a.jpg", "b.png"], "messages": [
        {"role": "user", "content": "<image><image>Say <|im_end|> or <b|c> or <| x |>"}, {"role": "assistant", "content": "a"}]});
    let dir = with_images(&["a.jpg"], &[("t.json", format!("[{row}]"))]);
    fs::write(dir.path().join("b.png"), png(1, (4, 801))).unwrap();
    let mut found = Vec::new();
    let counted = survey(dir.path(), of(None), &mut |finding| match finding {
        Finding::Problem(error) => panic!("{error}"),
        Finding::Warning(error) => found.push(error.to_string()),
        Finding::Row(..) => {}
    });
    assert_eq!((counted.unwrap().problems, found.len()), (0, 2), "{found:#?}");
    assert_has(&found[0], &["t.json:1: image 2 of 4×801", "200 times"]);
    assert_has(&found[1], &["t.json:1: the question has <|im_end|>"]);
}

#[test]
fn an_import_can_leave_out_bad_rows_but_not_the_rest_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let row = |image: &str| {
        json!({"images": [image], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}).to_string()
    };
    let broken = with_images(&["a.jpg", "c.jpg"], &[("b.jpg", "x".into())]);
    let lines = [row("a.jpg"), row("b.jpg"), "{".into(), row("gone.jpg"), row("c.jpg"), row("a.jpg")];
    fs::write(broken.path().join("t.jsonl"), lines.join("\n")).unwrap();
    let bring = |from: &Path, to: &str, limit| {
        let mut bad = Vec::new();
        let mut take = |error: DataError| {
            bad.push(error.to_string());
            Ok(())
        };
        let made = import(from, Select { limit, ..of(None) }, &dir.path().join(to), &mut take, &mut |_| ());
        (made.map(|made| (made.samples, made.images)).map_err(|error| error.to_string()), bad)
    };
    let (made, bad) = bring(broken.path(), "rest", None);
    assert_eq!(made, Ok((3, 2)));
    for (error, has) in bad.iter().zip(["t.jsonl:3: ", "t.jsonl:4: image \"gone.jpg\"", "t.jsonl:2: image \"b.jpg\""]) {
        assert_has(error, &[has]);
    }
    assert_eq!(bad.len(), 3);
    assert_eq!(bring(broken.path(), "two", Some(2)).0, Ok((1, 1)), "the second of the first two rows is bad");
    assert_eq!(bring(broken.path(), "three", Some(3)).1.len(), 2, "nothing is said of rows behind the limit");
    assert_eq!(problems(&dir.path().join("rest"), None), Vec::<String>::new());

    let own = dir.path().join("rest/samples.jsonl");
    let text = fs::read_to_string(&own).unwrap().replacen("\"answer\":\"a\"", "\"answer\":\"\"", 1);
    fs::write(&own, text).unwrap();
    let (made, bad) = bring(&dir.path().join("rest"), "again", None);
    assert_eq!((made, bad.len()), (Ok((2, 2)), 1));
    assert_has(&bad[0], &["samples.jsonl:1: `answer` is empty"]);

    let cut = with_images(&["a.jpg"], &[("t.json", format!("[{},\n{{\"images\": [\"a.j", row("a.jpg")))]);
    let (made, bad) = bring(cut.path(), "cut", None);
    assert_has(&made.unwrap_err(), &["t.json:2: ", "; no row after it can be read"]);
    assert!(bad.is_empty() && !dir.path().join("cut").exists());
}

#[test]
fn a_survey_counts_and_a_preview_shows() {
    let (path, mut preview) = (parquet("blink.parquet"), Preview::default());
    let counted = survey(&path, of(None), &mut |finding| {
        if let Finding::Row(entry, images) = finding {
            preview.add(entry, images);
        }
    });
    let counted = counted.unwrap();
    assert_eq!((counted.rows, counted.images, counted.problems, counted.sizes), (3, 7, 0, Some([(6, 6), (6, 6)])));
    assert_eq!((counted.kinds["Counting"], counted.answers["choice"], counted.images_a_row[&2]), (3, 3, 2));
    let sheet = preview.sheet();
    assert_eq!(sheet.dimensions(), (3 * 200 + 8, 3 * 200 + 8));
    assert_eq!((sheet.get_pixel(10, 10).0, sheet.get_pixel(410, 10).0), ([51, 0, 0], [255; 3]));
    assert_eq!(image::load_from_memory(&preview.png().unwrap()).unwrap().into_rgb8(), sheet);
    assert_eq!(survey(&path, Select { limit: Some(2), ..of(None) }, &mut |_| ()).unwrap().rows, 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_the_bytes_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..2000, kind in 0usize..4) {
        let row = json!({"images": ["a.jpg"], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
        let good = [format!("[{row},{row}]"), format!("{row}\n{row}"), format!("{HR_HEAD}0\tq\tA\ts\ta\tb\tc\td\t0\t{}\n", base64(1))];
        let name = ["t.json", "t.jsonl", "t.tsv", "t.parquet"][kind];
        let mut content = good.get(kind).map_or_else(|| fs::read(parquet("verl.parquet")).unwrap(), |text| text.clone().into_bytes());
        let at = at.min(content.len());
        content.splice(at..(at + bytes.len()).min(content.len()), bytes);
        let dir = with_images(&["a.jpg"], &[]);
        fs::write(dir.path().join(name), content).unwrap();
        let _ = survey(dir.path(), of(None), &mut |_| ());
        if let Ok(dataset) = open(dir.path(), None) {
            (0..dataset.len()).for_each(|n| drop(dataset.get(n)));
        }
    }
}
