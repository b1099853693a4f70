//! GRPO: advantages within a group, the clipped surrogate, and an optional pull towards a reference.

use imagent_core::{PolicyOptimizer, TokenBatch, TokenLoss};
use serde::{Deserialize, Serialize};

use super::aggregation::Aggregation;
use super::off;
use super::tally::Tally;
use super::terms::{MAX_LOG_RATIO, Term, k3, ratio};
use crate::error::{TrainError, require};

/// Group-relative policy optimisation (DeepSeekMath, arXiv 2402.03300), with the usual variants as fields.
///
/// Advantages of a group with rewards `R`: `A_i = (R_i − mean) / (std + std_epsilon)`, `std` unbiased (÷ n − 1); mean
/// and deviation are over the trajectories in the baseline. With the ratio `r = exp(logprob − old_logprob)`:
///
/// ```text
/// surrogate = −min(r·A, clip(r, 1 − clip_low, 1 + clip_high)·A)       and at most −dual_clip·A where A < 0
/// loss      = aggregate(surrogate + kl_coef · k3 − entropy_coef · entropy)
/// k3        = exp(d) − d − 1,   d = ref_logprob − logprob
/// ```
///
/// Where implementations differ, this is what it does:
/// * a baseline of fewer than two trajectories gives advantage 0 to all (verl keeps the raw reward of a lone one);
/// * a baseline of equal rewards gives exactly 0 to all while `normalize_std` is on, also to trajectories outside it;
/// * the log ratio is cut to ±`log_ratio_clamp` and k3 to `kl_clamp`, with derivative 0 outside (as in verl; TRL has
///   neither: set both to `"off"`);
/// * rows that are wholly masked do not count as rows (see [`Aggregation`]);
/// * without `ref_logprobs` there is no KL term.
///
/// Dr.GRPO (arXiv 2503.20783): `normalize_std = false`, `aggregation.constant.length = L`. DAPO's clip-higher (arXiv
/// 2503.14476): `clip_high = 0.28`. Dual clip (arXiv 1912.09729): `dual_clip = 3`.
///
/// ```
/// use imagent_algorithms::Grpo;
/// use imagent_core::PolicyOptimizer;
/// let grpo = Grpo::default();
/// let advantages = grpo.advantages_of(&[1.0, 0.0, 1.0, 0.0], &[true; 4]);
/// assert!((advantages[0] - 0.866).abs() < 1e-3 && advantages[0] == -advantages[1]);
/// assert_eq!(grpo.advantages_of(&[0.2; 3], &[true; 3]), [0.0; 3]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Grpo {
    /// How far the ratio may fall before a token with negative advantage stops counting; in [0, 1]. Default 0.2.
    pub clip_low: f32,
    /// How far the ratio may rise before a token with positive advantage stops counting; ≥ 0. Default 0.2.
    pub clip_high: f32,
    /// Weight β of the KL term; ≥ 0. Default 0, which needs no reference.
    pub kl_coef: f32,
    /// Weight of the entropy bonus; ≥ 0. Default 0.
    pub entropy_coef: f32,
    /// Whether advantages are divided by the group's deviation. Default true.
    pub normalize_std: bool,
    /// Added to the deviation; above 0. Default 1e-6 (verl; TRL has 1e-4).
    pub std_epsilon: f32,
    /// Largest ratio that counts where the advantage is negative; above 1, or `"off"`. Default off (verl: 3).
    #[serde(with = "off")]
    pub dual_clip: Option<f32>,
    /// How token losses become one number. Default `token_mean`.
    pub aggregation: Aggregation,
    /// Where log ratios are cut; in (0, 80], or `"off"`, which is 80. Default 20 (verl).
    #[serde(with = "off")]
    pub log_ratio_clamp: Option<f32>,
    /// Largest k3 of a token; above 0, or `"off"`. Default 10 (verl).
    #[serde(with = "off")]
    pub kl_clamp: Option<f32>,
}

