//! Pipelines through the real binary: what each step leaves, that it goes on where it ended, and what people say of it.
#![cfg(all(feature = "served", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the report")]
#[path = "../../analysis/tests/browser/mod.rs"]
mod browser;
#[path = "../cli/done.rs"]
mod done;
mod killed;
#[allow(dead_code, reason = "not all that other tests ask of a server")]
#[path = "../served/process.rs"]
mod process;
mod review;
mod roles;
mod rules;
#[allow(dead_code, reason = "not all that a server can do wrong")]
#[path = "../served/scripted.rs"]
mod scripted;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::done::Done;
use self::process::command;

/// A pipeline of rules over the nano world.
const RULES: &str = "out = \"out\"\ngroups = 40\nquestions = 2\n\n[images]\ncount = 30\n";

/// A folder with a pipeline's config.
fn with_config(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.toml"), config).unwrap();
    dir
}

/// Runs the binary in a folder.
fn run(dir: &Path, args: &[&str]) -> Done {
    command(args).current_dir(dir).output().unwrap().into()
}

/// Runs the pipeline of a folder.
fn pipeline(dir: &Path, more: &[&str]) -> Done {
    run(dir, &[&["data", "pipeline", "p.toml"], more].concat())
}

/// The lines of a JSON Lines file.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every file below the folder of a pipeline with its bytes, but those that tell of time: hidden ones, replies and the summary.
fn contents(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut folders, mut found) = (vec![out.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            let timed = name.starts_with('.') || ["replies.jsonl", "summary.json", "config.toml"].contains(&&*name);
            if path.is_dir() {
                folders.push(path);
            } else if !timed {
                found.push((path.strip_prefix(out).unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The summary without seconds.
fn summary(out: &Path) -> Value {
    let mut summary: Value = serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap();
    for step in summary["steps"].as_array_mut().unwrap() {
        assert!(step["cost"].as_object_mut().unwrap().remove("seconds").unwrap().as_f64().unwrap() >= 0.0);
    }
    summary
}
