//! From messages and images to tokens: what the rollout needs of a model's tokenizer and image processor.

use std::ops::Range;
use std::sync::Arc;

use image::RgbImage;

use crate::frame::Size;
use crate::message::Message;
use crate::tool::{Observation, ToolSpec};

/// An image within a [`Segment`].
#[derive(Clone, Debug)]
pub struct SegmentImage {
    /// Position of its first image token within the segment.
    pub start: usize,
    /// Rows of its merged patch grid.
    pub rows: usize,
    /// Columns of its merged patch grid.
    pub columns: usize,
    /// Its pixels before the model's resize.
    pub pixels: Arc<RgbImage>,
    /// Its size as resized for the model.
    pub shown: Size,
}

impl SegmentImage {
    /// Number of image tokens, `rows × columns`.
    pub fn tokens(&self) -> usize {
        self.rows * self.columns
    }

    /// The positions of its image tokens within the segment.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.tokens()
    }
}

/// A run of tokens with the images they stand for: a prompt, an observation, a scripted turn.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Token ids; an image stands as `rows × columns` image tokens.
    pub ids: Vec<u32>,
    /// The images, in order.
    pub images: Vec<SegmentImage>,
}

/// Why something could not be turned into tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The model's image processor refuses the image.
    #[error("image of {width}x{height} pixels cannot be shown to the model: {reason}", width = size.width, height = size.height)]
    Image {
        /// The image's size.
        size: Size,
        /// Why.
        reason: String,
    },
    /// The chat template could not be rendered.
    #[error("chat template: {0}")]
    Template(String),
    /// The tokenizer failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The number of images and of image placeholders differ.
    #[error("{placeholders} image placeholders for {images} images")]
    ImageCount {
        /// Placeholders in the rendered text.
        placeholders: usize,
        /// Images given.
        images: usize,
    },
}

/// Turns messages, observations and text into tokens, and tokens into text.
///
/// A conversation is rendered through the chat template **once**, for its prompt; what follows is
/// appended token by token, so sampled tokens are never decoded and encoded again.
pub trait Encoder: Send + Sync {
    /// The prompt, with the generation prompt at its end. `images` fill the placeholders in order.
    fn prompt(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        images: &[Arc<RgbImage>],
    ) -> Result<Segment, EncodeError>;

    /// What follows a finished turn: the observation as the template's next message, and the generation
    /// prompt of the next turn. `turn_closed` tells whether the sampled turn ended with its end token;
    /// where it did not, the segment starts with one.
    fn observation(&self, observation: &Observation, turn_closed: bool) -> Result<Segment, EncodeError>;

    /// A turn written by somebody else (a demonstration), with the end token.
    fn scripted_turn(&self, text: &str) -> Result<Vec<u32>, EncodeError>;

    /// The text of sampled tokens, without the end-of-turn token.
    fn decode(&self, ids: &[u32]) -> String;

    /// Makes ready images that will soon be shown: called on other threads, while the model computes. Changes no result, and
    /// says nothing of images that cannot be shown. By default there is nothing to do.
    fn prepare(&self, images: &[Arc<RgbImage>]) {
        let _ = images;
    }

    /// The size at which the model would see an image of this size.
    fn shown_size(&self, original: Size) -> Result<Size, EncodeError>;
}
