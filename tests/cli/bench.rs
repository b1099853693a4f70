//! Benchmarks through the program: scored twice, written down item by item, taken up again, in parts; each in its published layout.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::done::Done;
use super::harness::{Place, model};

/// Writes a picture, a file of the dataset.
fn picture(place: &Place, name: &str) {
    let path = place.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let png = path.with_extension("png");
    image::RgbImage::from_pixel(40, 20, image::Rgb([200, 9, 9])).save(&png).unwrap();
    fs::rename(png, path).unwrap();
}

fn write(place: &Place, name: &str, text: &str) {
    fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
    fs::write(place.path(name), text).unwrap();
}

/// V\*Bench: an annotation beside each image, so many in each of the two folders.
fn vstar(place: &Place, count: usize) {
    for folder in ["direct_attributes", "relative_position"] {
        for n in 0..count {
            picture(place, &format!("vstar/{folder}/sa_{n}.jpg"));
            let options = ["1", "2", "3", "4"];
            let annotation = json!({"target_object": ["cup"], "bbox": [[2, 3, 5, 4]], "question": "What digit ?", "options": options});
            write(place, &format!("vstar/{folder}/sa_{n}.json"), &annotation.to_string());
        }
    }
}

fn parquet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tests/parquet").join(name)
}

/// A dataset of two pictures and one file of rows.
fn rows(place: &Place, dataset: &str, file: &str, rows: &Value) -> PathBuf {
    ["a.jpg", "b.jpg"].iter().for_each(|name| picture(place, &format!("{dataset}/{name}")));
    write(place, &format!("{dataset}/{file}"), &rows.to_string());
    place.path(dataset)
}

fn bench(place: &Place, name: &str, data: &Path, more: &[&str]) -> Done {
    let data = data.to_str().unwrap();
    place.run(&[&["eval", "config.toml", "--bench", name, "--data", data], more].concat())
}

#[test]
fn a_benchmark_is_run_taken_up_again_and_reported() {
    let place = Place::new();
    vstar(&place, 2);
    let run = |more: &[&str]| bench(&place, "vstar", &place.path("vstar"), more);
    let text = run(&["--save", "whole", "--out", "figures.json"]).ok();
    for part in ["published\n", "shuffled\n", "direct_attributes", "mean over items", "official", "strict"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let read = |dir: &str, name: &str| fs::read_to_string(place.path(&format!("{dir}/{name}"))).unwrap();
    let result: Value = serde_json::from_str(&read("whole", "eval.json")).unwrap();
    assert_eq!(result["tables"][1]["joined"]["strict"]["n"], 4);
    let figures: Value = serde_json::from_str(&fs::read_to_string(place.path("figures.json")).unwrap()).unwrap();
    assert_eq!((&figures["benchmark"], &figures["model"]), (&result, &json!(model().to_str().unwrap())));
    let rollouts = read("whole", "rollouts.jsonl");
    let lines: Vec<Value> = rollouts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("number"), (0..8).map(Value::from).collect::<Vec<_>>(), "four items in two forms");
    assert_eq!(of("form")[..2], ["published", "shuffled"].map(Value::from));
    for line in &lines {
        assert!(line["question"].as_str().unwrap().ends_with("directly."), "{line}");
        assert!(line["turns"][0]["text"].is_string() && line["parts"]["official"].is_number(), "{line}");
    }
    // What `eval --save` writes is read as such.
    assert_eq!(imagent_analysis::read_rollouts(&place.path("whole/rollouts.jsonl")).unwrap().len(), 8);

    // Killed within a line: that item and those after it are played again, with the same result.
    let cut = rollouts.match_indices('\n').nth(2).unwrap().0 + 50;
    fs::write(place.path("whole/rollouts.jsonl"), &rollouts[..cut]).unwrap();
    fs::remove_file(place.path("whole/eval.json")).unwrap();
    assert_eq!(run(&["--save", "whole"]).ok(), text);
    assert_eq!(
        (read("whole", "rollouts.jsonl"), read("whole", "eval.json")),
        (rollouts.clone(), format!("{result:#}\n"))
    );

    // In two parts: the first says that it is done, the second reports, and nothing is left of the parts.
    assert!(run(&["--save", "parts", "--shard", "1/2"]).ok().contains("this part is done"));
    assert!(place.path("parts/rollouts-1-of-2.jsonl").is_file());
    assert_eq!(run(&["--save", "parts", "--shard", "2/2"]).ok(), text);
    assert_eq!((read("parts", "rollouts.jsonl"), read("parts", "eval.json")), (rollouts, format!("{result:#}\n")));
    assert!(!place.path("parts/rollouts-1-of-2.jsonl").exists());

    // A limit is no other run: more goes on from there, less reports on what is asked.
    assert!(run(&["--save", "grown", "--limit", "1"]).ok().contains("direct_attributes"));
    // Figures of fewer items do not stand beside a transcript of more.
    assert!(run(&["--save", "grown", "--shard", "1/2"]).ok().contains("this part is done"));
    assert!(!place.path("grown/eval.json").exists());
    assert_eq!(run(&["--save", "grown"]).ok(), text);
    let one: Value = serde_json::from_str(&run(&["--save", "grown", "--limit", "1", "--json"]).ok()).unwrap();
    assert_eq!(one["benchmark"]["tables"][0]["joined"]["official"]["n"], 1);
}

