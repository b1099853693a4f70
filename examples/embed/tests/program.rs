//! The program itself: prints what it learns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

#[test]
fn it_says_that_it_learned() {
    let done = Command::new(env!("CARGO_BIN_EXE_embed")).output().unwrap();
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && out.ends_with("accuracy 1.000\n"), "{out}");
}
