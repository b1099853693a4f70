//! Checks of fields as they are read from a config, and the parts that all rewards name alike.

use imagent_core::{Score, Trajectory};
use serde::de::{Deserialize, Deserializer, Error};

/// A finite number.
pub(crate) fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    value.is_finite().then_some(value).ok_or_else(|| D::Error::custom(format_args!("must be finite, got {value}")))
}

/// A finite number that is not negative.
pub(crate) fn not_negative<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = finite(deserializer)?;
    (value >= 0.0).then_some(value).ok_or_else(|| D::Error::custom(format_args!("must not be negative, got {value}")))
}

/// A number above 0 and at most 1.
pub(crate) fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = finite(deserializer)?;
    let within = value > 0.0 && value <= 1.0;
    within.then_some(value).ok_or_else(|| D::Error::custom(format_args!("must be above 0 and at most 1, got {value}")))
}

/// 1 when a tool call of the trajectory returned an image.
pub(crate) fn tool(trajectory: &Trajectory) -> f64 {
    f64::from(u8::from(trajectory.used_tool()))
}

/// A reward with the parts that all rewards have.
pub(crate) fn score(value: f64, accuracy: f64, format: f64, tool: f64) -> Score {
    Score::new(value as f32, [("accuracy", accuracy as f32), ("format", format as f32), ("tool", tool as f32)])
}
