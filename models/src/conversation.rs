//! Whole conversations as tokens, and which of them the assistant wrote: what supervised training is about.

use std::ops::Range;
use std::sync::Arc;

use image::RgbImage;
use imagent_core::{Content, Message, Role, Segment, ToolSpec};

use crate::codec::Codec;
use crate::error::{ModelError, Result};

/// What ends a turn in the text of a template.
const END: &str = "<|im_end|>";

/// A conversation as tokens.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its tokens, with its images.
    pub segment: Segment,
    /// Positions that the assistant wrote: each turn with its end token.
    pub taught: Vec<Range<usize>>,
}

impl Codec {
    /// Encodes a conversation up to its last assistant's turn. What the template writes and each turn of the assistant are encoded apart, as
    /// in a rollout, so that what is taught is, token for token, what would be sampled.
    ///
    /// # Errors
    /// When the template fails or changes what an assistant said, an assistant's turn has an image, or images and placeholders
    /// differ in number.
    pub fn conversation(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        images: &[Arc<RgbImage>],
    ) -> Result<Conversation> {
        let mut said = Conversation { segment: Segment::default(), taught: Vec::new() };
        let (mut done, mut from, mut rest) = (String::new(), 0, images);
        let turns = messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
        for (at, turn) in turns {
            let text = text_of(turn)?;
            let rendered = self.render(&messages[..at], tools, true)?;
            let between = rendered.strip_prefix(done.as_str()).ok_or_else(|| changed(messages.len()))?;
            let count = messages[from..at].iter().map(images_of).sum::<usize>().min(rest.len());
            let (own, later) = rest.split_at(count);
            append(&mut said.segment, self.segment(between, own)?);
            let start = said.segment.ids.len();
            said.segment.ids.extend(self.tokenizer.encode(&text)?);
            said.segment.ids.push(self.tokenizer.special().im_end);
            said.taught.push(start..said.segment.ids.len());
            done = rendered + &text + END;
            (from, rest) = (at + 1, later);
        }
        match rest.len() {
            0 => Ok(said),
            _ => Err(ModelError::ImageCount { pads: images.len() - rest.len(), images: images.len() }),
        }
    }
}

fn changed(messages: usize) -> ModelError {
    let message = format!("the template changes earlier turns of a conversation of {messages} messages");
    ModelError::Template { op: "conversation", message }
}

fn images_of(message: &Message) -> usize {
    message.content.iter().filter(|content| matches!(content, Content::Image)).count()
}

fn text_of(turn: &Message) -> Result<String> {
    let mut all = String::new();
    for content in &turn.content {
        match content {
            Content::Text { text } => all.push_str(text),
            Content::Image => {
                let message = "an assistant's turn has an image".to_owned();
                return Err(ModelError::Template { op: "conversation", message });
            }
        }
    }
    Ok(all)
}

fn append(all: &mut Segment, more: Segment) {
    let base = all.ids.len();
    all.ids.extend(more.ids);
    all.images.extend(more.images.into_iter().map(|mut image| {
        image.start += base;
        image
    }));
}
