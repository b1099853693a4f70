//! The settings of a training run that are not plug-ins.

use imagent_core::{Limits, PromptStyle, RolloutRequest, Sampling};
use serde::{Deserialize, Serialize};

use crate::error::{TrainError, require};

/// How long, how many and how far.
///
/// ```
/// use imagent_algorithms::TrainSettings;
/// let settings: TrainSettings = serde_json::from_str(r#"{"steps": 3, "group_size": 0}"#)?;
/// assert_eq!(settings.validate().unwrap_err().to_string(), "group_size must be at least 1, got 0");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Steps of the whole run. Default 100.
    pub steps: usize,
    /// Samples a step; each becomes a group. Default 12.
    pub prompts_per_step: usize,
    /// Rollouts a sample. Default 8.
    pub group_size: usize,
    /// Parts that a step's groups are cut into, one update each. Default 1: strictly on policy.
    pub minibatches: usize,
    /// Passes over a step's groups. Default 1.
    pub epochs: usize,
    /// Leaves groups of equal rewards out of the updates (DAPO's dynamic sampling). They have no advantage, so this
    /// matters where they count in a mean over tokens or over the step, or have a KL term. Default false.
    pub drop_flat_groups: bool,
    /// Most times that a step draws further samples, as many as groups were dropped, so that its updates have
    /// `prompts_per_step` groups. Default 0: dropped groups are not replaced.
    pub refill_rounds: usize,
    /// Largest factor by which a token's policy loss is corrected for a difference between sampling and scoring; at least 1, or 0
    /// (default) for no correction. See [`crate::train()`].
    pub importance_cap: f32,
    /// Seed of everything that is drawn in the run. Default 0.
    pub seed: u64,
    /// How tokens are drawn; the temperature is also that of the trained distribution.
    pub sampling: Sampling,
    /// How far an episode may go.
    pub limits: Limits,
    /// How samples become prompts.
    pub prompt: PromptStyle,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            steps: 100,
            prompts_per_step: 12,
            group_size: 8,
            minibatches: 1,
            epochs: 1,
            drop_flat_groups: false,
            refill_rounds: 0,
            importance_cap: 0.0,
            seed: 0,
            sampling: Sampling::default(),
            limits: Limits::default(),
            prompt: PromptStyle::default(),
        }
    }
}

impl TrainSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the key that is out of range.
    pub fn validate(&self) -> Result<(), TrainError> {
        let counts = [
            ("prompts_per_step", self.prompts_per_step),
            ("group_size", self.group_size),
            ("minibatches", self.minibatches),
            ("epochs", self.epochs),
            ("limits.max_turns", self.limits.max_turns),
            ("limits.max_new_tokens", self.limits.max_new_tokens),
            ("limits.max_tokens", self.limits.max_tokens),
        ];
        counts.into_iter().try_for_each(|(key, count)| require(count >= 1, key, "at least 1", count))?;
        let refills = self.drop_flat_groups || self.refill_rounds == 0;
        require(refills, "refill_rounds", "0 without `drop_flat_groups`", self.refill_rounds)?;
        let cap = self.importance_cap;
        require(cap == 0.0 || (cap.is_finite() && cap >= 1.0), "importance_cap", "0 or at least 1", cap)?;
        let Sampling { temperature, top_p, min_p, .. } = self.sampling;
        let drawn = temperature.is_finite() && temperature > 0.0;
        require(drawn, "sampling.temperature", "above 0 in training, where a group needs variety", temperature)?;
        require(top_p > 0.0 && top_p <= 1.0, "sampling.top_p", "in (0, 1]", top_p)?;
        require((0.0..=1.0).contains(&min_p), "sampling.min_p", "in [0, 1]", min_p)?;
        let empty = self.sampling.stop.iter().filter(|text| text.is_empty()).count();
        require(empty == 0, "sampling.stop", "without empty texts", empty)
    }

    /// What the rollouts of one round need.
    pub fn request(&self, round: u64) -> RolloutRequest {
        RolloutRequest {
            group_size: self.group_size,
            sampling: self.sampling.clone(),
            limits: self.limits.clone(),
            prompt: self.prompt.clone(),
            seed: self.seed,
            round,
        }
    }

    /// Updates of a step, where there are rows enough.
    pub fn updates_per_step(&self) -> usize {
        self.minibatches * self.epochs
    }
}
