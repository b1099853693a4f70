//! What watches over a run: alarms in log, file and report; and where attention goes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dfdx::prelude::NoneTape;
use imagent::config::{Config, open_dataset};
use imagent::models::qwen::positions::GridSpan;
use imagent::models::qwen::{Packed, Sequence, SequenceImage, Target, Trace};
use serde_json::Value;

use super::harness::{Place, metrics};

const LOUD: [&str; 4] = ["--set", "alarms.entropy_collapse.floor=100", "--set", "alarms.entropy_collapse.window=1"];

#[test]
fn an_alarm_is_told_once_in_log_file_and_report() {
    let place = Place::new();
    let done = place.run(&[&["train", "config.toml", "--out", "run"], &LOUD[..]].concat());
    assert_eq!(done.err.matches("alarm at step 1: entropy_collapse: update/entropy ").count(), 1, "{}", done.err);
    assert_eq!(done.err.matches("alarm at").count(), 1, "{}", done.err);
    done.ok();
    let run = place.path("run");
    let told = fs::read_to_string(run.join("alarms.jsonl")).unwrap();
    let alarm: Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!((&alarm["step"], &alarm["rule"]), (&1.into(), &"entropy_collapse".into()));
    assert!(fs::read_to_string(run.join("report.html")).unwrap().contains("Entropy collapse"));

    // Resumed from its first checkpoint it tells the same; alarms change nothing else, and may be set otherwise then.
    let whole = metrics(&run);
    (2..=3).for_each(|step| fs::remove_dir_all(run.join(format!("checkpoints/step-{step:06}"))).unwrap());
    let again = place.run(&[&["train", "config.toml", "--out", "run", "--resume"], &LOUD[..]].concat());
    assert!(!again.err.contains("alarm at"), "it was told before: {}", again.err);
    again.ok();
    assert_eq!(fs::read_to_string(run.join("alarms.jsonl")).unwrap(), told);
    assert_eq!(metrics(&run), whole);
    let off = ["--set", "alarms.off=[\"entropy_collapse\"]"];
    place.run(&[&["train", "config.toml", "--out", "run", "--resume"], &LOUD[..], &off].concat()).ok();
    assert_eq!(fs::read_to_string(run.join("alarms.jsonl")).unwrap(), "");
    assert_eq!(metrics(&place.train("quiet", &[])), whole);
    assert!(!place.path("quiet/alarms.jsonl").exists());
}

#[test]
fn alarms_that_are_wrong_are_named() {
    let place = Place::new();
    let refused = |set: &str, parts: &[&str]| place.run(&["train", "config.toml", "--set", set]).fails(2, parts);
    refused(
        "alarms.entropy_colapse.floor=1",
        &["unknown key `alarms.entropy_colapse`", "did you mean `entropy_collapse`?"],
    );
    refused("alarms.call_loops.share=2", &["`alarms.call_loops.share`", "in (0, 1]"]);
    refused("alarms.off=[\"entropy\"]", &["`alarms.off.0`", "one of tool_abandonment"]);
}

