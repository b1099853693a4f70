//! Benchmarks through the program: scored twice, written down item by item, taken up again, in parts.

use std::fs;

use serde_json::{Value, json};

use super::harness::{Place, model};

/// V\*Bench with two annotations, on images of a small world.
fn vstar(place: &Place) {
    place.run(&["data", "synth", "--out", "nano", "--samples", "2"]).ok();
    for (n, folder) in ["direct_attributes", "relative_position"].iter().enumerate() {
        let dir = place.path(&format!("vstar/{folder}"));
        fs::create_dir_all(&dir).unwrap();
        fs::copy(place.path(&format!("nano/images/00000{n}.png")), dir.join("a.jpg")).unwrap();
        let annotation =
            json!({"target_object": ["cup"], "bbox": [[2, 3, 5, 4]], "question": "What digit?", "options": ["1", "2"]});
        fs::write(dir.join("a.json"), annotation.to_string()).unwrap();
    }
}

#[test]
fn a_benchmark_is_run_taken_up_again_and_reported() {
    let place = Place::new();
    vstar(&place);
    let args = ["eval", "config.toml", "--bench", "vstar", "--data", "vstar"];
    let run = |more: &[&str]| place.run(&[&args[..], more].concat());
    let text = run(&["--out", "whole"]).ok();
    for part in ["options published", "options shuffled", "direct_attributes", "mean over items", "official", "strict"]
    {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let read = |dir: &str, name: &str| fs::read_to_string(place.path(&format!("{dir}/{name}"))).unwrap();
    let result: Value = serde_json::from_str(&read("whole", "result.json")).unwrap();
    assert_eq!(result["tables"][1]["joined"]["strict"]["n"], 2);
    let items = read("whole", "items.jsonl");
    let lines: Vec<&str> = items.lines().collect();
    assert_eq!(lines.len(), 4, "two items in two orders");
    let first: Value = serde_json::from_str(lines[0]).unwrap();
    assert!(first["question"].as_str().unwrap().ends_with("directly."), "{first}");
    assert!(first["turns"][0]["text"].is_string() && first["scores"]["official"].is_number(), "{first}");

    // The file is cut off within a line: that item and those after it are played again, with the same result.
    fs::write(place.path("whole/items.jsonl"), &items[..lines[0].len() + 1 + lines[1].len() / 2]).unwrap();
    fs::remove_file(place.path("whole/result.json")).unwrap();
    run(&["--out", "whole"]).ok();
    assert_eq!(read("whole", "items.jsonl"), items);

    // In two parts: the first says that it is done, the second reports.
    assert!(run(&["--out", "parts", "--shard", "1/2"]).ok().contains("this part is done"));
    assert_eq!(run(&["--out", "parts", "--shard", "2/2"]).ok(), text);
    assert_eq!(read("parts", "result.json"), read("whole", "result.json"));

    run(&["--out", "whole", "--limit", "1"]).fails(2, &["another `rows`"]);
    run(&[]).fails(2, &["--out"]);
    run(&["--out", "x", "--shard", "3/2"]).fails(2, &["shard 3 of 2"]);
    run(&["--out", "x", "--shard", "half"]).fails(2, &["--shard half"]);
    run(&["--out", "x", "--frame", "metres"]).fails(2, &["--frame metres"]);
    let other = |name: &str| place.run(&["eval", "config.toml", "--bench", name, "--data", "vstar", "--out", "x"]);
    other("nonsense").fails(2, &["\"nonsense\" is none of vstar"]);
    other("muir").fails(2, &["muir is read from the format muirbench, and this is vstar"]);
    let model = model().to_str().unwrap();
    let own = ["eval", "--model", model, "--bench", "mifg", "--data", "nano", "--out", "own", "--json"];
    let own: Value = serde_json::from_str(&place.run(&own).ok()).unwrap();
    assert!(own["tables"][0]["joined"].get("official").is_none(), "{own}");
}
