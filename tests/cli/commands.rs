//! The commands around training: plugins, rollout, data, report.

use std::fs;

use serde_json::Value;

use super::harness::{Place, model};

#[test]
fn plugins_are_listed_for_people_and_for_scripts() {
    let place = Place::new();
    let listed: Value = serde_json::from_str(&place.run(&["plugins", "--json"]).ok()).unwrap();
    let names: Vec<String> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|p| format!("{} {}", p["kind"].as_str().unwrap(), p["type"].as_str().unwrap()))
        .collect();
    assert!(
        names.is_sorted() && names.contains(&"tool zoom_in".to_owned()) && names.contains(&"optimizer grpo".to_owned())
    );
    let zoom = listed.as_array().unwrap().iter().find(|plugin| plugin["type"] == "zoom_in").unwrap();
    assert_eq!(zoom["fields"]["min_side"], 4);
    let text = place.run(&["plugins"]).ok();
    assert!(text.contains("clip_low = 0.2\n"), "{text}");
    // The longest name has two spaces behind it, and what plug-ins do begins in one column.
    let columns = text.lines().filter(|line| !line.starts_with(' ')).map(|line| {
        let words = line.char_indices().skip_while(|(_, c)| *c != ' ').skip_while(|(_, c)| *c == ' ');
        let (about, _) = words.skip_while(|(_, c)| *c != ' ').find(|(_, c)| *c != ' ').unwrap();
        assert!(line[..about].ends_with("  "), "{line}");
        about
    });
    let columns: Vec<usize> = columns.collect();
    assert!(columns.len() == names.len() && columns.iter().all(|column| *column == columns[0]), "{text}");
}

#[test]
fn output_into_a_closed_pipe_is_no_failure() {
    let script = format!("{} plugins | head -n 1; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_imagent"));
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn a_rollout_is_shown_and_written() {
    let place = Place::new();
    place.run(&["data", "synth", "--out", "set", "--samples", "3", "--seed", "5"]).ok();
    let model = model().to_str().unwrap();
    let args = ["rollout", "--model", model, "--data", "set", "--index", "1", "--out", "episode"];
    let limits = ["--set", "limits.max_new_tokens=8"];
    let text = place.run(&[&args[..], &limits].concat()).ok();
    for part in ["question  ", "turn 1", "end       ", "gold      ", "reward    "] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let record: Value = serde_json::from_slice(&fs::read(place.path("episode/trajectory.json")).unwrap()).unwrap();
    assert_eq!(record["sample"], "nano-000001");
    let image = record["images"][0]["source"]["file"].as_str().unwrap();
    assert!(place.path("episode").join(image).is_file());
    let beyond = ["rollout", "--model", model, "--data", "set", "--index", "3"];
    place.run(&beyond).fails(2, &["no sample at position 3", "has 3"]);
}

#[test]
fn data_is_made_checked_and_counted() {
    let place = Place::new();
    let synth =
        |out: &str, more: &[&str]| place.run(&[&["data", "synth", "--out", out, "--samples", "4"], more].concat());
    assert!(synth("set", &[]).ok().contains("4 samples"));
    assert!(synth("set", &[]).ok().contains("already in"));
    synth("set", &["--seed", "2"]).fails(2, &["set", "another `seed`"]);
    synth("bad", &["--set", "world.across=2"]).fails(2, &["world.across", "between 0 and 1"]);
    synth("bad", &["--set", "world.acros=1"]).fails(2, &["unknown key `world.acros`", "did you mean `across`?"]);
    assert!(place.run(&["data", "check", "set"]).ok().contains("0 problems"));
    let stats: Value = serde_json::from_str(&place.run(&["data", "stats", "set", "--json"]).ok()).unwrap();
    assert_eq!(stats["samples"], 4);
    assert!(place.run(&["data", "stats", "set"]).ok().contains("kind"));
}

#[test]
fn a_report_is_written_anew() {
    let place = Place::new();
    let run = place.train("run", &["--set", "train.steps=1"]);
    let report = run.join("report.html");
    let first = fs::read(&report).unwrap();
    fs::remove_file(&report).unwrap();
    assert!(place.run(&["report", "run"]).ok().contains("run/report.html"));
    assert_eq!(fs::read(&report).unwrap(), first);
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let place = Place::new();
    for args in [&["trian"][..], &["train"], &["train", "config.toml", "--resumee"], &["rollout", "--index", "x"]] {
        assert_eq!(place.run(args).code, Some(2), "{args:?}");
    }
    place.run(&["--help"]).ok();
}

#[test]
fn the_base_that_comes_with_the_program_opens() {
    let place = Place::new();
    let done = place.run(&["train", "config.toml", "--set", "model.path=nano", "--set", "train.steps=0"]);
    if imagent::assets::has_nano_base() {
        done.ok();
    } else {
        done.fails(2, &["comes without a base model"]);
    }
}
