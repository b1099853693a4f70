//! Ctrl-C: the first one leaves a checkpoint to go on from, the second one ends the run at once.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::harness::{Place, metrics};

/// Starts a run; its errors are read line by line.
fn start(place: &Place, args: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut child = place.command(args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap());
    (child, lines)
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Waits for a line with `text`.
fn wait_for(lines: &mut impl BufRead, text: &str) {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended before {text:?}");
    }
}

/// What more it says.
fn rest(mut lines: impl Read) -> String {
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    rest
}

fn interrupt(child: &Child) {
    signal(child, "-INT");
}

/// Names in the folder.
fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn nothing_half_made_is_left_by_commands_that_do_not_watch() {
    let place = Place::new();
    fs::create_dir(place.path("sets")).unwrap();
    let (mut child, mut lines) = start(&place, &["data", "synth", "--out", "sets/a", "--samples", "1000000"]);
    while !names(&place.path("sets")).iter().any(|name| name.starts_with(".a.part-")) {
        assert!(child.try_wait().unwrap().is_none());
    }
    interrupt(&child);
    assert_eq!(child.wait().unwrap().signal(), Some(2), "{}", rest(&mut lines));
    assert_eq!(names(&place.path("sets")), Vec::<String>::new());
}

#[test]
fn a_base_model_in_the_temporary_folder_goes_with_the_second() {
    let place = Place::new();
    fs::create_dir(place.path("tmp")).unwrap();
    let args = ["train", "config.toml", "--set", "model.path=nano", "--set", "train.steps=100000"];
    let mut command = place.command(&args);
    command.env("TMPDIR", place.path("tmp")).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut lines, "held out after 0");
    assert_eq!(names(&place.path("tmp")).len(), 1);
    interrupt(&child);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(names(&place.path("tmp")), Vec::<String>::new());
}

#[test]
fn a_hangup_ends_a_run_in_good_order_but_not_under_nohup() {
    let place = Place::new();
    let args = ["train", "config.toml", "--set", "train.steps=60", "--set", "train.eval_every=0"];
    for (ignored, code) in [(false, 1), (true, 0)] {
        let plain = place.command(&args);
        let mut command = Command::new(if ignored { "nohup" } else { "env" });
        command.arg(plain.get_program()).args(plain.get_args()).current_dir(plain.get_current_dir().unwrap());
        command.args(["--out", if ignored { "ignored" } else { "hung-up" }]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        wait_for(&mut lines, "step 2/");
        signal(&child, "-HUP");
        let said = rest(lines);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{said}");
    }
}

#[test]
fn the_first_keeps_a_checkpoint_that_the_run_goes_on_from() {
    let place = Place::new();
    let long = ["--set", "train.checkpoint_every=0", "--set", "train.eval_every=0"];
    let args = [&["train", "config.toml", "--out", "run", "--set", "train.steps=100000"], &long[..]].concat();
    let (mut child, mut lines) = start(&place, &args);
    wait_for(&mut lines, "step 2/");
    interrupt(&child);
    let said = rest(lines);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.contains("error: interrupted after step") && said.contains("go on with --resume"), "{said}");
    let kept: Vec<String> = fs::read_dir(place.path("run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let step: usize = kept[0].strip_prefix("step-").unwrap().parse().unwrap();
    assert!(said.contains(&format!("interrupted after step {step};")), "{said}");
    let steps = format!("train.steps={}", step + 1);
    let resumed = place.train("run", &[&["--resume", "--set", &steps], &long[..]].concat());
    let whole = place.train("whole", &[&["--set", &steps], &long[..]].concat());
    assert_eq!(metrics(&resumed), metrics(&whole));
}

#[test]
fn the_second_ends_it_at_once() {
    let place = Place::new();
    // A step of many rollouts: long enough that two signals fall into one.
    let large = ["--set", "train.prompts_per_step=6", "--set", "train.group_size=2000", "--set", "train.steps=9"];
    let args = [&["train", "config.toml"], &large[..]].concat();
    let (mut child, mut lines) = start(&place, &args);
    wait_for(&mut lines, "held out after 0");
    // Past what comes between the evaluation and the step.
    std::thread::sleep(std::time::Duration::from_secs(1));
    interrupt(&child);
    wait_for(&mut lines, "once more to stop at once");
    interrupt(&child);
    let said = rest(lines);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!said.contains("error: interrupted"), "{said}");
    assert!(!place.path("runs/tiny/checkpoints").exists());
}
