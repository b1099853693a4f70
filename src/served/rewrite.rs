//! Trajectories in a chat model's words.

use std::sync::Arc;

use imagent_core::chat::{ChatError, ChatImage, ChatMessage, ChatModel, ChatPart, ChatRequest};
use imagent_core::{Role, Sample, derive, seed};
use imagent_models::image_processor::ImageProcessor;

use super::evaluate::shown;

/// What the model is asked to do with a trajectory.
const TASK: &str = "Write the reasoning above anew in your own words, as somebody thinks who looks at the images: go through the images, \
    compare them, and come to the object. Say nothing that the images do not show. Keep the form <think>...</think><answer>...</answer>, and \
    copy the answer to the letter.";
/// Names the stream of the seeds that are sent.
const STREAM: u64 = 0x7265_7772;
/// Tokens of a reply, at most.
const MAX_TOKENS: usize = 2048;

/// Asks a model to write a trajectory anew; `None` where it says nothing. Whether the text still gives the answer is not looked at here.
///
/// # Errors
/// When the model cannot be asked, or an image cannot be sent.
pub fn rewrite(
    model: &dyn ChatModel,
    view: &ImageProcessor,
    sample: &Sample,
    text: &str,
    run: u64,
) -> Result<Option<String>, ChatError> {
    let mut parts = Vec::new();
    for (i, image) in sample.images.iter().enumerate() {
        parts.push(ChatPart::text(format!("Image {}:", i + 1)));
        parts.push(ChatPart::Image(Arc::new(ChatImage::new(Arc::new(shown(view, image)?)))));
    }
    parts.push(ChatPart::text(format!("Question: {}\nReasoning: {text}\n\n{TASK}", sample.question)));
    let key = derive(run, &[STREAM, seed::text(&sample.id)]);
    let reply = model.ask(&ChatRequest {
        max_tokens: Some(MAX_TOKENS),
        temperature: Some(0.7),
        seed: Some((key >> 33) as u32),
        ..ChatRequest::new(vec![ChatMessage::new(Role::User, parts)])
    })?;
    let said = reply.choices.into_iter().next().map(|choice| choice.text.trim().to_owned());
    Ok(said.filter(|said| !said.is_empty()))
}
