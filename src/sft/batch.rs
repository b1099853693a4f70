//! Lessons to sequences: a demonstration runs through the same episode machine and tools as a rollout, so that what is
//! taught is, token for token, what will be sampled.

use std::sync::Arc;

use imagent_core::{
    EncodeError, Encoder, Episode, Limits, Next, PromptStyle, SampledTurn, StopReason, Toolbox, Trajectory,
};
use imagent_data::{CellLabel, Lesson, Piece, Task, lesson};
use imagent_models::codec::Codec;
use imagent_models::qwen::positions::GridSpan;
use imagent_models::qwen::{Sequence, SequenceImage, Target};

use super::config::Stage;

/// A demonstration as tokens: what is taught at which position.
#[derive(Clone, Debug)]
pub struct Demonstration {
    /// The episode.
    pub trajectory: Trajectory,
    /// Positions of the tokens that are taught.
    pub taught: Vec<usize>,
    /// Image tokens and the word that describes their cell.
    pub labels: Vec<(usize, u32)>,
}

/// Runs lessons.
pub struct Demonstrator<'a> {
    /// Tokenizer, template, image processor.
    pub codec: &'a Codec,
    /// The tools that demonstrations call.
    pub toolbox: &'a dyn Toolbox,
    /// How samples become prompts.
    pub prompt: &'a PromptStyle,
    /// How far an episode may go.
    pub limits: &'a Limits,
}

impl Demonstrator<'_> {
    /// Runs one lesson through the episode machine.
    ///
    /// # Errors
    /// When a prompt or an observation cannot be encoded.
    pub fn run(&self, lesson: &Lesson) -> Result<Demonstration, EncodeError> {
        let messages = self.prompt.messages(&lesson.sample);
        let prompt = self.codec.prompt(&messages, &self.toolbox.specs(), &lesson.sample.images)?;
        let mut episode = Episode::start(Arc::clone(&lesson.sample), 0, &prompt, self.limits.clone());
        let mut at = prompt.ids.len();
        let mut taught = Vec::new();
        for turn in &lesson.turns {
            let (ids, flags) = self.tokens(turn)?;
            taught.extend(flags.iter().enumerate().filter(|(_, flag)| **flag).map(|(i, _)| at + i));
            at += ids.len();
            let turn = SampledTurn { logprobs: vec![0.0; ids.len()], ids, stop: StopReason::EndOfTurn };
            match episode.on_turn(&turn, self.toolbox, self.codec)? {
                Next::End => break,
                Next::Observe(segment) => at += segment.ids.len(),
            }
        }
        let trajectory = episode.finish();
        let labels = lesson.labels.iter().filter_map(|label| self.label(&trajectory, label)).collect();
        Ok(Demonstration { trajectory, taught, labels })
    }

    /// Tokens of a turn, and which of them are taught. Its end is taught with its last piece.
    fn tokens(&self, turn: &[Piece]) -> Result<(Vec<u32>, Vec<bool>), EncodeError> {
        let (mut ids, mut flags) = (Vec::new(), Vec::new());
        for (i, piece) in turn.iter().enumerate() {
            let mut tokens = self.codec.scripted_turn(&piece.text)?;
            if i + 1 < turn.len() {
                tokens.pop();
            }
            flags.extend(std::iter::repeat_n(piece.taught, tokens.len()));
            ids.extend(tokens);
        }
        Ok((ids, flags))
    }

    fn label(&self, trajectory: &Trajectory, label: &CellLabel) -> Option<(usize, u32)> {
        let span = trajectory.spans.iter().find(|span| span.image == label.image)?;
        let cell = |at: f64, count: usize| ((at * count as f64) as usize).min(count - 1);
        let row = cell(label.at.1, span.rows);
        let position = span.start + row * span.columns + cell(label.at.0, span.columns);
        let ids = self.codec.tokenizer.encode(&label.word).ok()?;
        Some((position, *ids.first()?))
    }
}

impl Demonstration {
    /// The sequence to train on: taught tokens first, then, with `labels`, the words of labelled cells.
    pub fn sequence(&self, labels: bool) -> Sequence<'_> {
        let t = &self.trajectory;
        let images = t.spans.iter().filter_map(|span| {
            let span_of = GridSpan { start: span.start, rows: span.rows, columns: span.columns };
            Some(SequenceImage { span: span_of, pixels: Arc::clone(&t.shelf.get(span.image)?.pixels) })
        });
        let taught = self.taught.iter().map(|&p| Target { row: p - 1, id: t.ids[p], suppress: true });
        let cells = self.labels.iter().filter(|_| labels);
        let cells = cells.map(|&(row, id)| Target { row, id, suppress: false });
        Sequence { ids: &t.ids, images: images.collect(), prompt_len: 0, targets: taught.chain(cells).collect() }
    }
}

/// A lesson of a stage, with its thought where the stage has them.
pub(super) fn stage_lesson(task: Task, stage: &Stage, seed: u64, index: u64) -> Lesson {
    let lesson = lesson(task, &stage.world, seed, index);
    if stage.think { lesson.thinking() } else { lesson }
}

/// Draws tasks in proportion to their weights: the same for the same index.
pub(super) fn draw(stage: &Stage, seed: u64, index: u64) -> Option<Lesson> {
    let tasks = &stage.tasks;
    let total: f64 = tasks.values().sum();
    let mut left = (imagent_core::derive(seed, &[index, 0x7461_736b]) >> 11) as f64 / (1u64 << 53) as f64 * total;
    let chosen = tasks.iter().find(|(_, weight)| {
        left -= **weight;
        left < 0.0
    });
    chosen.or_else(|| tasks.iter().next_back()).map(|(&task, _)| stage_lesson(task, stage, seed, index))
}
