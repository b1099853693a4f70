//! The fields of an optimiser as a config gives them: those that are absent have the optimiser's own default.

use serde::Deserialize;

use super::aggregation::Aggregation;
use super::baseline::{Baseline, Lone};
use super::batch::BatchScale;
use super::grpo::Grpo;
use super::kl::{KlEstimator, KlIn};
use super::off;
use super::surrogate::Surrogate;

/// The fields of [`Grpo`] that are given, ranges unchecked.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Given {
    clip_low: Option<f32>,
    clip_high: Option<f32>,
    kl_coef: Option<f32>,
    kl_in: Option<KlIn>,
    kl_estimator: Option<KlEstimator>,
    entropy_coef: Option<f32>,
    baseline: Option<Baseline>,
    lone: Option<Lone>,
    normalize_std: Option<bool>,
    std_epsilon: Option<f32>,
    batch_scale: Option<BatchScale>,
    #[serde(deserialize_with = "off::given")]
    gamma: Option<Option<f32>>,
    surrogate: Option<Surrogate>,
    #[serde(deserialize_with = "off::given")]
    dual_clip: Option<Option<f32>>,
    aggregation: Option<Aggregation>,
    #[serde(deserialize_with = "off::given")]
    log_ratio_clamp: Option<Option<f32>>,
    #[serde(deserialize_with = "off::given")]
    kl_clamp: Option<Option<f32>>,
}

impl Given {
    /// The optimiser with these fields and, for the rest, those of `defaults`.
    pub(crate) fn over(self, defaults: Grpo) -> Grpo {
        Grpo {
            clip_low: self.clip_low.unwrap_or(defaults.clip_low),
            clip_high: self.clip_high.unwrap_or(defaults.clip_high),
            kl_coef: self.kl_coef.unwrap_or(defaults.kl_coef),
            kl_in: self.kl_in.unwrap_or(defaults.kl_in),
            kl_estimator: self.kl_estimator.unwrap_or(defaults.kl_estimator),
            entropy_coef: self.entropy_coef.unwrap_or(defaults.entropy_coef),
            baseline: self.baseline.unwrap_or(defaults.baseline),
            lone: self.lone.unwrap_or(defaults.lone),
            normalize_std: self.normalize_std.unwrap_or(defaults.normalize_std),
            std_epsilon: self.std_epsilon.unwrap_or(defaults.std_epsilon),
            batch_scale: self.batch_scale.unwrap_or(defaults.batch_scale),
            gamma: self.gamma.unwrap_or(defaults.gamma),
            surrogate: self.surrogate.unwrap_or(defaults.surrogate),
            dual_clip: self.dual_clip.unwrap_or(defaults.dual_clip),
            aggregation: self.aggregation.unwrap_or(defaults.aggregation),
            log_ratio_clamp: self.log_ratio_clamp.unwrap_or(defaults.log_ratio_clamp),
            kl_clamp: self.kl_clamp.unwrap_or(defaults.kl_clamp),
        }
    }
}
