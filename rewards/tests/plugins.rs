//! Sweeps the list of rewards: it is the registry, and each tag survives a trip through serde with all defaults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use imagent_core::Reward;
use imagent_rewards::{Accuracy, DeepEyes, Format, Grader, ImAgent, PLUGINS};
use serde_json::{Value, json};

/// The registry cannot be listed; its error for an unknown tag can.
fn registry() -> Vec<String> {
    let error = serde_json::from_value::<Box<dyn Reward>>(json!({"type": "?"})).unwrap_err().to_string();
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn read(json: &Value) -> Result<Box<dyn Reward>, String> {
    serde_json::from_value(json.clone()).map_err(|error| error.to_string())
}

#[test]
fn the_list_is_sorted_and_is_the_registry() {
    assert!(PLUGINS.is_sorted());
    let mut registered = registry();
    registered.sort();
    assert_eq!(registered, PLUGINS);
}

#[test]
fn each_tag_round_trips() {
    for tag in PLUGINS {
        let full = serde_json::to_value(read(&json!({"type": tag})).unwrap()).unwrap();
        assert_eq!(full["type"], *tag);
        assert_eq!(serde_json::to_value(read(&full).unwrap()).unwrap(), full);
        assert!(read(&json!({"type": tag, "colour": 1})).unwrap_err().contains("colour"));
    }
}

#[test]
fn defaults_in_full() {
    let written = |reward: &dyn Reward| serde_json::to_string(reward).unwrap();
    assert_eq!(written(&Accuracy::default()), r#"{"type":"accuracy","grader":{"kind":"exact"}}"#);
    assert_eq!(written(&Format::default()), r#"{"type":"format"}"#);
    assert_eq!(
        written(&ImAgent::default()),
        r#"{"type":"imagent","grader":{"kind":"exact"},"tool_gain":1.0,"format_weight":0.2}"#
    );
    assert_eq!(
        written(&DeepEyes::default()),
        concat!(
            r#"{"type":"deepeyes","grader":{"kind":"exact"},"accuracy_weight":0.8,"format_weight":0.2,"#,
            r#""tool_weight":1.2,"max_answer_chars":1000}"#
        )
    );
}

#[test]
fn graders_round_trip_and_are_strict() {
    for full in [json!({"kind": "exact"}), json!({"kind": "choice"}), json!({"kind": "number", "tolerance": 0.5})] {
        let grader: Grader = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(serde_json::to_value(grader).unwrap(), full);
        let mut more = full.clone();
        more["colour"] = json!(1);
        assert!(serde_json::from_value::<Grader>(more).unwrap_err().to_string().contains("colour"), "{full}");
        assert!(read(&json!({"type": "imagent", "grader": full})).is_ok());
    }
    let plain: Grader = serde_json::from_value(json!({"kind": "number"})).unwrap();
    assert_eq!(plain, Grader::Number { tolerance: 1e-6 });
    let whole: Grader = serde_json::from_value(json!({"kind": "number", "tolerance": 2})).unwrap();
    assert_eq!(whole, Grader::Number { tolerance: 2.0 });
}

#[test]
fn ranges_are_checked_when_read() {
    let refused = |value: Value| read(&value).unwrap_err();
    assert!(refused(json!({"type": "imagent", "tool_gain": -1})).contains("must not be negative, got -1"));
    let tolerance = json!({"kind": "number", "tolerance": -0.1});
    assert!(refused(json!({"type": "accuracy", "grader": tolerance})).contains("must not be negative"));
    assert!(refused(json!({"type": "accuracy", "grader": {"kind": "judge"}})).contains("judge"));
}
