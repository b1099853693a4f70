//! One question to a chat model, about images.

use std::sync::Arc;

use imagent_core::Role;
use imagent_core::chat::{ChatError, ChatImage, ChatMessage, ChatModel, ChatPart, ChatRequest};

/// How a reply is drawn.
pub(crate) struct Drawing {
    /// Most tokens of it.
    pub(crate) max_tokens: usize,
    /// Divides the logits.
    pub(crate) temperature: f32,
    /// Names the randomness.
    pub(crate) key: u64,
}

/// What a model says to a text, before which the images stand by their numbers; empty if it says nothing.
///
/// # Errors
/// When the model cannot be asked.
pub(crate) fn ask(
    model: &dyn ChatModel,
    images: impl IntoIterator<Item = Arc<ChatImage>>,
    text: String,
    drawing: &Drawing,
) -> Result<String, ChatError> {
    let mut parts = Vec::new();
    for (i, image) in images.into_iter().enumerate() {
        parts.push(ChatPart::text(format!("Image {}:", i + 1)));
        parts.push(ChatPart::Image(image));
    }
    parts.push(ChatPart::text(text));
    let reply = model.ask(&ChatRequest {
        max_tokens: Some(drawing.max_tokens),
        temperature: Some(drawing.temperature),
        // As many bits as every server reads.
        seed: Some((drawing.key >> 33) as u32),
        ..ChatRequest::new(vec![ChatMessage::new(Role::User, parts)])
    })?;
    Ok(reply.choices.into_iter().next().map(|choice| choice.text).unwrap_or_default())
}
