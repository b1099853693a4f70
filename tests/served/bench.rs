//! Benchmarks over a served model, and with a judge at a server of its own: figures to the item, and what is asked only once.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::done::Done;
use super::process::command;
use super::scripted::{Act, Scripted};

/// MMIU with four questions of two tasks; B is right.
fn mmiu() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    image::RgbImage::from_pixel(40, 20, image::Rgb([200, 9, 9])).save(dir.path().join("a.png")).unwrap();
    let row = |n: usize| {
        json!({"task": if n < 3 { "reid" } else { "jigsaw" }, "visual_input_component": "x", "source": "x", "options": "A: red\nB: blue\nC: grey",
            "question": format!("Which is {n}?"), "context": "", "input_image_path": ["a.png"], "output": "B"})
    };
    std::fs::write(dir.path().join("all.json"), json!((0..4).map(row).collect::<Vec<_>>()).to_string()).unwrap();
    dir
}

fn bench(data: &Path, model: &Scripted, more: &[&str]) -> Done {
    bench_at(data, &model.url, more)
}

fn bench_at(data: &Path, url: &str, more: &[&str]) -> Done {
    let data = data.to_str().unwrap();
    let base = ["eval", "--bench", "mmiu", "--data", data, "--endpoint", url, "--served-model", "m"];
    let settings = ["--set", "tools=[]", "--set", "endpoint.at_once=1", "--set", "limits.max_turns=1", "--json"];
    Done::from(command(&[&base[..], &settings, more].concat()).current_dir(data).output().unwrap())
}

/// A figure of the joined table and its mean over each task.
fn figure(out: &str, name: &str) -> [f64; 3] {
    let result: Value = serde_json::from_str(out).unwrap();
    let table = &result["benchmark"]["tables"][0];
    [&table["joined"], &table["tasks"]["reid"], &table["tasks"]["jigsaw"]]
        .map(|row| row[name]["mean"].as_f64().unwrap_or_else(|| panic!("no {name} in {result:#}")))
}

#[test]
fn a_judge_is_asked_where_no_rule_decides_and_only_once() {
    let place = mmiu();
    let data = place.path();
    // By rule: right, wrong, open, open.
    let replies = ["(B).", "<answer>A</answer>", "it is the blue one", "I cannot tell"].map(Act::Say);
    let model = Scripted::play(&replies);
    let alone = bench(data, &model, &["--save", "run"]).ok();
    assert_eq!(figure(&alone, "rule"), [1.0 / 6.0, 1.0 / 3.0, 0.0], "what is open counts as wrong");
    assert_eq!(figure(&alone, "strict"), [1.0 / 6.0, 1.0 / 3.0, 0.0]);
    let report: Value = serde_json::from_str(&alone).unwrap();
    assert_eq!(
        (&report["benchmark"]["tables"][0]["for_judge"], &report["benchmark"]["judge"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(model.came().len(), 4);

    // The transcript is there: only the judge is asked, about what is open.
    let judge = Scripted::play(&[Act::Say("(B)"), Act::Say("Z")]);
    let with = ["--save", "run", "--judge", judge.url.as_str(), "--judge-model", "j", "--set", "judge.at_once=1"];
    let judged = bench(data, &model, &with).ok();
    assert_eq!(figure(&judged, "official"), [1.0 / 3.0, 2.0 / 3.0, 0.0]);
    let asked: Vec<String> = judge.came().iter().map(|came| came.body["messages"][0]["content"].to_string()).collect();
    assert_eq!((asked.len(), model.came().len()), (2, 4));
    assert!(asked[0].contains("Which is 3?") == asked[0].contains("I cannot tell"), "{asked:?}");
    assert!(asked.iter().all(|text| text.contains("A. red") && !text.contains("gold")), "{asked:?}");
    assert_eq!(judge.came()[0].body["temperature"].as_f64(), Some(0.0));
    let rollouts = || std::fs::read_to_string(data.join("run/rollouts.jsonl")).unwrap();
    let kept = rollouts();
    assert!(kept.lines().filter(|line| line.contains(r#""for_judge":true"#)).count() == 2, "{kept}");

    // Again, here and in a run of its own that knows what was said: nothing is asked, and the score is the same.
    assert_eq!(bench(data, &model, &with).ok(), judged);
    assert_eq!(rollouts(), kept);
    let other_model = Scripted::play(&replies);
    let cache = ["--judge-cache", "run/judged.jsonl"];
    let other = [&["--save", "other"], &with[2..], &cache].concat();
    let elsewhere: Value = serde_json::from_str(&bench(data, &other_model, &other).ok()).unwrap();
    assert_eq!(elsewhere["benchmark"], serde_json::from_str::<Value>(&judged).unwrap()["benchmark"]);
    assert_eq!(judge.came().len(), 2);
    // Without the judge the score is the rule's again.
    assert_eq!(bench(data, &model, &["--save", "run"]).ok(), alone);
}

#[test]
fn a_model_or_a_judge_that_fails_is_gone_on_from() {
    let place = mmiu();
    let data = place.path();
    let refusal = Act::Status(400, "", r#"{"error": {"message": "no such model"}}"#);
    let judge = Scripted::play(&[refusal.clone(), Act::Say("B")]);
    let with = ["--save", "run", "--judge", judge.url.as_str(), "--judge-model", "j", "--set", "judge.at_once=1"];
    let model = Scripted::play(&[refusal, Act::Say("the blue one")]);
    bench(data, &model, &with).fails(1, &["/chat/completions", "no such model"]);
    assert!(judge.came().is_empty(), "nothing was played");
    bench(data, &model, &with).fails(1, &["/chat/completions", "no such model"]);
    assert_eq!((model.came().len(), judge.came().len()), (5, 1), "now it is the judge");
    let report = bench(data, &model, &with).ok();
    assert_eq!(figure(&report, "official"), [1.0; 3]);
    assert_eq!(model.came().len(), 5, "what was played stays");
}

#[test]
fn an_item_that_is_refused_costs_no_other_and_a_whole_transcript_needs_no_server() {
    let place = mmiu();
    let data = place.path();
    let refusal = Act::Status(400, "", r#"{"error": {"message": "not for us"}}"#);
    let passing = Act::Body(r#"{"error": {"message": "upstream died", "code": 502}}"#);
    let model = Scripted::play(&[passing, Act::Say("B"), refusal, Act::Say("B")]);
    let save = ["--save", "run"];
    let lines = || std::fs::read_to_string(data.join("run/rollouts.jsonl")).unwrap().lines().count();
    bench(data, &model, &save).fails(1, &["sample \"all-00000", "not for us"]);
    assert_eq!((model.came().len(), lines()), (5, 3), "the others are there, the first at its second try");
    let whole = bench(data, &model, &save).ok();
    assert_eq!((figure(&whole, "strict"), model.came().len()), ([1.0; 3], 6), "only what is missing is asked");
    // Port 9 is for discarding: nobody listens.
    assert_eq!(
        bench_at(data, "http://127.0.0.1:9", &save).ok().replace("127.0.0.1:9", ""),
        whole.replace(&model.url[7..], "")
    );
    bench(data, &model, &["--save", "other", "--judge-cache", "said.jsonl"]).fails(2, &["--judge-cache", "--judge"]);
    bench(data, &model, &["--save", "other", "--shard", "1/0"]).fails(2, &["--shard 1/0", "I/N"]);
}
