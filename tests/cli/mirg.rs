//! Both stages of MIRG-RL through the binary: annotation to trajectories, fine-tuning on them, and reinforcement on what comes of it.

use std::fs;

use super::harness::{Place, metrics};

const WORLD: [&str; 4] = [
    "--set",
    "world.questions={ read = 0.0, which = 0.2, same = 0.0, find = 0.5, common = 0.3 }",
    "--set",
    "world.objects=[1, 2]",
];

#[test]
fn annotation_becomes_trajectories_that_are_trained_on_and_reinforced() {
    let place = Place::new();
    place.run(&[&["data", "synth", "--out", "world", "--samples", "12"][..], &WORLD].concat()).ok();
    let annotate = ["data", "annotate", "world", "--out", "told", "--model", "nano", "--wording", "short"];
    let told = place.run(&annotate).ok();
    for part in ["find", "common", "no_box", "trajectories written to told"] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert!(place.run(&annotate).ok().contains("already in told"));
    let json: serde_json::Value =
        serde_json::from_str(&place.run(&[&annotate[..], &["--json"]].concat()).ok()).unwrap();
    assert_eq!(json["counts"]["read"], 12);
    assert!(place.run(&["data", "check", "told"]).ok().contains("0 problems"));
    let config = "[data.train]\npath = \"told\"\n[data.eval]\npath = \"told\"\nlimit = 2\n[prompt]\nnumber_images = true\n\
                  [adamw]\nlearning_rate = 1e-3\n[sft]\nbatch = 4\n";
    fs::write(place.path("sft.toml"), config).unwrap();
    let told = place.run(&["sft", "sft.toml", "--out", "tuned"]).ok();
    assert!(told.contains("model       tuned/model") && told.contains("the best"), "{told}");
    place.run(&["sft", "sft.toml", "--out", "tuned"]).fails(2, &["tuned: holds a run already", "--resume"]);
    place.run(&["sft", "sft.toml", "--out", "tuned", "--resume"]).ok();
    let config = "tools = []\n[model]\npath = \"tuned/model\"\n[data.train]\npath = \"told\"\n[data.eval]\npath = \"told\"\n\
                  [prompt]\nnumber_images = true\n[limits]\nmax_turns = 1\nmax_new_tokens = 48\n\
                  [reward]\ntype = \"sum\"\n[[reward.terms]]\nreward = { type = \"grounding_object\", difficulty = true }\n\
                  [[reward.terms]]\nweight = 0.5\nreward = { type = \"grounding_image\" }\n\
                  [train]\nsteps = 1\nprompts_per_step = 2\ngroup_size = 4\n";
    fs::write(place.path("rl.toml"), config).unwrap();
    place.run(&["train", "rl.toml", "--out", "run"]).ok();
    let rows = metrics(&place.path("run"));
    let last: serde_json::Value = serde_json::from_str(rows.last().unwrap()).unwrap();
    for name in ["acc@0.5", "image_accuracy", "mean_iou"] {
        let figure = last["metrics"][format!("eval/grounding/{name}")].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&figure), "{name} {figure}");
    }
    let weight = last["metrics"]["part/difficulty"].as_f64().unwrap();
    assert!((1.0..=std::f64::consts::E + 1e-6).contains(&weight), "{weight}");
}

