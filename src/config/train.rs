//! The `[train]` table: how long and how much, and what is kept on the way.

use imagent_algorithms::TrainSettings;
use imagent_core::Sampling;
use imagent_models::policy::PassLimits;
use serde::{Deserialize, Serialize};

/// The `[train]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Steps of the whole run. Default 100; 0 only evaluates.
    pub steps: usize,
    /// Samples a step; each becomes a group. Default 12.
    pub prompts_per_step: usize,
    /// Rollouts a sample. Default 8.
    pub group_size: usize,
    /// Parts that a step's groups are cut into, one update each. Default 1: strictly on policy.
    pub minibatches: usize,
    /// Passes over a step's groups. Default 1.
    pub epochs: usize,
    /// Leaves groups of equal rewards out of the updates. Default false.
    pub drop_flat_groups: bool,
    /// Most times that a step draws further samples in place of dropped groups. Default 0: they are not replaced.
    pub refill_rounds: usize,
    /// Largest factor by which a token's policy loss is corrected for a difference between sampling and scoring; at least 1, or 0
    /// (default) for no correction.
    pub importance_cap: f32,
    /// Evaluates on held-out samples every so many steps; 0 (default) only before and after training.
    pub eval_every: usize,
    /// Held-out samples of evaluations in between; 0 (default) takes all. Before and after training all are used.
    pub eval_samples: usize,
    /// Trajectories of each evaluation whose attention is measured (`eval/attention/…`), one pass of the model for each; 0 for none.
    /// Default 8.
    pub attention_samples: usize,
    /// Keeps a checkpoint every so many steps; 0 (default) only at the end.
    pub checkpoint_every: usize,
    /// Saves a step's trajectories every so many steps; 0 only those of evaluations. Default 10.
    pub rollouts_every: usize,
    /// Most rows (tokens) of one pass of the model; a larger batch runs in several, with the same result but for
    /// rounding. Default 16384.
    pub max_rows: usize,
    /// How tokens are drawn in evaluations. Default: always the likeliest (temperature 0).
    pub eval_sampling: Sampling,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let TrainSettings {
            steps,
            prompts_per_step,
            group_size,
            minibatches,
            epochs,
            drop_flat_groups,
            refill_rounds,
            importance_cap,
            ..
        } = TrainSettings::default();
        Self {
            steps,
            prompts_per_step,
            group_size,
            minibatches,
            epochs,
            drop_flat_groups,
            refill_rounds,
            importance_cap,
            eval_every: 0,
            eval_samples: 0,
            attention_samples: 8,
            checkpoint_every: 0,
            rollouts_every: 10,
            max_rows: PassLimits::default().max_rows,
            eval_sampling: Sampling::greedy(),
        }
    }
}

impl TrainConfig {
    /// What happens between the steps.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            eval_every: self.eval_every,
            eval_samples: self.eval_samples,
            attention_samples: self.attention_samples,
            checkpoint_every: self.checkpoint_every,
            rollouts_every: self.rollouts_every,
        }
    }
}

/// What happens between the steps of a run; 0 means never, except where it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Steps between evaluations; those before and after training always take place.
    pub eval_every: usize,
    /// Held-out samples of evaluations in between; 0 takes all.
    pub eval_samples: usize,
    /// Trajectories of an evaluation whose attention is measured; 0 measures none.
    pub attention_samples: usize,
    /// Steps between checkpoints; the last step always leaves one.
    pub checkpoint_every: usize,
    /// Steps between saved trajectories; those of evaluations are always saved.
    pub rollouts_every: usize,
}

/// Whether something that happens every `every` steps happens after `done` of them.
pub(crate) fn is_due(every: usize, done: usize) -> bool {
    every > 0 && done > 0 && done.is_multiple_of(every)
}
