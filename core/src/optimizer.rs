//! Policy optimisers: rewards to advantages, and log-probabilities to a loss with its exact derivative.
//!
//! An optimiser sees numbers, never tensors.

use std::collections::BTreeMap;

use crate::group::ScoredTrajectory;

/// What a model says of sampled tokens, packed in order of trajectories.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenScores {
    /// Log-probability of each token.
    pub logprobs: Vec<f32>,
    /// Entropy, in nats, of the distribution each token was drawn from.
    pub entropies: Vec<f32>,
}

/// The sampled tokens of some trajectories, packed without padding: row `i` is `offsets[i]..offsets[i + 1]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenBatch {
    /// Where each row starts; one more entry than rows.
    pub offsets: Vec<usize>,
    /// Log-probabilities under the policy being trained.
    pub logprobs: Vec<f32>,
    /// Log-probabilities under the policy that sampled.
    pub old_logprobs: Vec<f32>,
    /// Log-probabilities under the reference policy, where one is used.
    pub ref_logprobs: Option<Vec<f32>>,
    /// Entropies under the policy being trained.
    pub entropies: Vec<f32>,
    /// Loss weight of each token: the product of the masks.
    pub loss_mask: Vec<f32>,
    /// Advantage of each row.
    pub advantages: Vec<f32>,
    /// Which group each row belongs to.
    pub groups: Vec<usize>,
}

impl TokenBatch {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The tokens of row `row`.
    pub fn row(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.logprobs.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.logprobs.is_empty()
    }

    /// The row of each token.
    pub fn row_of_tokens(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.rows()).flat_map(|row| self.row(row).map(move |_| row))
    }
}

/// A loss and its derivative.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLoss {
    /// The loss.
    pub value: f64,
    /// d loss / d log-probability of each token.
    pub d_logprobs: Vec<f32>,
    /// d loss / d entropy of each token.
    pub d_entropies: Vec<f32>,
    /// Named figures for the log; names are listed in `docs/metrics.md`.
    pub metrics: BTreeMap<&'static str, f64>,
}

/// A policy-gradient method.
#[typetag::serde(tag = "type")]
pub trait PolicyOptimizer: Send + Sync + std::fmt::Debug {
    /// The advantage of each trajectory of a group. `in_baseline[i]` tells whether trajectory `i` counts in the
    /// group's mean and deviation.
    fn advantages(&self, group: &[ScoredTrajectory], in_baseline: &[bool]) -> Vec<f32> {
        let rewards: Vec<f32> = group.iter().map(|scored| scored.score.value).collect();
        self.advantages_of(&rewards, in_baseline)
    }

    /// The same from bare rewards.
    fn advantages_of(&self, rewards: &[f32], in_baseline: &[bool]) -> Vec<f32>;

    /// Loss value, its derivative and metrics.
    fn loss(&self, tokens: &TokenBatch) -> TokenLoss;

    /// Whether the loss needs `ref_logprobs`.
    fn needs_reference(&self) -> bool {
        false
    }
}
