//! Trajectories in a chat model's words.

use std::sync::Arc;

use imagent_core::chat::{ChatError, ChatImage, ChatModel};
use imagent_core::{Sample, derive, seed};
use imagent_models::image_processor::ImageProcessor;

use super::ask::{Drawing, ask};
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
    let see = |image| Ok(Arc::new(ChatImage::new(Arc::new(shown(view, image)?))));
    let images = sample.images.iter().map(|image| see(image)).collect::<Result<Vec<_>, ChatError>>()?;
    let text = format!("Question: {}\nReasoning: {text}\n\n{TASK}", sample.question);
    let key = derive(run, &[STREAM, seed::text(&sample.id)]);
    let said = ask(model, images, text, &Drawing { max_tokens: MAX_TOKENS, temperature: 0.7, key })?;
    Ok(Some(said.trim().to_owned()).filter(|said| !said.is_empty()))
}
