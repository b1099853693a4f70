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
    /// Advantage of each token, where a row's tokens differ; factors that correct for how the tokens were sampled are in
    /// it. Read advantages by [`Self::advantage`].
    pub token_advantages: Option<Vec<f32>>,
    /// Which group each row belongs to.
    pub groups: Vec<usize>,
}

impl TokenBatch {
    /// The advantage of token `i`, which is one of row `row`.
    pub fn advantage(&self, row: usize, i: usize) -> f32 {
        self.token_advantages.as_ref().map_or(self.advantages[row], |all| all[i])
    }

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

/// The graded trajectories of a step in numbers, packed as in a [`TokenBatch`]: what advantages can be made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// Where each row starts; one more entry than rows.
    pub offsets: Vec<usize>,
    /// Which group each row belongs to.
    pub groups: Vec<usize>,
    /// Whether each row counts in means and deviations.
    pub in_baseline: Vec<bool>,
    /// Reward of each row.
    pub rewards: Vec<f32>,
    /// What came of each token, where rewards are known token by token; else a row's reward comes with its last token.
    pub token_rewards: Option<Vec<f32>>,
    /// Loss weight of each token.
    pub loss_mask: Vec<f32>,
    /// Log-probabilities under the policy that sampled, where all are known.
    pub old_logprobs: Option<Vec<f32>>,
    /// Log-probabilities under the reference policy, where one is used.
    pub ref_logprobs: Option<Vec<f32>>,
}

impl Outcomes {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rewards.len()
    }

    /// The tokens of row `row`.
    pub fn row(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }
}

/// The advantages of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advantages {
    /// Of each row; where tokens differ, the mean over its tokens by loss weight.
    pub rows: Vec<f32>,
    /// Of each token, where the tokens of a row differ.
    pub tokens: Option<Vec<f32>>,
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

    /// The advantages of a whole step, where they depend on more than the rewards of the own group: on other groups, on
    /// lengths, on log-probabilities. `None` (the default) leaves those of each group as they are.
    ///
    /// Asked when a batch is made, and again once its log-probabilities are known.
    fn batch_advantages(&self, _outcomes: &Outcomes) -> Option<Advantages> {
        None
    }

    /// Loss value, its derivative and metrics.
    fn loss(&self, tokens: &TokenBatch) -> TokenLoss;

    /// Whether the loss or the advantages need `ref_logprobs`.
    fn needs_reference(&self) -> bool {
        false
    }

    /// Whether the advantages need `old_logprobs`, so that tokens that were not sampled are scored before the update.
    fn needs_behavior(&self) -> bool {
        false
    }
}
