//! `rollouts/*.jsonl`: one line a trajectory, with everything that a person needs to follow it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imagent_core::{
    CropOrigin, EndReason, Gold, ImageShelf, Origin, ScoredTrajectory, Size, ToolCall, TrainRow, Trajectory,
    TurnRecord, UNKNOWN_TOKEN, seed,
};
use serde::{Deserialize, Serialize};

use super::files::{number, numbers, read_lines, write_atomic};
use super::images::{ImageCodec, ImageSource, data_url};
use crate::error::AnalysisError;

/// One trajectory as recorded: no token that was not asked for, no pixels unless stored or embedded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrajectoryRecord {
    /// The sample's id.
    pub sample: String,
    /// Which rollout of its group this is.
    #[serde(default)]
    pub index: usize,
    /// What was asked.
    pub question: String,
    /// The gold answer.
    pub gold: String,
    /// The kind of question.
    #[serde(default)]
    pub kind: String,
    /// How many zooms the question needs, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zooms_needed: Option<u32>,
    /// Where the answer lies, in pixels of the image files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gold_regions: Vec<Gold>,
    /// The final answer, if one was given.
    pub answer: Option<String>,
    /// Why the episode ended.
    pub end: EndReason,
    /// The reward; NaN (`null`) when it is not a number.
    #[serde(deserialize_with = "number")]
    pub reward: f64,
    /// The reward's named parts.
    #[serde(default, deserialize_with = "numbers")]
    pub parts: BTreeMap<String, f64>,
    /// Why it could not be graded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Its advantage within the group, in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advantage: Option<f64>,
    /// Tokens before the first turn.
    #[serde(default)]
    pub prompt_tokens: usize,
    /// Tokens that the policy sampled.
    #[serde(default)]
    pub sampled_tokens: usize,
    /// The turns.
    pub turns: Vec<TurnEntry>,
    /// Every image of the episode, in shelf order: the sample's own, then those that tools returned.
    #[serde(default)]
    pub images: Vec<ImageEntry>,
    /// The tokens after the prompt, image tokens left out; empty unless asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenEntry>,
}

/// One turn: what the policy wrote, what it called and what came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TurnEntry {
    /// The sampled text.
    pub text: String,
    /// The tool call, where one could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<ToolCall>,
    /// The name of the tool's error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The observation's text; `None` when no tool was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<String>,
    /// Shelf indices of the observation's images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<usize>,
}

/// One image of an episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageEntry {
    /// Shelf index, counted from 1.
    pub index: usize,
    /// Pixels from left to right, before the model's resize.
    pub width: u32,
    /// Pixels from top to bottom, before the model's resize.
    pub height: u32,
    /// Its size as the model sees it.
    pub shown: Size,
    /// Where it was cut from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<CropOrigin>,
    /// Its pixels (perhaps made smaller), where they are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ImageSource>,
}

/// One token after the prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Who wrote it.
    pub origin: Origin,
    /// Log-probability under the policy that sampled it; 0 where it was not sampled.
    #[serde(deserialize_with = "number")]
    pub logprob: f64,
    /// Its loss weight, in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<f32>,
}

impl From<&TurnRecord> for TurnEntry {
    fn from(turn: &TurnRecord) -> Self {
        let tool = turn.tool.as_ref();
        Self {
            text: turn.text.clone(),
            call: tool.and_then(|tool| tool.call.clone()),
            error: tool.and_then(|tool| tool.error.clone()),
            observation: tool.map(|tool| tool.text.clone()),
            images: tool.map(|tool| tool.images.clone()).unwrap_or_default(),
        }
    }
}

impl From<&ScoredTrajectory> for TrajectoryRecord {
    fn from(scored: &ScoredTrajectory) -> Self {
        let (trajectory, score) = (&scored.trajectory, &scored.score);
        let sample = &trajectory.sample;
        Self {
            sample: sample.id.clone(),
            index: trajectory.index,
            question: sample.question.clone(),
            gold: sample.answer.clone(),
            kind: sample.kind.clone(),
            zooms_needed: sample.zooms_needed,
            gold_regions: sample.gold.clone(),
            answer: trajectory.answer.clone(),
            end: trajectory.end,
            reward: f64::from(score.value),
            parts: score.parts.iter().map(|(name, value)| ((*name).to_owned(), f64::from(*value))).collect(),
            skipped: score.skip.clone(),
            advantage: None,
            prompt_tokens: trajectory.prompt_len,
            sampled_tokens: trajectory.sampled_len(),
            turns: trajectory.turns.iter().map(TurnEntry::from).collect(),
            images: image_entries(&trajectory.shelf),
            tokens: Vec::new(),
        }
    }
}

impl From<&TrainRow> for TrajectoryRecord {
    fn from(row: &TrainRow) -> Self {
        Self { advantage: Some(f64::from(row.advantage)), ..Self::from(&row.scored) }
    }
}

fn image_entries(shelf: &ImageShelf) -> Vec<ImageEntry> {
    let entry = |(i, image): (usize, &imagent_core::ShelfImage)| ImageEntry {
        index: i + 1,
        width: image.sizes.original.width,
        height: image.sizes.original.height,
        shown: image.sizes.shown,
        origin: image.origin,
        source: None,
    };
    shelf.iter().enumerate().map(entry).collect()
}

/// The loss weight of every position of a row's trajectory: 0 where it is not trained.
pub fn row_weights(row: &TrainRow) -> Vec<f32> {
    let mut weights = vec![0.0; row.scored.trajectory.ids.len()];
    row.positions.iter().zip(&row.loss_mask).for_each(|(&i, &weight)| weights[i] = weight);
    weights
}