#[test]
fn every_benchmark_is_read_in_its_published_layout() {
    let place = Place::new();
    vstar(&place, 1);
    place.run(&["data", "synth", "--out", "nano", "--samples", "2"]).ok();
    let questions = json!({"image": "a.jpg", "text": "Which? (A) red (B) blue\nAnswer with the option's letter from the given choices directly.",
        "category": "direct_attributes", "label": "B", "question_id": 7});
    let choices = json!(["(A) one", "(B) two", "(C) three", "(D) four", "(E) The image does not feature it."]);
    let mme = json!([{"Question_id": "Perception/OCR/0", "Question Type": "Multiple Choice", "Image": "a.jpg", "Text": "How many?",
        "Answer choices": choices, "Ground truth": "E", "Task": "Perception", "Subtask": "Monitoring", "Category": "count", "Dataset": "x"}]);
    let mig = json!([{"task": "common_object", "images": ["./MIG-Bench/images/a.jpg", "./MIG-Bench/images/b.jpg"],
        "question": "Recognize and locate this object in the 2th image. ", "answer": [0.1, 0.2, 0.5, 0.7], "additional_info": "",
        "need_format": true}]);
    ["a.jpg", "b.jpg"].iter().for_each(|name| picture(&place, &format!("mig/MIG-Bench/images/{name}")));
    write(&place, "mig/MIG-Bench/MIG_data.json", &mig.to_string());
    let mantis = json!([
        {"id": "1", "question_type": "multi-choice", "question": "Which? <image> or <image>", "images": ["a.jpg", "b.jpg"],
            "options": ["(A) left", "(B) right"], "answer": "B", "data_source": "x", "category": "compare"},
        {"id": "2", "question_type": "short-answer", "question": "How many?", "images": ["a.jpg"], "options": [], "answer": "3",
            "data_source": "x", "category": "count"}]);
    let mmiu = json!([{"task": "person_reid", "visual_input_component": "natural image", "source": "x",
        "options": "A: the first\nB: the second", "question": "Which is it?", "context": "Look.\nA: the first\nB: the second\n",
        "input_image_path": ["./a.jpg", "b.jpg"], "output": "B"}]);
    let cases: [(&str, PathBuf, &[&str]); 10] = [
        ("vstar", place.path("vstar"), &["shuffled\n", "relative_position", "official"]),
        ("vstar", rows(&place, "questions", "test_questions.jsonl", &questions), &["direct_attributes", "official"]),
        ("hrbench", parquet("hrbench.parquet"), &["single", "order 3", "rule", "mean over items"]),
        (
            "mme-realworld",
            rows(&place, "mme", "MME_RealWorld.json", &mme),
            &["Perception/Monitoring/count", "official"],
        ),
        ("mig", place.path("mig"), &["named\n", "common_object", "converted", "official_iou", "mean over tasks"]),
        ("blink", parquet("blink.parquet"), &["Counting", "rule", "mean over tasks"]),
        ("muir", parquet("muirbench.parquet"), &["Counting", "official"]),
        ("mantis", rows(&place, "mantis", "test.json", &mantis), &["multi-choice", "short-answer", "official"]),
        ("mmiu", rows(&place, "mmiu", "all.json", &mmiu), &["person_reid", "rule", "mean over tasks"]),
        ("mifg", place.path("nano"), &["strict", "mean over items"]),
    ];
    for (nth, (name, data, parts)) in cases.iter().enumerate() {
        let text = bench(&place, name, data, &["--save", &format!("out/{nth}")]).ok();
        parts.iter().for_each(|part| assert!(text.contains(part), "{name}: {part:?} is not in {text}"));
        assert_eq!(text.contains("official"), !["hrbench", "blink", "mmiu", "mifg"].contains(name), "{text}");
    }
    // Without a place of its own a transcript goes to one by the benchmark's name; an imported dataset is the benchmark's as well.
    let own = place.path("own");
    place.run(&["data", "import", "vstar", "--out", own.to_str().unwrap()]).ok();
    let imported = bench(&place, "vstar", &own, &["--plain"]).ok();
    assert!(imported.contains("shuffled\n") && place.path("runs/bench-vstar/eval.json").is_file(), "{imported}");
}

