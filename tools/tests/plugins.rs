//! Sweeps the list of tools: it is the registry, and each tag survives a trip through serde with all defaults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use imagent_core::Tool;
use imagent_tools::{BoxFrame, Compare, Contrast, Flip, LookBack, Mark, PLUGINS, Rotate, Withheld, ZoomIn};
use serde_json::json;

/// The registry cannot be listed; its error for an unknown tag can.
fn registry() -> Vec<String> {
    let error = serde_json::from_value::<Box<dyn Tool>>(json!({"type": "?"})).unwrap_err().to_string();
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn read(json: &serde_json::Value) -> Result<Box<dyn Tool>, String> {
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
fn each_tag_round_trips_and_is_the_name_that_the_model_calls() {
    for tag in PLUGINS {
        let tool = read(&json!({"type": tag})).unwrap();
        let full = serde_json::to_value(&tool).unwrap();
        assert_eq!(full["type"], *tag);
        assert_eq!(serde_json::to_value(read(&full).unwrap()).unwrap(), full);
        // What is withheld goes by the name of the tool behind it.
        assert_eq!(tool.spec().name, if *tag == "withheld" { "zoom_in" } else { tag });
        assert_eq!(tool.spec().parameters["required"][0], "image");
        assert!(read(&json!({"type": tag, "colour": 1})).unwrap_err().contains("colour"));
    }
}

#[test]
fn defaults_in_full() {
    let written = |tool: &dyn Tool| serde_json::to_string(tool).unwrap();
    assert_eq!(written(&LookBack::default()), r#"{"type":"look_back"}"#);
    assert_eq!(written(&Contrast::default()), r#"{"type":"contrast"}"#);
    assert_eq!(written(&Flip::default()), r#"{"type":"flip"}"#);
    assert_eq!(written(&Rotate::default()), r#"{"type":"rotate"}"#);
    assert_eq!(
        written(&Withheld::default()),
        r#"{"type":"withheld","tool":{"type":"zoom_in","frame":"shown","min_side":4,"max_aspect":100,"min_output":0}}"#
    );
    assert_eq!(written(&Mark::default()), r#"{"type":"mark","frame":"shown","min_side":1,"width":2}"#);
    assert_eq!(
        written(&Compare::default()),
        r#"{"type":"compare","frame":"shown","min_side":4,"max_aspect":50,"gap":8}"#
    );
    assert_eq!(
        written(&ZoomIn::default()),
        r#"{"type":"zoom_in","frame":"shown","min_side":4,"max_aspect":100,"min_output":0}"#
    );
}

#[test]
fn ranges_are_checked_when_read() {
    let refused = |field: &str, value: u64| read(&json!({"type": "zoom_in", field: value})).unwrap_err();
    assert!(refused("max_aspect", 0).contains("max_aspect must be from 1 to 200, got 0"));
    assert!(refused("max_aspect", 201).contains("max_aspect"));
    assert!(refused("min_output", 2049).contains("min_output must be from 0 to 2048, got 2049"));
    let refused = |tag: &str, field: &str, value: u64| read(&json!({"type": tag, field: value})).unwrap_err();
    assert!(refused("mark", "width", 0).contains("width must be from 1 to 64, got 0"));
    assert!(refused("compare", "gap", 29).contains("gap must be from 0 to 28, got 29"));
    assert!(refused("compare", "max_aspect", 100).contains("max_aspect must be from 1 to 99, got 100"));
    assert!(read(&json!({"type": "zoom_in", "frame": "inches"})).unwrap_err().contains("inches"));
}

#[test]
fn frames_have_their_own_names() {
    use imagent_core::{Frame, Original, Relative1000, Shown, Unit};
    let names = [Shown::NAME, Original::NAME, Relative1000::NAME, Unit::NAME];
    let frames = [BoxFrame::Shown, BoxFrame::Original, BoxFrame::Relative1000, BoxFrame::Unit];
    for (name, frame) in names.iter().zip(frames) {
        assert_eq!(serde_json::to_value(frame).unwrap(), *name);
    }
}

#[test]
fn the_model_is_told_the_frame() {
    let describe = |frame| ZoomIn { frame, ..ZoomIn::default() }.spec().parameters["properties"]["bbox_2d"].to_string();
    assert!(describe(BoxFrame::Shown).contains("as shown"));
    assert!(describe(BoxFrame::Relative1000).contains("thousandths"));
    assert_eq!(ZoomIn::default().spec().parameters["required"], json!(["image", "bbox_2d"]));
}
