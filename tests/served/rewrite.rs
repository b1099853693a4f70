//! Trajectories in a served model's words: taken where the answer stays, and nothing is left where nobody answers.

use serde_json::Value;

use super::done::Done;
use super::process::command;
use super::scripted::{Act, Scripted};

/// Annotates one sample whose answer is known, by a server that does `acts`.
fn annotate(dir: &std::path::Path, server: &Scripted) -> Done {
    let args = [
        "data",
        "annotate",
        "world",
        "--out",
        "told",
        "--model",
        "nano",
        "--endpoint",
        &server.url,
        "--served-model",
        "m",
    ];
    Done::from(command(&args).current_dir(dir).output().unwrap())
}

fn said(dir: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("told/openai.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| row["messages"][1]["content"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_text_is_taken_only_with_the_annotated_answer() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let world = "world.questions={ read = 0.0, which = 0.0, same = 0.0, find = 1.0 }";
    let synth = ["data", "synth", "--out", "world", "--samples", "1", "--seed", "3", "--set", world];
    Done::from(command(&synth).current_dir(dir).output().unwrap()).ok();
    let own = ["data", "annotate", "world", "--out", "own", "--model", "nano"];
    Done::from(command(&own).current_dir(dir).output().unwrap()).ok();
    std::fs::rename(dir.join("own"), dir.join("told")).unwrap();
    let plain = said(dir).remove(0);
    let answer = plain.split("</think>").nth(1).unwrap();

    let other = Scripted::play(&[Act::Say(
        "<think>It is nowhere.</think><answer>{\"image\": 1, \"bbox_2d\": [0, 0, 1, 1]}</answer>",
    )]);
    std::fs::remove_dir_all(dir.join("told")).unwrap();
    let report = annotate(dir, &other).ok();
    assert!(report.contains("not taken") && said(dir) == [plain.clone()], "{report}");
    let asked = other.came()[0].body["messages"][0]["content"].to_string();
    assert!(asked.contains("data:image/png;base64,") && asked.contains("copy the answer to the letter"));

    std::fs::remove_dir_all(dir.join("told")).unwrap();
    let anew = format!("<think>I looked long, and there it was.</think>{answer}");
    let kept = Scripted::play(&[Act::Say(Box::leak(anew.clone().into_boxed_str()))]);
    annotate(dir, &kept).ok();
    assert_eq!(said(dir), [anew]);

    std::fs::remove_dir_all(dir.join("told")).unwrap();
    let refuses = Scripted::play(&[Act::Status(401, "", r#"{"error": {"message": "no"}}"#)]);
    annotate(dir, &refuses).fails(1, &["nano-000000", "cannot be rewritten", "401"]);
    assert!(!dir.join("told").exists());
}
