//! Asking a served model in a role: a text with blanks, images, and JSON back.

use std::sync::Arc;

use imagent_core::chat::{ChatError, ChatMessage, ChatModel, ChatPart, ChatRequest, python_json};
use imagent_core::{RgbImage, Role, derive, seed};
use serde_json::{Map, Value};

use super::config::RoleConfig;
use super::keep::Cost;
use crate::error::Error;

/// An image as it is sent.
pub(super) type View<'a> = dyn Fn(&RgbImage) -> Result<RgbImage, ChatError> + Sync + 'a;

/// A served model in a role.
pub(super) struct Asker<'a> {
    /// The model.
    pub(super) model: &'a dyn ChatModel,
    /// How images are sent.
    pub(super) view: &'a View<'a>,
    /// Its settings.
    pub(super) role: &'a RoleConfig,
    /// What it is told, with `{…}` for what changes.
    pub(super) prompt: &'a str,
    /// Seed of the pipeline.
    pub(super) seed: u64,
}

/// What it replied.
pub(super) struct Replied {
    /// The texts.
    pub(super) texts: Vec<String>,
    /// What it took.
    pub(super) cost: Cost,
}

impl Asker<'_> {
    /// Asks about images, which stand before the text, `times` times.
    ///
    /// # Errors
    /// When the model cannot be asked.
    pub(super) fn ask(
        &self,
        id: &str,
        images: &[Arc<RgbImage>],
        blanks: &[(&str, &str)],
        times: usize,
    ) -> Result<Replied, Error> {
        let mut parts = Vec::new();
        for (i, image) in images.iter().enumerate() {
            parts.push(ChatPart::text(format!("Image {}:", i + 1)));
            parts.push(ChatPart::image(Arc::new((self.view)(image)?)));
        }
        parts.push(ChatPart::text(filled(self.prompt, blanks)));
        let asked = ChatRequest::new(vec![ChatMessage::new(Role::User, parts)]);
        let mut replied = Replied { texts: Vec::new(), cost: Cost::default() };
        for time in 0..times {
            let key = derive(self.seed, &[seed::text(self.prompt), seed::text(id), time as u64]);
            let reply = self.model.ask(&ChatRequest {
                max_tokens: Some(self.role.max_tokens),
                temperature: Some(self.role.temperature),
                seed: Some((key >> 33) as u32),
                ..asked.clone()
            })?;
            replied.cost += Cost::of(&reply);
            replied.texts.extend(reply.choices.into_iter().next().map(|choice| choice.text));
        }
        Ok(replied)
    }
}

/// A text with its blanks filled; what is filled in is not looked at again.
fn filled(text: &str, blanks: &[(&str, &str)]) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('{') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let blank = blanks.iter().find_map(|(name, value)| {
            let tail = after.strip_prefix('{')?.strip_prefix(name)?.strip_prefix('}')?;
            Some((*value, tail))
        });
        match blank {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('{');
                rest = &after[1..];
            }
        }
    }
    out + rest
}

/// The last JSON object in a text that is one by itself, whatever stands around it.
pub(super) fn object(text: &str) -> Option<Map<String, Value>> {
    let text = text.rsplit_once("</think>").map_or(text, |(_, after)| after);
    let mut found = None;
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let mut values = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<Value>();
        rest = match values.next() {
            Some(Ok(Value::Object(map))) => {
                found = Some(map);
                &rest[at + values.byte_offset()..]
            }
            _ => &rest[at + 1..],
        };
    }
    found
}

/// A text in an object; a number or a truth value is one as well.
pub(super) fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    let text = match object.get(key)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(_) | Value::Bool(_) => python_json(&object[key]),
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_filled_once() {
        let text = "{a} and {\"b\": 1} and {b}{";
        assert_eq!(filled(text, &[("a", "{b}"), ("b", "2")]), "{b} and {\"b\": 1} and 2{");
    }

    #[test]
    fn the_last_object_counts() {
        let said = |text: &str| object(text).map(|map| python_json(&Value::Object(map)));
        assert_eq!(said("Say ```json\n{\"a\": {\"b\": 1}}\n``` done").as_deref(), Some(r#"{"a": {"b": 1}}"#));
        assert_eq!(said("{\"a\": 1} no: {\"a\": 2}").as_deref(), Some(r#"{"a": 2}"#));
        assert_eq!(said("<think>{\"a\": 1}</think> {broken").as_deref(), None);
        assert_eq!(said("{ {\"a\": 1}").as_deref(), Some(r#"{"a": 1}"#));
    }

    #[test]
    fn numbers_are_texts_too() {
        let map = object(r#"{"a": " x ", "b": 7, "c": true, "d": [1], "e": ""}"#).unwrap_or_default();
        let got = ["a", "b", "c", "d", "e", "f"].map(|key| text(&map, key));
        assert_eq!(got.map(|got| got.unwrap_or_default()), ["x", "7", "true", "", "", ""]);
    }
}
