//! The program itself: trains by its config, and says what is wrong with another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

#[test]
fn it_trains_and_leaves_a_report() {
    let place = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/margin.toml");
    let run = |sets: &[&str]| {
        let program = env!("CARGO_BIN_EXE_custom_plugin");
        Command::new(program).arg(&config).args(sets).current_dir(place.path()).output().unwrap()
    };
    let short = ["train.steps=1", "train.group_size=2", "data.train.synth.samples=4", "data.eval.synth.samples=2"];
    let done = run(&short);
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{err}");
    assert!(out.contains("step 1: reward") && out.contains("after 1 steps: held-out accuracy"), "{out}");
    assert!(place.path().join("runs/margin/report.html").is_file());
    let wrong = run(&["reward.terms.0.reward.prize=1"]);
    let err = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && err.contains("prize") && err.contains("price"), "{err}");
}