impl Default for Grpo {
    fn default() -> Self {
        Self {
            clip_low: 0.2,
            clip_high: 0.2,
            kl_coef: 0.0,
            entropy_coef: 0.0,
            normalize_std: true,
            std_epsilon: 1e-6,
            dual_clip: None,
            aggregation: Aggregation::TokenMean,
            log_ratio_clamp: Some(20.0),
            kl_clamp: Some(10.0),
        }
    }
}

/// The fields as read, ranges unchecked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    clip_low: f32,
    clip_high: f32,
    kl_coef: f32,
    entropy_coef: f32,
    normalize_std: bool,
    std_epsilon: f32,
    #[serde(with = "off")]
    dual_clip: Option<f32>,
    aggregation: Aggregation,
    #[serde(with = "off")]
    log_ratio_clamp: Option<f32>,
    #[serde(with = "off")]
    kl_clamp: Option<f32>,
}

impl Default for Raw {
    fn default() -> Self {
        let d = Grpo::default();
        Self {
            clip_low: d.clip_low,
            clip_high: d.clip_high,
            kl_coef: d.kl_coef,
            entropy_coef: d.entropy_coef,
            normalize_std: d.normalize_std,
            std_epsilon: d.std_epsilon,
            dual_clip: d.dual_clip,
            aggregation: d.aggregation,
            log_ratio_clamp: d.log_ratio_clamp,
            kl_clamp: d.kl_clamp,
        }
    }
}

impl TryFrom<Raw> for Grpo {
    type Error = TrainError;

    fn try_from(raw: Raw) -> Result<Self, TrainError> {
        let grpo = Self {
            clip_low: raw.clip_low,
            clip_high: raw.clip_high,
            kl_coef: raw.kl_coef,
            entropy_coef: raw.entropy_coef,
            normalize_std: raw.normalize_std,
            std_epsilon: raw.std_epsilon,
            dual_clip: raw.dual_clip,
            aggregation: raw.aggregation,
            log_ratio_clamp: raw.log_ratio_clamp,
            kl_clamp: raw.kl_clamp,
        };
        grpo.validate().map(|()| grpo)
    }
}

impl Grpo {
    /// Checks the ranges; a value read from a config has passed already.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<(), TrainError> {
        let not_negative = |x: f32| x.is_finite() && x >= 0.0;
        let positive = |x: f32| x.is_finite() && x > 0.0;
        require((0.0..=1.0).contains(&self.clip_low), "clip_low", "in [0, 1]", self.clip_low)?;
        require(not_negative(self.clip_high), "clip_high", "at least 0", self.clip_high)?;
        require(not_negative(self.kl_coef), "kl_coef", "at least 0", self.kl_coef)?;
        require(not_negative(self.entropy_coef), "entropy_coef", "at least 0", self.entropy_coef)?;
        require(positive(self.std_epsilon), "std_epsilon", "above 0", self.std_epsilon)?;
        if let Some(c) = self.dual_clip {
            require(c.is_finite() && c > 1.0, "dual_clip", "above 1, or \"off\"", c)?;
        }
        if let Aggregation::Constant { length } = self.aggregation {
            require(length.is_finite() && length > 0.0, "aggregation.constant.length", "above 0", length)?;
        }
        if let Some(c) = self.log_ratio_clamp {
            require(c > 0.0 && c <= MAX_LOG_RATIO, "log_ratio_clamp", "in (0, 80], or \"off\"", c)?;
        }
        self.kl_clamp.map_or(Ok(()), |c| require(positive(c), "kl_clamp", "above 0, or \"off\"", c))
    }

    /// The clipped surrogate of a token, by its ratio and advantage, and whether and how it was clipped.
    fn surrogate(&self, ratio: Term, advantage: f64) -> (Term, Clip) {
        let (low, high) = (1.0 - f64::from(self.clip_low), 1.0 + f64::from(self.clip_high));
        let flat = |bound: f64| Term { value: -bound * advantage, slope: 0.0 };
        let dual = self.dual_clip.map_or(f64::INFINITY, f64::from);
        if advantage > 0.0 && ratio.value > high {
            (flat(high), Clip::High)
        } else if advantage < 0.0 && ratio.value < low {
            (flat(low), Clip::Low)
        } else if advantage < 0.0 && ratio.value > dual {
            (flat(dual), Clip::Dual)
        } else {
            (Term { value: -ratio.value * advantage, slope: -ratio.slope * advantage }, Clip::None)
        }
    }

    /// The loss of token `i` and its derivative by the token's log-probability, before aggregation.
    fn token(&self, tokens: &TokenBatch, i: usize, advantage: f64, tally: &mut Tally) -> Term {
        let weight = tokens.loss_mask[i];
        let (new, old) = (tokens.logprobs[i], tokens.old_logprobs[i]);
        let r = ratio(new, old, self.log_ratio_clamp);
        let (policy, clip) = self.surrogate(r, advantage);
        let mut loss = policy;
        if let Some(reference) = &tokens.ref_logprobs {
            let kl = k3(new, reference[i], self.log_ratio_clamp, self.kl_clamp);
            loss.value += f64::from(self.kl_coef) * kl.value;
            loss.slope += f64::from(self.kl_coef) * kl.slope;
            tally.mean("kl", weight, kl.value);
        }
        tally.token(weight);
        tally.mean("policy_loss", weight, policy.value);
        tally.mean("approx_kl", weight, k3(old, new, self.log_ratio_clamp, None).value);
        tally.mean("ratio_mean", weight, r.value);
        tally.max("ratio_max", r.value);
        tally.mean("entropy", weight, tokens.entropies[i]);
        tally.mean("clip_fraction", weight, matches!(clip, Clip::Low | Clip::High));
        tally.mean("clip_fraction_low", weight, clip == Clip::Low);
        tally.mean("clip_fraction_high", weight, clip == Clip::High);
        tally.mean("dual_clip_fraction", weight, clip == Clip::Dual);
        loss
    }
}