fn attention(place: &Place, out: &str, more: &[&str]) -> Value {
    place.run(&[&["attention", "config.toml", "--out", out], more].concat()).ok();
    serde_json::from_slice(&fs::read(place.path(out).join("attention.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn shares_of_attention_sum_to_one_and_are_those_of_a_forward_pass() {
    let place = Place::new();
    let found = attention(&place, "attention", &["--maps", "1"]);
    let samples = found["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 4);
    let mut tokens = 0;
    for sample in samples {
        for layer in sample["layers"].as_array().unwrap() {
            let shares = layer["shares"].as_array().unwrap();
            assert_eq!(shares.len(), sample["tokens"].as_array().unwrap().len());
            for share in shares {
                assert!((numbers(share).iter().sum::<f64>() - 1.0).abs() < 1e-5, "{share}");
                tokens += 1;
            }
            assert!(layer["image_entropy"].as_array().unwrap().iter().all(|x| x.as_f64().unwrap() > 0.0));
        }
    }
    assert!(tokens > 4, "something was measured");
    first_token_as_forward(&place, &samples[0]);
    let out = place.path("attention");
    ["progress.svg", "progress.png", "layers.svg", "layers.png"]
        .iter()
        .for_each(|f| assert!(out.join(f).is_file(), "{f}"));
    assert_eq!(fs::read_dir(out.join("maps")).unwrap().count(), 1);
    let again = attention(&place, "again", &["--layers", "0", "--limit", "2"]);
    assert_eq!(again["samples"][0]["layers"][0], samples[0]["layers"][0], "the same whatever else is measured");
    place.run(&["attention", "config.toml", "--layers", "9"]).fails(2, &["--layers", "no layer 9"]);
    place.run(&["attention", "config.toml", "--layers", "x"]).fails(2, &["--layers", "0,2-4"]);
    place.run(&["attention", "--model", "absent"]).fails(2, &["--data"]);
}

#[test]
fn evaluations_of_a_run_say_how_much_attention_images_get() {
    let place = Place::new();
    let never = ["--set", "train.eval_sampling.temperature=0"];
    place
        .run(&[&["train", "config.toml", "--out", "run", "--set", "train.attention_samples=3"], &never[..]].concat())
        .ok();
    let rows = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let before: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    let share = |name: &str| before["metrics"][format!("eval/attention/{name}")].as_f64().unwrap();
    let found = attention(&place, "attention", &[&["--limit", "3"], &never[..]].concat());
    let mut shares = Vec::new();
    for sample in found["samples"].as_array().unwrap() {
        let on_images: Vec<usize> = (sample["parts"].as_array().unwrap().iter().enumerate())
            .filter(|(_, part)| part["kind"] == "image" || part["kind"] == "observation_image")
            .map(|(i, _)| i)
            .collect();
        let tokens = sample["layers"].as_array().unwrap().iter().flat_map(|layer| layer["shares"].as_array().unwrap());
        let of: Vec<f64> = tokens.map(|share| on_images.iter().map(|i| numbers(share)[*i]).sum()).collect();
        shares.push(of.iter().sum::<f64>() / of.len() as f64);
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let said = share("images");
    // Training and inference have products of their own, which round differently.
    assert!((said - mean).abs() < 1e-6 && said > 0.0 && said < 1.0, "{said} {mean}");
    assert!(share("sample_images") <= said);
    place.run(&["train", "config.toml", "--out", "none", "--set", "train.attention_samples=0"]).ok();
    assert!(!fs::read_to_string(place.path("none/metrics.jsonl")).unwrap().contains("attention/"));
}

/// The first sampled token is drawn from the last row of the prompt: what `forward --attention` gives for it, over the heads.
fn first_token_as_forward(place: &Place, sample: &Value) {
    let config = Config::read(Path::new(&place.config()), &[] as &[&str]).unwrap();
    let held_out = open_dataset(&config.data.eval.clone().unwrap(), "data.eval.path").unwrap();
    let first = held_out.get(0).unwrap();
    assert_eq!(sample["sample"], first.id.as_str());
    let mut parts = config.build_for_inference(Box::new(Vec::new()), None, None).unwrap();
    let trajectory = parts.experiment.play(&first).unwrap();
    let policy = &parts.experiment.policy;
    let ids = &trajectory.ids[..trajectory.prompt_len];
    let images: Vec<SequenceImage> = trajectory
        .spans
        .iter()
        .filter(|span| span.start < ids.len())
        .map(|span| SequenceImage {
            span: GridSpan { start: span.start, rows: span.rows, columns: span.columns },
            pixels: Arc::clone(&trajectory.shelf.get(span.image).unwrap().pixels),
        })
        .collect();
    let target = |row| Target { row, id: 0, suppress: false };
    let sequence = Sequence { ids, images, prompt_len: 0, targets: (0..ids.len()).map(target).collect() };
    let packed = Packed::new(&[sequence]).unwrap();
    let patches: Vec<_> =
        packed.images.iter().map(|image| Arc::new(policy.codec().processor.patches(image.as_ref()).unwrap())).collect();
    let mut trace = Trace::off().with_attention();
    policy.model.hidden(&packed, &patches, NoneTape, &mut trace).unwrap();
    let probe = &trace.attention.as_ref().unwrap()[0];
    let summed = probe.summed(ids.len() - 1);
    let of_image: f64 = trajectory.spans[0].range().map(|i| f64::from(summed[i])).sum::<f64>() / probe.heads() as f64;
    let place_of =
        sample["parts"].as_array().unwrap().iter().position(|part| part["kind"] == "image" && part["image"] == 1);
    let measured = sample["layers"][0]["shares"][0][place_of.unwrap()].as_f64().unwrap();
    assert!((measured - of_image).abs() < 1e-6, "{measured} and {of_image}");
}
