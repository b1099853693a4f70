//! A bound that can be switched off in a config: a number, or `"off"` (TOML has no null, and an absent key means the
//! default).

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

const OFF: &str = "off";

/// Writes the number, or `"off"`.
pub(crate) fn serialize<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(number) => serializer.serialize_f32(*number),
        None => serializer.serialize_str(OFF),
    }
}

/// Reads a number, or `"off"`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    deserializer.deserialize_any(Bound)
}

/// The same where an absent key has to be told from `"off"`.
pub(crate) fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<f32>>, D::Error> {
    deserialize(deserializer).map(Some)
}

struct Bound;

impl Visitor<'_> for Bound {
    type Value = Option<f32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number or {OFF:?}")
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(value as f32))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value as f32))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value as f32))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        if value == OFF { Ok(None) } else { Err(E::invalid_value(serde::de::Unexpected::Str(value), &self)) }
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}
