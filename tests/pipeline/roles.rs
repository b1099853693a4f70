//! Roles played by a served model: what it is asked, what is made of its replies, what it costs, and where it goes on.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::scripted::{Act, Scripted};
use super::{command, lines, run};

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
        "out = \"out\"\ngroups = {groups}\nsize = [2, 2]\n\n[images]\ncount = 9\n\n[endpoints.m]\nurl = \"{url}\"\nmodel = \"m\"\n\
         at_once = 1\nmin_pixels = 12544\nmax_pixels = 12544\n\n[prices.m]\nprompt = 1.0\ncompletion = 2.0\n\n\
         [grouper.role]\nendpoint = \"m\"\n\n[writer]\nendpoint = \"m\"\n\n[answerer]\nvotes = 2\nagreement = 1.0\n\
         role = {{ endpoint = \"m\" }}\n\n[verifier]\nendpoint = \"m\"\n\n[difficulty]\nendpoint = \"m\"\ntries = 2\ntool_tries = 2\n"
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
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.toml"), config(&server.url, 4)).unwrap();
    let done = run(dir.path(), &["data", "pipeline", "p.toml", "--json"]);
    done.works();
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    let of = |step: usize| {
        let step = &summary["steps"][step];
        (step["items"].as_u64().unwrap(), step["kept"].as_u64().unwrap(), step["cost"]["requests"].as_u64().unwrap())
    };
    assert_eq!([of(0), of(1), of(2), of(3), of(4)], [(4, 3, 4), (3, 2, 3), (2, 2, 4), (2, 1, 1), (1, 1, 4)]);
    // Of 20 tokens asked and 5 replied a request.
    assert_eq!(summary["steps"][0]["price"].as_f64(), Some(4.0 * (20.0 * 1.0 + 5.0 * 2.0) / 1e6));
    let out = dir.path().join("out");
    let verdicts = lines(&out.join("4-verdicts.jsonl"));
    assert_eq!(verdicts[0]["rejected"], "other answers (7 / 8)");
    let question = &lines(&out.join("2-questions.jsonl"))[0];
    // Boxes in pixels of the image as sent, 112 of 448.
    assert_eq!(question["kept"]["gold"], serde_json::json!([{"image": 2, "bbox": [40.0, 80.0, 120.0, 160.0]}]));
    assert_eq!(question["said"][0], QUESTION);
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
    // Nothing is asked again.
    run(dir.path(), &["data", "pipeline", "p.toml"]).works();
    assert_eq!(server.came().len(), 16);
}

#[test]
fn an_interrupted_pipeline_asks_for_the_rest_alone() {
    let server = Scripted::play(&[Act::Say(GROUP), Act::Say(GROUP), Act::Stall(Duration::from_secs(60))]);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.toml"), config(&server.url, 3)).unwrap();
    let mut child = command(dir.path(), &["data", "pipeline", "p.toml"]).spawn().unwrap();
    while server.came().len() < 3 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(lines(&dir.path().join("out/1-groups.jsonl")).len(), 2);
    // Another server goes on: all that is left is no JSON.
    let other = Scripted::play(&[Act::Say("no")]);
    fs::write(dir.path().join("p.toml"), config(&other.url, 3)).unwrap();
    run(dir.path(), &["data", "pipeline", "p.toml"]).works();
    assert_eq!(other.came().len(), 1 + 2, "a group and two questions");
    // Other words are another pipeline.
    fs::write(dir.path().join("w.txt"), "Ask.").unwrap();
    let done = run(dir.path(), &["data", "pipeline", "p.toml", "--set", "writer.prompt=\"w.txt\""]);
    done.fails(2, &["config.toml", "another `writer`"]);
}