/// Which bound decided a token's surrogate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clip {
    None,
    Low,
    High,
    Dual,
}

#[typetag::serde(name = "grpo")]
impl PolicyOptimizer for Grpo {
    fn advantages_of(&self, rewards: &[f32], in_baseline: &[bool]) -> Vec<f32> {
        let counted = rewards.iter().zip(in_baseline).filter(|(_, counts)| **counts);
        let baseline: Vec<f64> = counted.map(|(&reward, _)| f64::from(reward)).collect();
        if baseline.len() < 2 {
            return vec![0.0; rewards.len()];
        }
        let flat = baseline.windows(2).all(|pair| pair[0] == pair[1]);
        let mean = if flat { baseline[0] } else { baseline.iter().sum::<f64>() / baseline.len() as f64 };
        let scale = match (self.normalize_std, flat) {
            (false, _) => 1.0,
            (true, true) => 0.0,
            (true, false) => 1.0 / (unbiased_std(&baseline, mean) + f64::from(self.std_epsilon)),
        };
        rewards.iter().map(|&reward| ((f64::from(reward) - mean) * scale) as f32).collect()
    }

    fn loss(&self, tokens: &TokenBatch) -> TokenLoss {
        let shares = self.aggregation.weights(tokens);
        let zeros = vec![0.0; tokens.len()];
        let (mut value, mut d_logprobs, mut d_entropies) = (0.0, zeros.clone(), zeros);
        let mut tally = Tally::default();
        let entropy_coef = f64::from(self.entropy_coef);
        for row in 0..tokens.rows() {
            let advantage = f64::from(tokens.advantages[row]);
            for i in tokens.row(row).filter(|&i| shares[i] != 0.0) {
                let term = self.token(tokens, i, advantage, &mut tally);
                value += shares[i] * term.value;
                d_logprobs[i] = (shares[i] * term.slope) as f32;
                if entropy_coef > 0.0 {
                    value -= shares[i] * entropy_coef * f64::from(tokens.entropies[i]);
                    d_entropies[i] = (-shares[i] * entropy_coef) as f32;
                }
            }
        }
        TokenLoss { value, d_logprobs, d_entropies, metrics: tally.finish() }
    }

    fn needs_reference(&self) -> bool {
        self.kl_coef > 0.0
    }
}

fn unbiased_std(values: &[f64], mean: f64) -> f64 {
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}
