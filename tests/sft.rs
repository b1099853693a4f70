//! `imagent sft` through the real binary: a tiny course, its gate, resuming, and refusals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

use imagent::sft::Course;
use tempfile::TempDir;

/// The shipped course cut down to its last stage, on a model that is smaller still.
fn course(dir: &Path, gate: &str) -> std::path::PathBuf {
    let shipped = std::fs::read_to_string("configs/nano-base.toml").unwrap();
    let head = &shipped[..shipped.find("[[stages]]").unwrap()];
    let stage = format!(
        "[nano]\nhidden_size = 32\nlayers = 1\nheads = 2\nintermediate_size = 32\nvision_hidden_size = 32\n\
         vision_depth = 1\nvision_heads = 2\nvision_intermediate_size = 32\n\n[[stages]]\nname = \"all\"\nsteps = 2\n\
         learning_rate = 1e-3\ntasks = {{ where = 1.0, corner = 1.0, calls = 1.0, which = 1.0, sheet = 1.0, read = 1.0, zoom = 1.0, \
         guess = 1.0, stray = 1.0, look_back = 1.0 }}\nworld = {{}}\ngate = {gate}\n"
    );
    let path = dir.join("course.toml");
    std::fs::write(&path, format!("{head}\n{stage}").replace("batch = 32", "batch = 10")).unwrap();
    path
}

fn sft(config: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imagent")).arg("sft").arg(config).args(more).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_course_ends_in_a_model_that_can_be_sampled_and_is_the_same_again() {
    let dir = TempDir::new().unwrap();
    let config = course(dir.path(), "{ lessons = 2, taught = { zoom = 0.0 }, episodes = 2 }");
    let run = |out: &str| {
        let out = dir.path().join(out);
        let done = sft(&config, &["--out", out.to_str().unwrap()]);
        assert!(done.status.success(), "{}", stderr(&done));
        std::fs::read(out.join("model/model.safetensors")).unwrap()
    };
    assert_eq!(run("a"), run("b"));
    let out = dir.path().join("a");
    let again = sft(&config, &["--out", out.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--resume"), "{}", stderr(&again));
    let resumed = sft(&config, &["--resume", "--out", out.to_str().unwrap()]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
}

#[test]
fn the_shipped_courses_are_read() {
    let read = |path: &str| Course::read(Path::new(path), &[]).unwrap();
    assert!(read("configs/nano-base.toml").stages.iter().all(|stage| !stage.think));
    assert!(read("configs/experiments/think-base.toml").stages.iter().all(|stage| stage.think));
    assert!(read("configs/experiments/look-back-base.toml").stages.iter().all(|stage| !stage.think));
}

#[test]
fn a_model_is_taught_to_think_first() {
    let dir = TempDir::new().unwrap();
    let config = course(dir.path(), "{ lessons = 2, taught = { zoom = 0.0 } }");
    let tasks = "stages.0.tasks={ read = 1.0, zoom = 1.0, guess = 1.0, stray = 1.0, look_back = 1.0 }";
    let run = |out: &str, think: &str| {
        let out = dir.path().join(out);
        let done = sft(&config, &["--set", tasks, "--set", think, "--out", out.to_str().unwrap()]);
        assert!(done.status.success(), "{}", stderr(&done));
        std::fs::read(out.join("model/model.safetensors")).unwrap()
    };
    let thinking = run("think", "stages.0.think=true");
    assert_eq!(thinking, run("again", "stages.0.think=true"));
    assert_ne!(thinking, run("direct", "stages.0.think=false"), "a thought is other tokens to teach");
}

#[test]
fn a_gate_that_does_not_hold_fails_the_run_and_keeps_the_model() {
    let dir = TempDir::new().unwrap();
    let config = course(dir.path(), "{ lessons = 2, taught = { zoom = 0.99 } }");
    let out = dir.path().join("run");
    let done = sft(&config, &["--out", out.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1));
    assert!(stderr(&done).contains("taught/zoom"), "{}", stderr(&done));
    assert!(out.join("checkpoints/01-all.failed/model.safetensors").is_file());
    assert!(!out.join("model").exists());
}

#[test]
fn bad_courses_are_refused_by_key() {
    let dir = TempDir::new().unwrap();
    let config = course(dir.path(), "{}");
    for (set, named) in [
        ("batch=0", "batch"),
        ("stages.0.tasks={zom=1.0}", "zom"),
        ("stages.0.learning_rate=-1.0", "learning_rate"),
        ("stages.0.think=true", "stages.0.think"),
        ("stages.0.world.across=2.0", "across"),
        ("labelweight=1.0", "labelweight"),
    ] {
        let done = sft(&config, &["--set", set, "--out", dir.path().join("x").to_str().unwrap()]);
        assert_eq!(done.status.code(), Some(2), "{set}: {}", stderr(&done));
        assert!(stderr(&done).contains(named), "{set}: {}", stderr(&done));
        assert!(!dir.path().join("x").exists(), "{set} left a folder");
    }
}

#[test]
fn an_adapter_on_the_nano_base_is_the_same_again_with_two_threads_and_resumed() {
    let dir = TempDir::new().unwrap();
    let config = course(dir.path(), "{ lessons = 2, taught = { zoom = 0.0 } }");
    let model =
        "model={ path = \"nano\", lora = { rank = 2, dropout = 0.1, target_modules = [\"q_proj\", \"v_proj\"] } }";
    let run = |out: &str, threads: &str, more: &[&str]| {
        let out = dir.path().join(out);
        let mut command = Command::new(env!("CARGO_BIN_EXE_imagent"));
        command.env("RAYON_NUM_THREADS", threads).arg("sft").arg(&config).args(["--set", model]).args(more);
        let done = command.arg("--out").arg(&out).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        std::fs::read(out.join("model/adapter_model.safetensors")).unwrap()
    };
    let one = run("one", "1", &[]);
    assert!(one == run("two", "2", &[]));
    assert!(!dir.path().join("one/model/model.safetensors").exists());
    let settings = std::fs::read_to_string(dir.path().join("one/model/adapter_config.json")).unwrap();
    assert!(settings.contains("\"base_model_name_or_path\": \"nano\""), "{settings}");
    std::fs::remove_dir_all(dir.path().join("two/checkpoints/01-all")).unwrap();
    std::fs::remove_dir_all(dir.path().join("two/model")).unwrap();
    assert!(one == run("two", "1", &["--resume"]));
}

#[test]
fn bad_models_of_courses_are_refused_by_key() {
    let dir = TempDir::new().unwrap();
    let config = course(dir.path(), "{}");
    for (set, named) in [
        ("model={ lora = { rank = 0 } }", "model.lora.rank"),
        ("model={ lora = { target_modules = [\"nothing\"] } }", "model.lora.target_modules"),
        ("model={ freeze = [\"nothing\"] }", "model.freeze"),
        ("model={ lroa = {} }", "lora"),
    ] {
        let done = sft(&config, &["--set", set, "--out", dir.path().join(named).to_str().unwrap()]);
        assert_eq!(done.status.code(), Some(2), "{set}: {}", stderr(&done));
        assert!(stderr(&done).contains(named), "{set}: {}", stderr(&done));
    }
}