#[test]
fn a_published_conversation_is_trained_on_with_the_images_of_all_its_turns() {
    let place = Place::new();
    place.run(&["data", "synth", "--out", "nano", "--samples", "4"]).ok();
    fs::create_dir_all(place.path("chat")).unwrap();
    for n in 0..4 {
        fs::copy(place.path(&format!("nano/images/00000{n}.png")), place.path(&format!("chat/{n}.png"))).unwrap();
    }
    let row = |n: usize| {
        serde_json::json!({"images": [format!("{n}.png"), format!("{}.png", (n + 1) % 4)], "conversations": [
            {"from": "human", "value": "<image> What digit ?"}, {"from": "gpt", "value": "3"},
            {"from": "human", "value": "And in <image> ?"}, {"from": "gpt", "value": "4"}]})
    };
    fs::write(place.path("chat/train.json"), serde_json::json!([row(0), row(1), row(2), row(3)]).to_string()).unwrap();
    assert!(place.run(&["data", "check", "chat"]).ok().contains("4 rows, 4 images, 0 problems"));
    assert!(place.run(&["data", "import", "chat", "--out", "own"]).ok().contains("4 samples with 4 images"));
    let config = "[data.train]\npath = \"chat\"\n[adamw]\nlearning_rate = 1e-3\n[sft]\nbatch = 2\n";
    fs::write(place.path("sft.toml"), config).unwrap();
    place.run(&["sft", "sft.toml", "--out", "published"]).ok();
    place.run(&["sft", "sft.toml", "--set", "data.train.path=own", "--out", "imported"]).ok();
    let rows = metrics(&place.path("published"));
    assert!(rows.len() == 2 && rows[0].contains("sft/loss"), "{rows:?}");
    assert_eq!(rows, metrics(&place.path("imported")));
    // Reinforcement learning asks the first question, with its image alone.
    let asked = place.run(&["rollout", "--model", "published/model", "--data", "own", "--index", "0"]).ok();
    assert!(asked.contains("image 1   448x448") && !asked.contains("image 2"), "{asked}");
}

#[test]
fn nothing_to_train_on_leaves_no_run() {
    let place = Place::new();
    place.run(&["data", "synth", "--out", "digits", "--samples", "3"]).ok();
    let config =
        "[data.train]\npath = \"digits\"\n[trajectories]\nwording = \"boxes\"\n[adamw]\nlearning_rate = 1e-3\n";
    fs::write(place.path("sft.toml"), config).unwrap();
    place
        .run(&["sft", "sft.toml", "--out", "tuned"])
        .fails(2, &["data.train", "none of its samples can be trained on"]);
    assert!(!place.path("tuned").exists());
}

#[test]
fn what_cannot_be_annotated_or_trained_on_is_told_by_name() {
    let place = Place::new();
    place.run(&[&["data", "synth", "--out", "world", "--samples", "2"][..], &WORLD].concat()).ok();
    let annotate = |more: &[&str]| place.run(&[&["data", "annotate", "world", "--out", "told"][..], more].concat());
    annotate(&[]).fails(2, &["--frame shown needs --model"]);
    annotate(&["--frame", "pixels"]).fails(2, &["--frame pixels: known are shown, original"]);
    annotate(&["--frame", "unit", "--wording", "loud"]).fails(2, &["--wording", "`plain`, `short`, `boxes` or a file"]);
    annotate(&["--model", "absent"]).fails(2, &["absent"]);
    place.run(&["data", "annotate", "gone", "--out", "told", "--frame", "unit"]).fails(2, &["gone"]);
    fs::write(place.path("coco.json"), "{}").unwrap();
    let digits = ["data", "synth", "--out", "digits", "--samples", "3", "--set", "world.questions.which=0"];
    place.run(&digits).ok();
    let none = ["data", "annotate", "digits", "--out", "none", "--frame", "unit"];
    place.run(&none).fails(2, &["no trajectory is left of 3 samples; rejected: 3 no_box"]);
    assert!(!place.path("none").exists());
    let coco = ["data", "annotate", "coco.json", "--out", "told", "--coco", "--frame", "unit"];
    place.run(&coco).fails(2, &["coco.json", "images"]);
    assert!(!place.path("told").exists());
    fs::write(place.path("sft.toml"), "[data.train]\npath = \"world\"\n").unwrap();
    place.run(&["sft", "sft.toml", "--out", "a"]).fails(2, &["nano-00000", "no `meta.conversation`"]);
    place.run(&["sft", "sft.toml", "--set", "sft.batch=0", "--out", "b"]).fails(2, &["sft.batch"]);
}