#[test]
fn what_cannot_be_run_is_told_in_a_line() {
    let place = Place::new();
    vstar(&place, 1);
    let data = place.path("vstar");
    let fails = |name: &str, more: &[&str], parts: &[&str]| bench(&place, name, &data, more).fails(2, parts);
    fails("vstar", &["--shard", "3/2"], &["--shard 3/2: count from 1 to 2"]);
    fails("vstar", &["--shard", "0/2"], &["--shard 0/2: count from 1 to 2"]);
    fails("vstar", &["--shard", "0/0"], &["--shard 0/0"]);
    fails("vstar", &["--shard", "half"], &["--shard half", "I/N"]);
    fails("vstar", &["--frame", "metres"], &["--frame metres"]);
    fails("nonsense", &[], &["--bench nonsense", "none of vstar, hrbench"]);
    fails("muir", &[], &["--bench muir takes", "muirbench or folder", "this is vstar"]);
    let crops = ["eval", "config.toml", "--bench", "vstar", "--set", "data.eval.gold_crops=40"];
    place.run(&crops).fails(2, &["one dataset as it is"]);
    fails("vstar", &["--judge", "http://127.0.0.1:9", "--judge-model", "m"], &["protocol of vstar has no judge"]);
    fails("mmiu", &["--judge", "http://127.0.0.1:9"], &["judge.model"]);
    assert!(!place.path("runs").exists(), "nothing was begun");
    bench(&place, "vstar", &place.path("absent"), &[]).fails(2, &["absent: no such folder"]);
    let unset = place.run(&["eval", "config.toml", "--shard", "1/2"]);
    assert_eq!(unset.code, Some(2));
    assert!(unset.err.contains("--bench"), "{}", unset.err);

    // Another run is not gone on with; an item that is another one is noticed.
    bench(&place, "vstar", &data, &["--save", "here"]).ok();
    fails("vstar", &["--save", "here", "--set", "limits.max_turns=1"], &["here/config.toml", "limits.max_turns = 2"]);
    fails("vstar", &["--save", "here", "--plain"], &["here/bench.toml", "plain = false"]);
    let path = place.path("here/rollouts.jsonl");
    let rollouts = fs::read_to_string(&path).unwrap();
    fs::write(&path, rollouts.replacen("sa_0", "sa_9", 1)).unwrap();
    fails("vstar", &["--save", "here"], &["rollouts.jsonl: item 0 is \"direct_attributes/sa_9\" there"]);
    fs::write(&path, format!("{{}}\n{rollouts}")).unwrap();
    bench(&place, "vstar", &data, &["--save", "here"]).fails(1, &["rollouts.jsonl, line 1"]);

    fs::remove_file(place.path("vstar/relative_position/sa_0.jpg")).unwrap();
    fails("vstar", &[], &["relative_position/sa_0.json:1", "sa_0.jpg\" does not exist"]);
    write(&place, "vstar/relative_position/sa_0.jpg", "no image");
    fails("vstar", &[], &["relative_position/sa_0.json:1", "not an image"]);
}
