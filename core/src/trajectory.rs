//! The record of one rollout: tokens as sampled, where each came from, and what happened.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::encoder::Segment;
use crate::image::ImageShelf;
use crate::sample::Sample;
use crate::turn::ToolCall;

/// Stands for a token that a server counted and whose id it keeps to itself. Such a trajectory cannot be trained on.
pub const UNKNOWN_TOKEN: u32 = u32::MAX;

/// Who wrote a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The dataset and the template, before the first turn.
    Prompt,
    /// The policy.
    Sampled,
    /// A tool and the template, between turns.
    Observation,
}

/// Why an episode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// With a complete `<answer>`.
    Answered,
    /// The policy ended a turn without a call or an answer.
    NoAnswer,
    /// The last allowed turn called a tool.
    TurnLimit,
    /// A turn or the whole trajectory ran out of tokens, or an observation did not fit.
    LengthLimit,
    /// A turn's tags do not pair up.
    Malformed,
    /// An observation would have brought more images than allowed.
    ImageLimit,
}

impl EndReason {
    /// All reasons, in the order of tables.
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::NoAnswer, Self::TurnLimit, Self::LengthLimit, Self::Malformed, Self::ImageLimit];

    /// The reason's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoAnswer => "no_answer",
            Self::TurnLimit => "turn_limit",
            Self::LengthLimit => "length_limit",
            Self::Malformed => "malformed",
            Self::ImageLimit => "image_limit",
        }
    }
}

/// The tokens of one image within a trajectory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSpan {
    /// Position of the first image token.
    pub start: usize,
    /// Rows of the merged patch grid.
    pub rows: usize,
    /// Columns of the merged patch grid.
    pub columns: usize,
    /// Shelf index, counted from 1.
    pub image: usize,
}

impl ImageSpan {
    /// The positions of its tokens.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.rows * self.columns
    }
}

/// What came of a tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolOutcome {
    /// The call, where it could be read.
    pub call: Option<ToolCall>,
    /// The name of the error ([`crate::ToolError::name`]), if there was one.
    pub error: Option<String>,
    /// Text that the policy read.
    pub text: String,
    /// Shelf indices of the images that came back.
    pub images: Vec<usize>,
}

/// One turn of a trajectory.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnRecord {
    /// Positions of its sampled tokens.
    pub tokens: Range<usize>,
    /// The sampled text, without the end token.
    pub text: String,
    /// The tool call that it made and what came of it.
    pub tool: Option<ToolOutcome>,
}

/// The record of a rollout. Token ids are kept as sampled; nothing is decoded and encoded again.
///
/// Invariant: `ids`, `origins` and `logprobs` have one length; each image's span covers exactly
/// `rows × columns` image tokens.
#[derive(Clone, Debug)]
pub struct Trajectory {
    /// What was asked.
    pub sample: Arc<Sample>,
    /// Which rollout of its group this is.
    pub index: usize,
    /// Positions before the first turn.
    pub prompt_len: usize,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Who wrote each token.
    pub origins: Vec<Origin>,
    /// Log-probability of each token under the policy that sampled it; 0 where it was not sampled.
    pub logprobs: Vec<f32>,
    /// The images' tokens, in order of position.
    pub spans: Vec<ImageSpan>,
    /// The images.
    pub shelf: ImageShelf,
    /// The turns.
    pub turns: Vec<TurnRecord>,
    /// The text of the final answer.
    pub answer: Option<String>,
    /// Why it ended.
    pub end: EndReason,
}

impl Trajectory {
    /// Positions of the sampled tokens.
    pub fn sampled(&self) -> impl Iterator<Item = usize> + '_ {
        self.origins.iter().enumerate().filter(|(_, origin)| **origin == Origin::Sampled).map(|(i, _)| i)
    }

    /// Number of sampled tokens.
    pub fn sampled_len(&self) -> usize {
        self.sampled().count()
    }

    /// The text that the policy wrote, turn by turn: all that graders and rewards may read.
    pub fn sampled_text(&self) -> impl Iterator<Item = &str> {
        self.turns.iter().map(|turn| turn.text.as_str())
    }

    /// Number of tool calls that were tried, carried out or not.
    pub fn calls(&self) -> usize {
        self.turns.iter().filter(|turn| turn.tool.is_some()).count()
    }

    /// Whether at least one tool call of this trajectory returned an image.
    pub fn used_tool(&self) -> bool {
        self.turns.iter().filter_map(|turn| turn.tool.as_ref()).any(|tool| !tool.images.is_empty())
    }

    pub(crate) fn append(&mut self, segment: &Segment, origin: Origin) {
        let base = self.ids.len();
        let first = self.shelf.len() - segment.images.len() + 1;
        for (offset, image) in segment.images.iter().enumerate() {
            let (rows, columns) = (image.rows, image.columns);
            self.spans.push(ImageSpan { start: base + image.start, rows, columns, image: first + offset });
        }
        self.append_ids(&segment.ids, origin, None);
    }

    pub(crate) fn append_ids(&mut self, ids: &[u32], origin: Origin, logprobs: Option<&[f32]>) {
        self.ids.extend_from_slice(ids);
        self.origins.resize(self.ids.len(), origin);
        match logprobs {
            Some(values) => self.logprobs.extend_from_slice(values),
            None => self.logprobs.resize(self.ids.len(), 0.0),
        }
    }
}
