//! Pipelines through the real binary: what each step leaves, that it goes on where it ended, and what people say of it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[cfg(feature = "served")]
#[path = "../../analysis/tests/browser/mod.rs"]
mod browser;
#[cfg(feature = "served")]
mod review;
#[cfg(feature = "served")]
mod roles;
mod rules;
#[cfg(feature = "served")]
#[path = "../served/scripted.rs"]
mod scripted;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a process left.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs the binary in a folder.
pub fn run(dir: &Path, args: &[&str]) -> Done {
    let output = command(dir, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagent"));
    command.args(args).current_dir(dir).stdin(Stdio::null()).env_remove("OPENAI_API_KEY").env("NO_PROXY", "127.0.0.1");
    command
}

impl Done {
    #[track_caller]
    pub fn works(&self) {
        assert_eq!(self.code, Some(0), "{}", self.err);
    }

    /// It ended with this code, on one line that says all of `parts`.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        let lines: Vec<&str> = self.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(self.code == Some(code) && lines.len() == 1, "{:?}: {}", self.code, self.err);
        parts.iter().for_each(|part| assert!(lines[0].contains(part), "{part:?} is not in {:?}", lines[0]));
    }
}

/// The lines of a JSON Lines file.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A pipeline of rules over the nano world.
pub const RULES: &str = "out = \"out\"\ngroups = 40\nquestions = 2\n\n[images]\ncount = 30\n";
