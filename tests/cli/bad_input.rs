//! Everything that a user can get wrong ends with exit code 2 (or 1 where the machine fails) and one line that says where.

use std::fs;
use std::path::Path;

use super::harness::{Place, model};

/// The line of the config that holds `text`, as errors name it.
fn line(place: &Place, text: &str) -> String {
    let config = fs::read_to_string(place.config()).unwrap();
    let line = config.lines().position(|line| line.contains(text)).unwrap() + 1;
    format!("config.toml:{line}: ")
}

/// Trains with one piece of the config replaced: refused, naming the line of the new piece and all of `parts`.
fn refused(from: &str, to: &str, parts: &[&str]) {
    let place = Place::new();
    place.with(from, to);
    let at = line(&place, to.lines().last().unwrap());
    place.run(&["train", "config.toml"]).fails(2, &[&[at.as_str()], parts].concat());
    assert!(!place.path("runs").exists() && !place.path("data").exists(), "nothing may be left behind");
}

#[test]
fn unknown_and_misspelt_keys() {
    refused("steps = 3", "stepz = 3", &["unknown key `train.stepz`", "did you mean `steps`?"]);
    refused("seed = 3", r#""co\nlour" = 3"#, &[r"unknown key `co\nlour`", "known are"]);
    refused("[train]", "[trian]", &["unknown key `trian`", "did you mean `train`?"]);
    refused("seed = 3", "colour = 3", &["unknown key `colour`", "known are", "name"]);
    let gian = "type = \"imagent\"\ntool_gian = 2.0";
    refused("type = \"imagent\"", gian, &["unknown key `reward.tool_gian`", "did you mean `tool_gain`?"]);
    refused(
        "type = \"zoom_in\"",
        "type = \"zoom_in\"\nmin_sid = 3",
        &["`tools.0.min_sid`", "did you mean `min_side`?"],
    );
    refused("images = [2, 2]", "imags = [2, 2]", &["`data.train.synth.world.imags`", "did you mean `images`?"]);
    refused("type = \"zoom_in\"", "type = \"zoom\"", &["`tools.0.type`", "did you mean `zoom_in`?"]);
    let grader = "type = \"imagent\"\ngrader = { kind = \"number\", tolerence = 1 }";
    refused("type = \"imagent\"", grader, &["unknown key `reward.grader.tolerence`"]);
    let place = Place::new();
    place.with("type = \"action\"", "ends = []");
    let at = line(&place, "[[masks]]");
    place.run(&["train", "config.toml"]).fails(2, &[&at, "`masks.0`", "missing field `type`"]);
}

#[test]
fn wrong_types() {
    refused("steps = 3", "steps = \"three\"", &["`train.steps`", "expected a whole number"]);
    refused("steps = 3", "steps = -3", &["`train.steps`", "expected a whole number"]);
    refused("type = \"zoom_in\"", "type = 4", &["`tools.0.type`"]);
    let place = Place::new();
    let text = place.text().replace("[[tools]]\ntype = \"zoom_in\"", "");
    fs::write(place.config(), text.replace("seed = 3", "seed = 3\ntools = [\"zoom_in\"]")).unwrap();
    let at = line(&place, "tools = ");
    place.run(&["train", "config.toml"]).fails(2, &[&at, "`tools.0`", "expected a table with a `type`"]);
    refused("seed = 3", "seed = 9223372036854775808", &["a whole number must be below 2^63"]);
    refused("seed = 3", "prompt = 4", &["`prompt`", "expected a table"]);
    refused("type = \"imagent\"", "type = \"imagent\"\ntool_gain = \"much\"", &["`reward.tool_gain`", "number"]);
    refused(
        "type = \"zoom_in\"",
        "type = \"zoom_in\"\nframe = \"inches\"",
        &["`tools.0.frame`", "inches", "known are"],
    );
    refused("eval_sampling = { temperature = 1.0 }", "eval_sampling = 1.0", &["`train.eval_sampling`", "a table"]);
}

#[test]
fn where_nothing_can_be_written_is_told_before_the_work() {
    let place = Place::new();
    fs::write(place.path("file"), "mine").unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    let eval = |more: &[&str]| place.run(&[&["eval", "absent.toml"], more].concat());
    // The config is not read before.
    eval(&["--out", "folder"]).fails(1, &["folder", "directory"]);
    eval(&["--out", "file/figures.json"]).fails(1, &["file/figures.json"]);
    eval(&["--save", "file/folder"]).fails(1, &["file/folder"]);
    eval(&["--out", "new/figures.json"]).fails(2, &["absent.toml"]);
    assert!(!place.path("new").exists());
    place.run(&["attention", "config.toml", "--out", "file"]).fails(1, &["file"]);
    assert_eq!(fs::read_to_string(place.path("file")).unwrap(), "mine");
}

#[test]
fn values_out_of_range() {
    refused("group_size = 3", "group_size = 0", &["`train.group_size`", "must be at least 1, got 0"]);
    refused("max_turns = 2", "max_turns = 0", &["`limits.max_turns`", "at least 1"]);
    refused("learning_rate = 1e-3", "learning_rate = -1.0", &["`adamw.learning_rate`", "at least 0"]);
    refused("samples = 6", "samples = 0", &["`data.train.synth.samples`", "at least 1"]);
    refused("images = [2, 2]", "images = [3, 2]", &["`data.train.synth.world.images`"]);
    refused("temperature = 1.0", "temperature = -1.0", &["`train.eval_sampling.temperature`", "at least 0"]);
    refused("name = \"tiny\"", "name = \"../tiny\"", &["`name`", "letters"]);
    let clip = "[optimizer]\ntype = \"grpo\"\nclip_low = 2.0\n\n[adamw]\nlearning_rate = 1e-4";
    let place = Place::new();
    place.with("[adamw]\nlearning_rate = 1e-3", clip);
    let at = line(&place, "clip_low");
    place.run(&["train", "config.toml"]).fails(2, &[&at, "`optimizer.clip_low`", "in [0, 1]"]);
}

#[test]
fn broken_toml_and_broken_sets() {
    refused("steps = 3", "steps = = 3", &[]);
    let place = Place::new();
    let set = |set: &str, parts: &[&str]| place.run(&["train", "config.toml", "--set", set]).fails(2, parts);
    set("train.stepz=3", &["--set train.stepz=3", "unknown key `train.stepz`", "did you mean `steps`?"]);
    set("train.steps=x", &["--set train.steps=x", "`train.steps`", "whole number"]);
    set("train.steps", &["--set train.steps", "key=value"]);
    set("tools=[", &["--set tools=[", "not a TOML value"]);
    set("masks.5.type=action", &["--set masks.5.type=action", "no position of a list of 1"]);
    set("name.x=1", &["--set name.x=1", "not a table"]);
    set("reward.type=gold", &["--set reward.type=gold", "unknown value `gold`"]);
}

#[test]
fn missing_files() {
    let place = Place::new();
    place.run(&["train", "absent.toml"]).fails(2, &["absent.toml: No such file"]);
    place.run(&["train", "config.toml", "--set", "model.path=absent"]).fails(2, &["absent: no such model folder"]);
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    place
        .run(&["train", "config.toml", "--set", "model.path=empty"])
        .fails(2, &["cannot open the model", "there is none in empty"]);
    let sets = ["--set", "data.train={ path = \"absent\" }"];
    place.run(&[&["train", "config.toml"], sets.as_slice()].concat()).fails(2, &["absent: no such folder"]);
    place.run(&["report", "absent"]).fails(2, &["absent: not a run folder"]);
    place.run(&["eval"]).fails(2, &["--model"]);
}

/// A dataset of one image and these lines.
fn dataset(place: &Place, lines: &[&str]) {
    let images = place.path("set/images");
    fs::create_dir_all(&images).unwrap();
    let made = place.path("made");
    place.run(&["data", "synth", "--out", "made", "--samples", "1"]).ok();
    let image = first_image(&made).expect("a synthetic dataset has images");
    fs::copy(image, images.join("1.png")).unwrap();
    fs::write(images.join("bad.png"), "no image at all").unwrap();
    fs::write(place.path("outside.png"), "x").unwrap();
    fs::write(place.path("set/samples.jsonl"), lines.join("\n")).unwrap();
}

fn first_image(folder: &Path) -> Option<std::path::PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries.iter().find_map(|path| {
        if path.is_dir() {
            first_image(path)
        } else {
            path.extension().is_some_and(|e| e == "png").then(|| path.clone())
        }
    })
}

