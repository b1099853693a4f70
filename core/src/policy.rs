//! What reinforcement learning needs of a model.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::encoder::{EncodeError, Encoder, Segment};
use crate::optimizer::{TokenLoss, TokenScores};
use crate::seed::Key;
use crate::trajectory::Trajectory;

/// How tokens are drawn: logits over `temperature`, then `top_k`, `top_p` and `min_p` in this order, as in Hugging Face's
/// `generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the `top_k` likeliest tokens; 0 keeps all. Of equals, those with the lower ids.
    pub top_k: usize,
    /// Of the tokens that `top_k` keeps, keeps the fewest likeliest ones whose share of the probability is at least this; 1
    /// keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this many times as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Texts that end a turn once it holds one of them. They stay in the turn, with the rest of the token that completed them.
    pub stop: Vec<String>,
    /// Tokens that end a turn, besides the policy's own end of turn. They stay in the turn.
    pub stop_tokens: Vec<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, stop: Vec::new(), stop_tokens: Vec::new() }
    }
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks the ranges; the error is a field and what it must be.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let wrong = |field, expected: &str, got: f32| Err((field, format!("must be {expected}, got {got}")));
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong("temperature", "at least 0", self.temperature);
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", "in (0, 1]", self.top_p);
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return wrong("min_p", "in [0, 1]", self.min_p);
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(("stop", "must not hold an empty text".to_owned()));
        }
        Ok(())
    }
}

/// One rollout to run.
#[derive(Clone, Debug)]
pub struct PolicyPrompt {
    /// The prompt; rollouts of one group share it, and a model computes it once.
    pub prompt: Arc<Segment>,
    /// Names the randomness of this rollout.
    pub key: Key,
    /// Most tokens of one turn.
    pub max_new_tokens: usize,
    /// Most tokens of the whole trajectory, prompt included.
    pub max_tokens: usize,
}

/// Why sampling of a turn stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The policy drew its end-of-turn token.
    EndOfTurn,
    /// It has a text or a token that the [`Sampling`] names as a stop; the policy did not end its turn itself.
    Stopped,
    /// The turn or the trajectory reached its limit of tokens.
    Length,
}

/// A turn as sampled.
#[derive(Clone, Debug)]
pub struct SampledTurn {
    /// Token ids, the end token included.
    pub ids: Vec<u32>,
    /// Log-probability of each under the sampling temperature.
    pub logprobs: Vec<f32>,
    /// Why it stopped.
    pub stop: StopReason,
}

/// What the environment says to a finished turn.
#[derive(Clone, Debug)]
pub enum Next {
    /// Append these tokens, then sample the next turn.
    Observe(Segment),
    /// The episode is over.
    End,
}

/// Which weights to score with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Those being trained.
    Current,
    /// Those training started from.
    Reference,
}

/// Tokens of one trajectory to score: each of `positions` (rising, none of them 0 or an image token) is scored given
/// all tokens before it.
#[derive(Clone, Copy, Debug)]
pub struct ScoreRow<'a> {
    /// The trajectory.
    pub trajectory: &'a Trajectory,
    /// Positions of the tokens.
    pub positions: &'a [usize],
}

/// What one optimiser update did.
#[derive(Clone, Debug)]
pub struct UpdateReport {
    /// The loss and its metrics.
    pub loss: TokenLoss,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate used.
    pub learning_rate: f64,
}

/// Why a model could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Text or image to tokens.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A sample's question cannot be put to the model.
    #[error("sample {id:?}")]
    Prompt {
        /// The sample.
        id: String,
        /// Why.
        source: EncodeError,
    },
    /// The computation failed.
    #[error("model: {0}")]
    Model(String),
    /// The loss, the gradient or what a token is drawn from is not a finite number.
    #[error("the {what} is not finite; lower the learning rate or look at the data of this step")]
    NotFinite {
        /// Which of them.
        what: &'static str,
    },
    /// The run was asked to stop.
    #[error("stopped")]
    Stopped,
}

/// Says how rollout `i` goes on after a finished turn, `on_turn(i, turn)`: carries out the tool call that the turn asks for.
///
/// It may be called from any thread and for several rollouts at once, so that tools run beside one another and beside the
/// model; for one rollout, not before the last call has returned.
pub type OnTurn<'a> = dyn Fn(usize, SampledTurn) -> Result<Next, PolicyError> + Sync + 'a;

/// What reinforcement learning needs of a model; implemented by models, and by a fake in tests.
pub trait Policy {
    /// Its tokenizer, template and image processor.
    fn encoder(&self) -> Arc<dyn Encoder>;

    /// Runs all rollouts. `on_turn(i, turn)` is called once for each finished turn of rollout `i`, here or on another thread; what
    /// is sampled must not depend on when it returns.
    fn rollout(
        &mut self,
        prompts: &[PolicyPrompt],
        sampling: &Sampling,
        on_turn: &OnTurn<'_>,
    ) -> Result<(), PolicyError>;

    /// Log-probability and entropy of the rows' tokens, packed in order.
    fn score(&self, rows: &[ScoreRow<'_>], temperature: f32, weights: Weights) -> Result<TokenScores, PolicyError>;

    /// One optimiser update: scores the rows' tokens, asks `loss` for its derivative, and steps.
    fn update(
        &mut self,
        rows: &[ScoreRow<'_>],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> Result<UpdateReport, PolicyError>;
}
