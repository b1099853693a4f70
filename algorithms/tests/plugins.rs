//! Sweep over the plug-ins: each listed tag is registered and round-trips with defaults, and no other is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use imagent_algorithms::PLUGINS;
use imagent_core::{Mask, PolicyOptimizer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn sweep<P: Serialize + DeserializeOwned + std::fmt::Debug>(tag: &str) {
    let first: P = serde_json::from_value(serde_json::json!({ "type": tag })).unwrap();
    let written = serde_json::to_value(&first).unwrap();
    assert_eq!(written["type"], tag);
    let again: P = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
    let mut typo = written;
    typo["no_such_field"] = Value::from(1);
    let error = serde_json::from_value::<P>(typo).unwrap_err().to_string();
    assert!(error.contains("no_such_field"), "{error}");
}

/// The tags that typetag knows, from its error on an unknown one.
fn registered<P: DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
    let error = serde_json::from_value::<P>(serde_json::json!({ "type": "?" })).unwrap_err().to_string();
    let known = error.split_once("expected").unwrap().1;
    let mut tags: Vec<String> = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    tags.sort();
    tags
}

fn listed(kind: &str) -> Vec<&'static str> {
    PLUGINS.iter().filter(|plugin| plugin.kind == kind).map(|plugin| plugin.tag).collect()
}

#[test]
fn the_list_is_sorted_and_is_what_is_registered() {
    assert!(PLUGINS.is_sorted_by(|a, b| a < b));
    assert_eq!(listed("mask"), registered::<Box<dyn Mask>>());
    assert_eq!(listed("optimizer"), registered::<Box<dyn PolicyOptimizer>>());
    assert_eq!(listed("mask").len() + listed("optimizer").len(), PLUGINS.len());
}

#[test]
fn every_tag_round_trips_with_defaults_and_refuses_typos() {
    listed("mask").into_iter().for_each(sweep::<Box<dyn Mask>>);
    listed("optimizer").into_iter().for_each(sweep::<Box<dyn PolicyOptimizer>>);
}
