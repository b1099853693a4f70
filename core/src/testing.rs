//! Fakes that check what they are given, for tests of whatever is built on the traits.
//!
//! [`FakeEncoder`] speaks bytes (token id = byte, special tokens above 255); [`FakePolicy`] plays scripted turns and
//! checks every segment, score row and batch it receives.

use std::sync::Arc;

use image::RgbImage;

use crate::encoder::{EncodeError, Encoder, Segment, SegmentImage};
use crate::frame::Size;
use crate::message::{Content, Message};
use crate::optimizer::{TokenLoss, TokenScores};
use crate::policy::{
    Next, OnTurn, Policy, PolicyError, PolicyPrompt, SampledTurn, Sampling, ScoreRow, StopReason, UpdateReport, Weights,
};
use crate::sample::Sample;
use crate::tool::{Observation, ToolSpec};

/// The fake's end-of-turn token.
pub const END: u32 = 256;
/// The fake's image token.
pub const IMAGE: u32 = 257;

/// An encoder of bytes; an image of w × h pixels has ⌈h/28⌉ × ⌈w/28⌉ tokens.
#[derive(Clone, Debug, Default)]
pub struct FakeEncoder;

impl FakeEncoder {
    fn push_image(segment: &mut Segment, pixels: &Arc<RgbImage>) {
        let (rows, columns) = (pixels.height().div_ceil(28) as usize, pixels.width().div_ceil(28) as usize);
        let shown = Size::new(columns as u32 * 28, rows as u32 * 28);
        let image = SegmentImage { start: segment.ids.len(), rows, columns, pixels: Arc::clone(pixels), shown };
        segment.ids.extend(std::iter::repeat_n(IMAGE, rows * columns));
        segment.images.push(image);
    }

    fn push_text(segment: &mut Segment, text: &str) {
        segment.ids.extend(text.bytes().map(u32::from));
    }
}

impl Encoder for FakeEncoder {
    fn prompt(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        images: &[Arc<RgbImage>],
    ) -> Result<Segment, EncodeError> {
        let mut segment = Segment::default();
        tools.iter().for_each(|tool| Self::push_text(&mut segment, &tool.name));
        let mut pending = images.iter();
        for content in messages.iter().flat_map(|message| &message.content) {
            match content {
                Content::Text { text } => Self::push_text(&mut segment, text),
                Content::Image => match pending.next() {
                    Some(pixels) => Self::push_image(&mut segment, pixels),
                    None => {
                        return Err(EncodeError::ImageCount { placeholders: images.len() + 1, images: images.len() });
                    }
                },
            }
        }
        Ok(segment)
    }

    fn observation(&self, observation: &Observation, turn_closed: bool) -> Result<Segment, EncodeError> {
        let mut segment = Segment::default();
        if !turn_closed {
            segment.ids.push(END);
        }
        // A template's own answer tags: graders must never see them.
        Self::push_text(&mut segment, "<answer>template</answer>");
        Self::push_text(&mut segment, &observation.text);
        observation.images.iter().for_each(|image| Self::push_image(&mut segment, &image.pixels));
        Ok(segment)
    }

    fn scripted_turn(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        Ok(text.bytes().map(u32::from).chain([END]).collect())
    }

    fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn shown_size(&self, original: Size) -> Result<Size, EncodeError> {
        Ok(Size::new(original.width.div_ceil(28) * 28, original.height.div_ceil(28) * 28))
    }
}

/// What a [`FakePolicy`] says next: given (rollout, turn), the text of the turn.
pub type Script = Box<dyn FnMut(usize, usize) -> String>;

/// A policy that plays a script and checks what it is given.
///
/// Its "model" gives every token the log-probability `−bias`; an update subtracts the mean of the loss's derivative
/// from `bias`.
pub struct FakePolicy {
    script: Script,
    /// The one parameter.
    pub bias: f32,
    /// Losses of the updates so far.
    pub updates: Vec<TokenLoss>,
}

impl std::fmt::Debug for FakePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakePolicy").field("bias", &self.bias).field("updates", &self.updates.len()).finish()
    }
}

impl FakePolicy {
    /// A policy that says `script(rollout, turn)`.
    pub fn new(script: impl FnMut(usize, usize) -> String + 'static) -> Self {
        Self { script: Box::new(script), bias: 1.0, updates: Vec::new() }
    }

