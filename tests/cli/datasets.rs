//! Datasets of published formats and mixtures: checked, imported, trained on.

use std::fs;

use super::harness::{Place, metrics};

/// Conversations on the images of a small world: one row each, then a broken one.
fn conversations(place: &Place) {
    place.run(&["data", "synth", "--out", "nano", "--samples", "3"]).ok();
    fs::create_dir_all(place.path("chat")).unwrap();
    let row = |n: usize| {
        fs::copy(place.path(&format!("nano/images/00000{n}.png")), place.path(&format!("chat/{n}.png"))).unwrap();
        format!(
            r#"{{"images": ["{n}.png"], "messages": [{{"role": "user", "content": "<image>What digit ?"}}, {{"role": "assistant", "content": "{n}"}}]}}"#
        )
    };
    fs::write(place.path("chat/train.jsonl"), [row(0), row(1), row(2)].join("\n")).unwrap();
}

#[test]
fn a_published_dataset_is_checked_and_imported() {
    let place = Place::new();
    conversations(&place);
    let told = place.run(&["data", "check", "chat", "--preview", "sheet.png"]).ok();
    for part in ["openai", "train.jsonl", "448×448", "3 rows, 3 images, 0 problems"] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert_eq!(image::open(place.path("sheet.png")).unwrap().to_rgb8().dimensions(), (208, 608));
    place.run(&["data", "check", "chat", "--preview", "sheet.jpg"]).fails(2, &["--preview sheet.jpg", "a PNG"]);
    assert!(
        place.run(&["data", "import", "chat", "--out", "own", "--limit", "2"]).ok().contains("2 samples with 2 images")
    );
    assert!(place.run(&["data", "import", "chat", "--out", "own", "--limit", "2"]).ok().contains("already in"));
    assert!(place.run(&["data", "check", "own"]).ok().contains("2 rows, 2 images, 0 problems"));
    assert!(place.run(&["data", "check", "own/samples.jsonl"]).ok().contains("2 rows, 2 images, 0 problems"));
    place.run(&["data", "import", "chat", "--out", "none", "--limit", "0"]).fails(2, &["--limit", "at least 1"]);
    place.run(&["data", "import", "chat", "--out", "own"]).fails(2, &["own: holds something else already"]);

    fs::write(place.path("chat/1.png"), "no image").unwrap();
    fs::remove_file(place.path("chat/2.png")).unwrap();
    let checked = place.run(&["data", "check", "chat"]);
    checked.fails(1, &["chat: 2 problems"]);
    assert!(checked.err.contains("train.jsonl:2: image \"1.png\": not an image"), "{}", checked.err);
    assert!(checked.err.contains("train.jsonl:3: image \"2.png\" does not exist"), "{}", checked.err);
    assert!(checked.out.contains("3 rows, 1 images, 2 problems"), "{}", checked.out);
    place.run(&["data", "import", "chat", "--out", "half"]).fails(2, &["train.jsonl:3"]);
    assert!(!place.path("half").exists());
    let rest = place.run(&["data", "import", "chat", "--out", "rest", "--skip-bad"]);
    assert!(rest.out.contains("1 samples with 1 images written to rest, 2 bad rows left out"), "{}", rest.out);
    for part in ["left out: ", "train.jsonl:2: image \"1.png\": not an image", "train.jsonl:3: image \"2.png\" does"] {
        assert!(rest.err.contains(part), "{part:?} is not in {}", rest.err);
    }
    place.run(&["data", "check", "absent"]).fails(2, &["absent: no such folder"]);
    place.run(&["data", "check", "chat", "--format", "nonsense"]).fails(2, &["`format`", "\"nonsense\" is none of"]);
    place.run(&["data", "check", "chat", "--format", "mmiu"]).fails(2, &["nothing of the format `mmiu`"]);
    assert!(place.run(&["data", "formats"]).ok().contains("hrbench"));
    let json: serde_json::Value = serde_json::from_str(&place.run(&["data", "check", "own", "--json"]).ok()).unwrap();
    assert_eq!((json["rows"].as_u64(), json["answers"]["text"].as_u64()), (Some(2), Some(2)));
    let stats: serde_json::Value = serde_json::from_str(&place.run(&["data", "stats", "own", "--json"]).ok()).unwrap();
    assert_eq!((stats["samples"].as_u64(), stats["images"].as_u64()), (Some(2), Some(2)));
    fs::copy(place.path("chat/train.jsonl"), place.path("chat/test.jsonl")).unwrap();
    place.run(&["data", "check", "chat"]).fails(2, &["holds the splits test, train"]);
    assert!(place.run(&["data", "check", "chat", "--split", "test", "--limit", "1"]).ok().contains("1 rows, 1 images"));
}

#[test]
fn a_mixture_is_trained_on_and_resumed() {
    let place = Place::new();
    conversations(&place);
    let mix = "data.train={ mix = [{ path = \"nano\", weight = 2.0 }, { path = \"chat\", format = \"openai\", name = \"talk\" }] }";
    let whole = place.train("whole", &["--set", mix]);
    let rollouts = fs::read_dir(whole.join("rollouts")).unwrap().map(|entry| entry.unwrap().path());
    let of_steps = rollouts.filter(|path| path.to_string_lossy().contains("step-") && path.is_file());
    let sampled: String = of_steps.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(sampled.contains("\"nano/nano-") || sampled.contains("\"talk/train-"), "{sampled}");
    let figures = metrics(&whole);
    for step in [2, 3] {
        fs::remove_dir_all(whole.join(format!("checkpoints/step-{step:06}"))).unwrap();
    }
    let resumed = place.train("whole", &["--set", mix, "--resume"]);
    assert_eq!(metrics(&resumed), figures);
    let held = mix.replace("data.train", "data.eval");
    let out = place.run(&["eval", "config.toml", "--set", &held, "--limit", "2", "--json"]).ok();
    assert!(out.contains("nano, chat"), "{out}");
    let refused = |set: &str, parts: &[&str]| place.run(&["train", "config.toml", "--set", set]).fails(2, parts);
    refused("data.train={ path = \"nano\", mix = [{ path = \"chat\" }] }", &["`data.train.mix`", "in place of path"]);
    refused("data.train={ mix = [{ path = \"chat\", weight = 0.0 }] }", &["`data.train.mix.weight`", "above 0"]);
    refused("data.train={ mix = [{ weight = 1.0 }] }", &["`data.train.mix.path`", "not set"]);
    refused("data.train={ mix = [{ path = \"chat\" }, { path = \"chat\" }] }", &["`mix`", "called \"chat\""]);
    refused("data.train={ path = \"chat\", format = \"opnai\" }", &["`data.train.format`", "\"opnai\" is none of"]);
}
