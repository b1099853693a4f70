//! Sweeps the list of rewards: it is the registry, and each tag survives a trip through serde with all defaults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use imagent_core::{BoxFrame, Reward};
use imagent_rewards::{
    Accumulative, Accuracy, Counterfactual, DeepEyes, Format, Grader, GroundingImage, GroundingObject, ImAgent, Length,
    PLUGINS, Product, Sum, ToolUse,
};
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
fn more_defaults_in_full() {
    let written = |reward: &dyn Reward| serde_json::to_string(reward).unwrap();
    let exact = r#""grader":{"kind":"exact"}"#;
    assert_eq!(
        written(&Accumulative::default()),
        format!(r#"{{"type":"accumulative",{exact},"per_turn":0.1,"max_turns":0,"needs_format":false}}"#)
    );
    assert_eq!(written(&Counterfactual::default()), format!(r#"{{"type":"counterfactual",{exact},"gain":1.0}}"#));
    assert_eq!(written(&Length::default()), r#"{"type":"length","shape":"at_most","tokens":1024,"slack":256}"#);
    assert_eq!(written(&ToolUse::default()), r#"{"type":"tool_use"}"#);
    assert_eq!(written(&GroundingImage::default()), r#"{"type":"grounding_image"}"#);
    assert_eq!(
        written(&GroundingObject::default()),
        concat!(
            r#"{"type":"grounding_object","measure":"iou","threshold":0.5,"counted_on":"right","difficulty":false,"#,
            r#""frame":"shown","gold_frame":"original"}"#
        )
    );
    let accuracy = format!(r#"{{"type":"accuracy",{exact}}}"#);
    assert_eq!(
        written(&Sum::default()),
        format!(
            r#"{{"type":"sum","offset":0.0,"terms":[{{"weight":1.0,"reward":{accuracy}}},{}]}}"#,
            r#"{"weight":0.2,"reward":{"type":"format"}}"#
        )
    );
    assert_eq!(
        written(&Product::default()),
        format!(r#"{{"type":"product","factors":[{accuracy},{{"type":"format"}}]}}"#)
    );
}

#[test]
fn graders_round_trip_and_are_strict() {
    let all = [
        json!({"kind": "exact"}),
        json!({"kind": "choice"}),
        json!({"kind": "number", "tolerance": 0.5, "relative": 0.25}),
        json!({"kind": "box", "threshold": 0.75, "partial": true, "frame": "unit", "gold_frame": "relative1000"}),
        json!({"kind": "set", "partial": true}),
    ];
    for full in all {
        let grader: Grader = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(serde_json::to_value(grader).unwrap(), full);
        let mut more = full.clone();
        more["colour"] = json!(1);
        assert!(serde_json::from_value::<Grader>(more).unwrap_err().to_string().contains("colour"), "{full}");
        assert!(read(&json!({"type": "imagent", "grader": full})).is_ok());
    }
    let plain: Grader = serde_json::from_value(json!({"kind": "number"})).unwrap();
    assert_eq!(plain, Grader::Number { tolerance: 1e-6, relative: 0.0 });
    let plain: Grader = serde_json::from_value(json!({"kind": "box"})).unwrap();
    let (frame, gold_frame) = (BoxFrame::Shown, BoxFrame::Original);
    assert_eq!(plain, Grader::Box { threshold: 0.5, partial: false, frame, gold_frame });
    let whole: Grader = serde_json::from_value(json!({"kind": "number", "tolerance": 2})).unwrap();
    assert_eq!(whole, Grader::Number { tolerance: 2.0, relative: 0.0 });
}

#[test]
fn ranges_are_checked_when_read() {
    let refused = |value: Value| read(&value).unwrap_err();
    assert!(refused(json!({"type": "imagent", "tool_gain": -1})).contains("must not be negative, got -1"));
    let tolerance = json!({"kind": "number", "tolerance": -0.1});
    assert!(refused(json!({"type": "accuracy", "grader": tolerance})).contains("must not be negative"));
    assert!(refused(json!({"type": "accuracy", "grader": {"kind": "judge"}})).contains("judge"));
    assert!(refused(json!({"type": "accumulative", "per_turn": -0.1})).contains("must not be negative"));
    assert!(refused(json!({"type": "length", "slack": 0})).contains("must be at least 1, got 0"));
    assert!(refused(json!({"type": "sum", "terms": []})).contains("must have from 1 to 16 entries, got 0"));
    assert!(refused(json!({"type": "product", "factors": vec![json!({"type": "format"}); 17]})).contains("got 17"));
    assert!(refused(json!({"type": "sum", "terms": [{"weight": 1}]})).contains("reward"));
    let share = |threshold: f64| json!({"type": "accuracy", "grader": {"kind": "box", "threshold": threshold}});
    assert!(refused(share(0.0)).contains("must be above 0 and at most 1, got 0"));
    assert!(refused(json!({"type": "grounding_object", "threshold": 0.0})).contains("must be above 0 and at most 1"));
    assert!(refused(json!({"type": "grounding_object", "measure": "diou"})).contains("diou"));
    assert!(refused(share(1.5)).contains("got 1.5"));
}