impl TrajectoryRecord {
    /// With this advantage.
    #[must_use]
    pub fn with_advantage(mut self, advantage: f32) -> Self {
        self.advantage = Some(f64::from(advantage));
        self
    }

    /// With the tokens after the prompt, except image tokens: loss weights one per position of the trajectory
    /// ([`row_weights`]), texts from `text`.
    #[must_use]
    pub fn with_tokens(
        mut self,
        trajectory: &Trajectory,
        weights: Option<&[f32]>,
        text: Option<&dyn Fn(u32) -> String>,
    ) -> Self {
        let is_image = |i: usize| trajectory.spans.iter().any(|span| span.range().contains(&i));
        let entry = |i: usize| TokenEntry {
            id: Some(trajectory.ids[i]).filter(|&id| id != UNKNOWN_TOKEN),
            text: text.map(|text| text(trajectory.ids[i])),
            origin: trajectory.origins[i],
            logprob: f64::from(trajectory.logprobs[i]),
            mask: weights.and_then(|weights| weights.get(i).copied()),
        };
        self.tokens = (trajectory.prompt_len..trajectory.ids.len()).filter(|&i| !is_image(i)).map(entry).collect();
        self
    }

    /// With the images embedded, made smaller where a side is longer than `max_side` pixels.
    ///
    /// # Errors
    /// When an image cannot be encoded.
    pub fn with_images(mut self, shelf: &ImageShelf, codec: ImageCodec, max_side: u32) -> Result<Self, AnalysisError> {
        for (entry, image) in self.images.iter_mut().zip(shelf.iter()) {
            let bytes = encode(entry.index, &image.pixels, codec, max_side)?;
            entry.source = Some(ImageSource::Embedded(data_url(codec.name(), &bytes)));
        }
        Ok(self)
    }

    /// With the images written as files into `folder` (relative to the run folder `run`).
    ///
    /// # Errors
    /// When an image cannot be encoded or written.
    pub fn with_image_files(
        mut self,
        shelf: &ImageShelf,
        run: &Path,
        folder: &str,
        codec: ImageCodec,
        max_side: u32,
    ) -> Result<Self, AnalysisError> {
        let stem = format!("{}-{}", file_stem(&self.sample), self.index);
        for (entry, image) in self.images.iter_mut().zip(shelf.iter()) {
            let bytes = encode(entry.index, &image.pixels, codec, max_side)?;
            let file = format!("{folder}/{stem}-{}.{}", entry.index, codec.name());
            write_atomic(&run.join(&file), &bytes)?;
            entry.source = Some(ImageSource::File(file));
        }
        Ok(self)
    }

    /// Embeds images that are files of the run folder.
    ///
    /// # Errors
    /// When a file cannot be read or lies outside the run folder.
    pub fn embed_images(&mut self, run: &Path) -> Result<(), AnalysisError> {
        for entry in &mut self.images {
            entry.source = entry.source.as_ref().map(|source| source.embed(run)).transpose()?;
        }
        Ok(())
    }

    /// The reward's part `accuracy`; `None` when there is none or the trajectory could not be graded.
    pub fn accuracy(&self) -> Option<f64> {
        if self.skipped.is_some() { None } else { self.parts.get("accuracy").copied() }
    }

    /// Whether the answer is right (accuracy of at least a half); `None` when that is not known.
    pub fn right(&self) -> Option<bool> {
        self.accuracy().map(|accuracy| accuracy >= 0.5)
    }

    /// Whether at least one tool call returned an image.
    pub fn used_tool(&self) -> bool {
        self.turns.iter().any(|turn| !turn.images.is_empty())
    }

    /// Number of tool calls that were tried, carried out or not.
    pub fn calls(&self) -> usize {
        self.turns.iter().filter(|turn| turn.observation.is_some()).count()
    }
}

fn encode(index: usize, pixels: &image::RgbImage, codec: ImageCodec, max_side: u32) -> Result<Vec<u8>, AnalysisError> {
    codec.encode(pixels, max_side.max(1)).map_err(|source| AnalysisError::Image { index, source })
}

/// A name safe on every file system; ids that differ only in other characters keep different names by a hash.
pub fn file_stem(id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let clean: String = id.chars().map(safe).take(60).collect();
    if clean == id { clean } else { format!("{clean}-{:08x}", seed::text(id) as u32) }
}

/// The name of a step's file within a run folder: `rollouts/step-000010.jsonl`.
pub fn rollouts_file(step: usize) -> PathBuf {
    PathBuf::from(format!("rollouts/step-{step:06}.jsonl"))
}

/// Writes trajectories ([`TrajectoryRecord`], or one with more fields), one JSON line each, atomically.
///
/// # Errors
/// When the file cannot be written.
pub fn write_rollouts(path: &Path, records: &[impl Serialize]) -> Result<(), AnalysisError> {
    let mut content = Vec::new();
    for record in records {
        serde_json::to_writer(&mut content, record).map_err(AnalysisError::json(path))?;
        content.push(b'\n');
    }
    write_atomic(path, &content)
}

/// All trajectories of a file.
///
/// # Errors
/// When the file cannot be read, or a line (named) is not a [`TrajectoryRecord`].
pub fn read_rollouts(path: &Path) -> Result<Vec<TrajectoryRecord>, AnalysisError> {
    read_lines(path)
}