    fn run_one(&mut self, i: usize, prompt: &PolicyPrompt, on_turn: &OnTurn<'_>) -> Result<(), PolicyError> {
        let mut length = prompt.prompt.ids.len();
        for turn in 0.. {
            let room = prompt.max_new_tokens.min(prompt.max_tokens.saturating_sub(length));
            let mut ids = FakeEncoder.scripted_turn(&(self.script)(i, turn))?;
            let stop = if ids.len() > room { StopReason::Length } else { StopReason::EndOfTurn };
            ids.truncate(room);
            length += ids.len();
            let logprobs = vec![-self.bias; ids.len()];
            match on_turn(i, SampledTurn { ids, logprobs, stop })? {
                Next::End => break,
                Next::Observe(segment) => {
                    check_segment(&segment)?;
                    length += segment.ids.len();
                    if length >= prompt.max_tokens {
                        return Err(violated("an observation was appended beyond max_tokens"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn violated(what: &str) -> PolicyError {
    PolicyError::Model(format!("contract violated: {what}"))
}

/// Checks that each image's tokens are image tokens, and that there are no others.
fn check_segment(segment: &Segment) -> Result<(), PolicyError> {
    let spans: usize = segment.images.iter().map(SegmentImage::tokens).sum();
    let pads = segment.ids.iter().filter(|&&id| id == IMAGE).count();
    let placed = segment.images.iter().all(|image| segment.ids[image.range()].iter().all(|&id| id == IMAGE));
    if spans == pads && placed { Ok(()) } else { Err(violated("image tokens differ from the images' grids")) }
}

/// Checks that a row's trajectory is whole and its positions can be scored.
fn check_row(row: &ScoreRow<'_>) -> Result<(), PolicyError> {
    let t = row.trajectory;
    if t.ids.len() != t.origins.len() || t.ids.len() != t.logprobs.len() {
        return Err(violated("ids, origins and logprobs differ in length"));
    }
    let covered: usize = t.spans.iter().map(|span| span.range().len()).sum();
    if covered != t.ids.iter().filter(|&&id| id == IMAGE).count() {
        return Err(violated("image tokens differ from the spans"));
    }
    let rising = row.positions.windows(2).all(|pair| pair[0] < pair[1]);
    let scorable = row.positions.iter().all(|&i| i > 0 && i < t.ids.len() && t.ids[i] != IMAGE);
    if rising && scorable { Ok(()) } else { Err(violated("positions to score")) }
}

impl Policy for FakePolicy {
    fn encoder(&self) -> Arc<dyn Encoder> {
        Arc::new(FakeEncoder)
    }

    fn rollout(
        &mut self,
        prompts: &[PolicyPrompt],
        _sampling: &Sampling,
        on_turn: &OnTurn<'_>,
    ) -> Result<(), PolicyError> {
        for (i, prompt) in prompts.iter().enumerate() {
            check_segment(&prompt.prompt)?;
            self.run_one(i, prompt, on_turn)?;
        }
        Ok(())
    }

    fn score(&self, rows: &[ScoreRow<'_>], _temperature: f32, weights: Weights) -> Result<TokenScores, PolicyError> {
        rows.iter().try_for_each(check_row)?;
        let tokens: usize = rows.iter().map(|row| row.positions.len()).sum();
        let bias = if weights == Weights::Reference { 1.0 } else { self.bias };
        Ok(TokenScores { logprobs: vec![-bias; tokens], entropies: vec![bias; tokens] })
    }

    fn update(
        &mut self,
        rows: &[ScoreRow<'_>],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> Result<UpdateReport, PolicyError> {
        let scores = self.score(rows, temperature, Weights::Current)?;
        let loss = loss(&scores);
        if loss.d_logprobs.len() != scores.logprobs.len() {
            return Err(violated("one derivative per token"));
        }
        let mean = loss.d_logprobs.iter().sum::<f32>() / loss.d_logprobs.len().max(1) as f32;
        self.bias += mean;
        self.updates.push(loss.clone());
        Ok(UpdateReport { grad_norm: f64::from(mean.abs()), learning_rate: 1.0, loss })
    }
}

/// A sample with `images` grey images of 56 × 56 pixels.
pub fn fake_sample(id: &str, images: usize, question: &str, answer: &str) -> Arc<Sample> {
    Arc::new(Sample {
        id: id.to_owned(),
        images: (0..images).map(|_| Arc::new(RgbImage::new(56, 56))).collect(),
        later_images: Vec::new(),
        question: question.to_owned(),
        answer: answer.to_owned(),
        kind: String::new(),
        zooms_needed: None,
        gold: Vec::new(),
        meta: serde_json::Map::new(),
    })
}
