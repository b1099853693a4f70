//! Roles played by a served model: what it is asked, what is made of its replies, and what it costs.

use serde_json::Value;

use super::scripted::{Act, Scripted};
use super::{lines, pipeline, summary, with_config};

const GROUP: &str = r#"These two. {"images": [2, 1], "why": "both have digits"}"#;
const QUESTION: &str = r#"```json
{"question": "What digit is on the sign in image 2?", "answer": "7", "kind": "read",
 "gold": [{"image": 2, "bbox_2d": [10, 20, 30, 40]}, {"image": 9, "bbox_2d": [0, 0, 1, 1]}]}
```"#;
const SEVEN: &str = r#"{"answer": 7}"#;
const EIGHT: &str = r#"{"answer": "8"}"#;
const SOUND: &str = r#"{"sound": true, "reason": "clear"}"#;
const WRONG: &str = "<answer> 3 </answer>";
const RIGHT: &str = "<answer> 7 </answer>";

fn config(url: &str, groups: usize) -> String {
    format!(
        "out = \"out\"\ngroups = {groups}\nsize = [2, 2]\nvotes = 2\nagreement = 1.0\n\n[images]\ncount = 9\n\n[endpoints.m]\nurl = \"{url}\"\nmodel = \"m\"\n\
         at_once = 1\nmin_pixels = 12544\nmax_pixels = 12544\n\n[prices.m]\nprompt = 1.0\ncompletion = 2.0\n\n\
         [grouper]\nendpoint = \"m\"\n\n[writer]\nendpoint = \"m\"\n\n\
         [answerer]\nendpoint = \"m\"\n\n[verifier]\nendpoint = \"m\"\n\n[difficulty]\nendpoint = \"m\"\ntries = 2\ntool_tries = 2\n"
    )
}

#[test]
fn a_served_model_plays_every_role() {
    let say = Act::Say;
    let acts = [
        // Four groups, of which one is none.
        say(GROUP),
        say(GROUP),
        say(GROUP),
        say(r#"{"images": []}"#),
        // Three questions, of which one is no JSON.
        say(QUESTION),
        say("I cannot."),
        say(QUESTION),
        // Two votes each; the first two do not agree.
        say(SEVEN),
        say(EIGHT),
        say(SEVEN),
        say(SEVEN),
        // One is left to judge.
        say(SOUND),
        // It is answered wrong twice without tools, and then right with them.
        say(WRONG),
        say("I do not know."),
        say(WRONG),
        say(RIGHT),
    ];
    let server = Scripted::play(&acts);
    let dir = with_config(&config(&server.url, 4));
    let out = dir.path().join("out");
    let told: Value = serde_json::from_str(&pipeline(dir.path(), &["--json"]).ok()).unwrap();
    let seconds =
        |steps: &Value| (0..6).map(|step| steps["steps"][step]["cost"]["seconds"].as_f64().unwrap()).sum::<f64>();
    assert!(seconds(&told) > 0.0, "{told}");
    let summary = summary(&out);
    let of = |step: usize| {
        let step = &summary["steps"][step];
        (step["items"].as_u64().unwrap(), step["kept"].as_u64().unwrap(), step["cost"]["requests"].as_u64().unwrap())
    };
    assert_eq!([of(0), of(1), of(2), of(3), of(4)], [(4, 3, 4), (3, 2, 3), (2, 2, 4), (2, 1, 1), (1, 1, 4)]);
    // Of 20 tokens asked and 5 replied a request.
    assert_eq!(summary["steps"][0]["price"].as_f64(), Some(80.0 * 1.0 / 1e6 + 20.0 * 2.0 / 1e6));
    let verdicts = lines(&out.join("4-verdicts.jsonl"));
    assert_eq!(verdicts[0]["rejected"], "other answers (7 / 8)");
    let question = &lines(&out.join("2-questions.jsonl"))[0];
    // Boxes in pixels of the image as sent, 112 of 448.
    assert_eq!(question["kept"]["gold"], serde_json::json!([{"image": 2, "bbox": [40.0, 80.0, 120.0, 160.0]}]));
    let replies = lines(&out.join("replies.jsonl"));
    assert_eq!(replies.len(), 16);
    assert_eq!((&replies[4]["role"], &replies[4]["reply"]["choices"][0]["text"]), (&"writer".into(), &QUESTION.into()));
    let came = server.came();
    assert_eq!(came.len(), 16);
    let parts =
        |i: usize| came[i].body["messages"].as_array().unwrap().last().unwrap()["content"].as_array().unwrap().clone();
    assert_eq!(parts(0).iter().filter(|part| part["type"] == "image_url").count(), 8, "candidates");
    assert_eq!(parts(4).iter().filter(|part| part["type"] == "image_url").count(), 2);
    let told = parts(7).last().unwrap()["text"].as_str().unwrap().to_owned();
    assert!(told.contains("What digit is on the sign in image 2?") && !told.contains("answer: 7"), "{told}");
    assert_ne!(came[7].body["seed"], came[8].body["seed"], "votes are drawn apart");
    let system = |i: usize| came[i].body["messages"][0]["content"].to_string();
    assert!(!system(12).contains("zoom_in") && system(14).contains("zoom_in"));
    // What is done needs no server, and leaves the same dataset.
    drop(server);
    let samples = lines(&out.join("dataset/samples.jsonl"));
    assert_eq!((samples.len(), &samples[0]["meta"]["with_tools"]), (1, &serde_json::json!([2, 1])));
    pipeline(dir.path(), &["--set", "endpoints.m.url=http://127.0.0.1:9"]).ok();
    assert_eq!((lines(&out.join("dataset/samples.jsonl")), super::summary(&out)), (samples, summary));
}

#[test]
fn replies_that_are_of_no_use_are_counted_by_their_reason() {
    let acts = [
        r#"{"images": [1, 99]}"#,
        r#"{"images": [1, 1]}"#,
        r#"{"images": [1, 2, 3]}"#,
        r#"{"images": "all"}"#,
        "[1, 2]",
        GROUP,
        GROUP,
        r#"{"question": "Which?"}"#,
        r#"{"question": "What is in image 5?", "answer": "a cat"}"#,
        "no JSON",
        SEVEN,
    ];
    let server = Scripted::play(&acts.map(Act::Say));
    let dir = with_config(&config(&server.url, 7));
    let said = pipeline(dir.path(), &[]).ok();
    let summary = summary(&dir.path().join("out"));
    let why = |step: usize| summary["steps"][step]["rejected"].clone();
    let groups =
        serde_json::json!({"an image that is not there": 1, "not 2 to 2 images": 2, "no group": 1, "no JSON": 1});
    assert_eq!(why(0), groups);
    assert_eq!(why(1), serde_json::json!({"no question or answer": 1}));
    assert_eq!(why(3), serde_json::json!({"an image that is not there": 1}));
    assert!(said.contains("no question is left"), "{said}");
}

#[test]
fn a_folder_goes_on_with_its_own_texts() {
    let server = Scripted::play(&[Act::Say(r#"{"images": []}"#)]);
    let dir = with_config(&config(&server.url, 1));
    pipeline(dir.path(), &[]).ok();
    assert!(dir.path().join("out/prompts/verifier.txt").is_file());
    let writer = dir.path().join("w.txt");
    std::fs::copy(dir.path().join("out/prompts/writer.txt"), &writer).unwrap();
    pipeline(dir.path(), &["--set", "writer.prompt=w.txt"]).ok();
    std::fs::write(&writer, "Ask.").unwrap();
    let other = pipeline(dir.path(), &["--set", "writer.prompt=w.txt"]);
    other.fails(2, &["writer.txt: the prompt is another now", "another folder"]);
    pipeline(dir.path(), &["--set", "writer.temperature=0.1"]).fails(2, &["config.toml", "another `writer`"]);
}

#[test]
fn a_server_that_fails_ends_the_run_and_not_the_work() {
    let server = Scripted::play(&[Act::Say(GROUP), Act::Status(400, "", r#"{"error": {"message": "no such thing"}}"#)]);
    let dir = with_config(&config(&server.url, 3));
    pipeline(dir.path(), &[]).fails(1, &["no such thing"]);
    assert_eq!(lines(&dir.path().join("out/1-groups.jsonl")).len(), 1);
}
