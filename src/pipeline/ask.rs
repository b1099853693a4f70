//! Asking a served model in a role: a text, images, and JSON back.

use std::sync::Arc;

use imagent_core::chat::{ChatError, ChatImage, ChatModel, python_json};
use imagent_core::{ImageSizes, RgbImage, Size, derive, seed};
use imagent_models::image_processor::ImageProcessor;
use serde_json::{Map, Value};

use super::bank::Bank;
use super::config::RoleConfig;
use super::prompts::Prompt;
use crate::error::Error;
use crate::served::ask::{Drawing, ask};
use crate::served::evaluate::shown;

/// An image as it is sent, and its sizes.
pub(super) struct Seen {
    sent: Arc<ChatImage>,
    pub(super) sizes: ImageSizes,
}

/// A served model in a role, about one item.
pub(super) struct Asker<'a> {
    /// The model.
    pub(super) model: &'a dyn ChatModel,
    /// How images are sent.
    pub(super) view: &'a ImageProcessor,
    /// Where they come from.
    pub(super) bank: &'a Bank,
    /// Its settings.
    pub(super) role: &'a RoleConfig,
    /// What it is told.
    pub(super) prompt: &'a Prompt,
    /// Seed of the pipeline.
    pub(super) seed: u64,
    /// The item.
    pub(super) id: &'a str,
}

impl Asker<'_> {
    /// Images by their names, one in memory at its own size at a time.
    ///
    /// # Errors
    /// When one cannot be read or shown.
    pub(super) fn see(&self, images: &[String]) -> Result<Vec<Seen>, Error> {
        let size = |image: &RgbImage| Size::new(image.width(), image.height());
        let see = |name: &String| {
            let pixels = self.bank.pixels(name)?;
            let view = shown(self.view, &pixels).map_err(ChatError::from)?;
            let sizes = ImageSizes { original: size(&pixels), shown: size(&view) };
            Ok(Seen { sent: Arc::new(ChatImage::new(Arc::new(view))), sizes })
        };
        images.iter().map(see).collect()
    }

    /// Asks about images, which stand before the text, for the `time`-th time.
    ///
    /// # Errors
    /// When the model cannot be asked.
    pub(super) fn ask(&self, images: &[Seen], values: &[(&str, &str)], time: usize) -> Result<String, Error> {
        let RoleConfig { max_tokens, temperature, .. } = *self.role;
        let key = derive(self.seed, &[seed::text(self.prompt.text()), seed::text(self.id), time as u64]);
        let sent = images.iter().map(|image| Arc::clone(&image.sent));
        Ok(ask(self.model, sent, self.prompt.fill(values), &Drawing { max_tokens, temperature, key })?)
    }
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