#[test]
fn datasets_that_are_wrong() {
    let sample =
        |id: &str, image: &str| format!(r#"{{"id": "{id}", "images": ["{image}"], "question": "q", "answer": "1"}}"#);
    let good = sample("a", "images/1.png");
    let cases: [(&[&str], &[&str]); 7] = [
        (&[&good, &sample("b", "images/bad.png")], &["samples.jsonl:2", "images/bad.png", "not an image"]),
        (&[&good, &sample("b", "images/2.png")], &["samples.jsonl:2", "images/2.png", "does not exist"]),
        (&[&sample("b", "../outside.png")], &["samples.jsonl:1", "../outside.png", "not inside the dataset"]),
        (&[&sample("b", "/etc/hostname")], &["samples.jsonl:1", "/etc/hostname", "not inside the dataset"]),
        (&[], &["samples.jsonl", "the dataset is empty"]),
        (&[&good, &good], &["samples.jsonl:2", "id \"a\"", "line 1"]),
        (&[&good, r#"{"id": "b", "images": [], "question": "q"}"#], &["samples.jsonl:2", "missing field `answer`"]),
    ];
    for (lines, parts) in cases {
        let place = Place::new();
        dataset(&place, lines);
        let model = model().to_str().unwrap();
        place.run(&["eval", "--model", model, "--data", "set"]).fails(2, parts);
        let train = ["train", "config.toml", "--set", "data.train={ path = \"set\" }"];
        place.run(&[&train[..], &["--set", "data.eval={ path = \"set\" }"]].concat()).fails(2, parts);
        let checked = place.run(&["data", "check", "set"]);
        assert_eq!(checked.code, Some(1), "the check is done, and found something");
        parts.iter().for_each(|part| assert!(checked.err.contains(part), "{part:?} is not in {}", checked.err));
    }
}

/// A copy of the model with one file changed.
fn broken_model(place: &Place, file: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let copy = place.path("broken");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    fs::write(copy.join(file), change(fs::read(copy.join(file)).unwrap())).unwrap();
}

#[test]
fn checkpoints_that_do_not_fit() {
    let place = Place::new();
    let refused = |parts: &[&str]| place.run(&["train", "config.toml", "--set", "model.path=broken"]).fails(2, parts);
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{text}");
            text.replacen(from, to, 1).into_bytes()
        }
    };
    broken_model(&place, "config.json", replace("\"intermediate_size\": 48", "\"intermediate_size\": 64"));
    refused(&["model.safetensors", "expected shape [64, 32], got [48, 32]"]);
    broken_model(&place, "config.json", replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2"));
    refused(&["model.safetensors", "model.layers.1", "is missing"]);
    broken_model(&place, "config.json", replace("{", "{,"));
    refused(&["config.json", "not valid JSON"]);
    broken_model(&place, "model.safetensors", |bytes| bytes[..bytes.len() / 2].to_vec());
    refused(&["model.safetensors", "not a complete safetensors file"]);
    broken_model(&place, "tokenizer.json", |_| b"{}".to_vec());
    refused(&["tokenizer"]);
}

#[test]
fn an_output_folder_that_is_in_use() {
    let place = Place::new();
    place.train("run", &["--set", "train.steps=0"]);
    place.run(&["train", "config.toml", "--out", "run"]).fails(2, &["run: holds a run already", "--resume"]);
    let other = ["train", "config.toml", "--out", "run", "--resume", "--set", "train.group_size=2"];
    place.run(&other).fails(2, &["run/config.toml", "train.group_size = 3", "this config has 2"]);
    place.train("longer", &["--set", "train.steps=2"]);
    let fewer = ["train", "config.toml", "--out", "longer", "--resume", "--set", "train.steps=1"];
    place.run(&fewer).fails(2, &["longer: the run there has 2 steps", "`train.steps` is 1"]);
    assert!(fs::read_to_string(place.path("longer/config.toml")).unwrap().contains("steps = 2"));
    let save = ["eval", "config.toml", "--save", "longer"];
    place.run(&save).fails(2, &["longer: holds ", "no folder of an evaluation"]);
    assert!(fs::read_to_string(place.path("longer/config.toml")).unwrap().contains("steps = 2"));
    fs::create_dir(place.path("mine")).unwrap();
    fs::write(place.path("mine/thesis.txt"), "precious").unwrap();
    for resume in [&[][..], &["--resume"]] {
        let args = [&["train", "config.toml", "--out", "mine"], resume].concat();
        place.run(&args).fails(2, &["mine: holds other files already"]);
    }
    assert_eq!(fs::read_dir(place.path("mine")).unwrap().count(), 1);
    place.run(&["train", "config.toml", "--out", "mine/thesis.txt"]).fails(2, &["thesis.txt: holds a file already"]);
}

#[test]
fn a_model_that_has_diverged_is_no_result() {
    let place = Place::new();
    let args = ["train", "config.toml", "--out", "run", "--set", "adamw.learning_rate=1e30"];
    place.run(&args).fails(1, &["is not finite", "step"]);
}

/// A limit on the size of files stands in for a full disk: writing fails in the middle of a file.
#[cfg(target_os = "linux")]
#[test]
fn no_space_left() {
    let place = Place::new();
    place.train("whole", &["--set", "train.steps=1"]);
    let binary = env!("CARGO_BIN_EXE_imagent");
    let script = format!("trap '' XFSZ; ulimit -f 8; exec {binary} train config.toml --out run --set train.steps=1");
    let output = std::process::Command::new("bash").args(["-c", &script]).current_dir(place.dir.path()).output();
    let done = super::done::Done::from(output.unwrap());
    done.fails(1, &["run/", "File too large"]);
    let left = fs::read_dir(place.path("run/checkpoints")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "half a checkpoint is none");
    place.train("run", &["--resume", "--set", "train.steps=1"]);
    assert_eq!(super::harness::metrics(&place.path("run")), super::harness::metrics(&place.path("whole")));
}
