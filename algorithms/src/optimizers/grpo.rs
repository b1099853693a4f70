//! GRPO: advantages within a group, the clipped surrogate, and an optional pull towards a reference. Every piece is a
//! field, and the other optimisers are this one with other defaults.

use imagent_core::{Advantages, Outcomes, PolicyOptimizer, TokenBatch, TokenLoss};
use serde::{Deserialize, Deserializer, Serialize};

use super::aggregation::Aggregation;
use super::baseline::{Baseline, Lone, Rule};
use super::batch::{BatchScale, Plan};
use super::given::Given;
use super::kl::{KlEstimator, KlIn};
use super::off;
use super::surrogate::{Bounds, Clip, Loss, Surrogate};
use super::tally::Tally;
use super::terms::{MAX_LOG_RATIO, Term, k3};
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
/// * a baseline of fewer than two trajectories gives advantage 0 to all (verl keeps the raw reward of a lone one: `lone`);
/// * a baseline of equal rewards gives exactly 0 to all while `normalize_std` is on, also to trajectories outside it;
/// * the log ratio is cut to ±`log_ratio_clamp` and k3 to `kl_clamp`, with derivative 0 outside (as in verl; TRL has
///   neither: set both to `"off"`);
/// * rows that are wholly masked do not count as rows (see [`Aggregation`]);
/// * without `ref_logprobs` there is no KL term.
///
/// The other pieces are fields too ([`Baseline`], [`BatchScale`], [`Surrogate`], [`KlEstimator`], [`KlIn`], `gamma`), so that
/// an ablation changes one line. With defaults of their own they are [`DrGrpo`](super::DrGrpo), [`Dapo`](super::Dapo),
/// [`Gspo`](super::Gspo), [`Cispo`](super::Cispo), [`Rloo`](super::Rloo), [`ReinforcePlusPlus`](super::ReinforcePlusPlus) and
/// [`ReinforcePlusPlusBaseline`](super::ReinforcePlusPlusBaseline). Dual clip (arXiv 1912.09729): `dual_clip = 3`.
///
/// ```
/// use imagent_algorithms::Grpo;
/// use imagent_core::PolicyOptimizer;
/// let grpo = Grpo::default();
/// let advantages = grpo.advantages_of(&[1.0, 0.0, 1.0, 0.0], &[true; 4]);
/// assert!((advantages[0] - 0.866).abs() < 1e-3 && advantages[0] == -advantages[1]);
/// assert_eq!(grpo.advantages_of(&[0.2; 3], &[true; 3]), [0.0; 3]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grpo {
    /// How far the ratio may fall before a token with negative advantage stops counting; in [0, 1]. Default 0.2.
    pub clip_low: f32,
    /// How far the ratio may rise before a token with positive advantage stops counting; ≥ 0. Default 0.2.
    pub clip_high: f32,
    /// Weight β of the KL term; ≥ 0. Default 0, which needs no reference.
    pub kl_coef: f32,
    /// Where the KL term acts. Default `loss`.
    pub kl_in: KlIn,
    /// How it is estimated. Default `k3`.
    pub kl_estimator: KlEstimator,
    /// Weight of the entropy bonus; ≥ 0. Default 0.
    pub entropy_coef: f32,
    /// What a reward is measured against. Default `mean`.
    pub baseline: Baseline,
    /// The advantage where the baseline has fewer than two trajectories. Default `zero`.
    pub lone: Lone,
    /// Whether advantages are divided by the group's deviation. Default true.
    pub normalize_std: bool,
    /// Added to the deviation; above 0. Default 1e-6 (verl; TRL has 1e-4).
    pub std_epsilon: f32,
    /// What the advantages of the whole step are scaled by. Default `off`.
    pub batch_scale: BatchScale,
    /// Discount of returns token by token, in [0, 1]: a token's advantage is what came of it and, discounted, of those after
    /// it. Default `"off"`: every token has what the trajectory has, which is 1 but for a KL term in the reward.
    #[serde(with = "off")]
    pub gamma: Option<f32>,
    /// What is differentiated. Default `clipped`.
    pub surrogate: Surrogate,
    /// Largest ratio that counts where the advantage is negative; above 1, or `"off"`. Default off (verl: 3). Of
    /// surrogates `clipped` and `sequence` alone.
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
            kl_in: KlIn::Loss,
            kl_estimator: KlEstimator::K3,
            entropy_coef: 0.0,
            baseline: Baseline::Mean,
            lone: Lone::Zero,
            normalize_std: true,
            std_epsilon: 1e-6,
            batch_scale: BatchScale::Off,
            gamma: None,
            surrogate: Surrogate::Clipped,
            dual_clip: None,
            aggregation: Aggregation::TokenMean,
            log_ratio_clamp: Some(20.0),
            kl_clamp: Some(10.0),
        }
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
        if let Some(gamma) = self.gamma {
            require((0.0..=1.0).contains(&gamma), "gamma", "in [0, 1], or \"off\"", gamma)?;
            let whole = self.surrogate != Surrogate::Geometric;
            require(whole, "gamma", "\"off\" with surrogate `geometric`, whose rows have one advantage", gamma)?;
        }
        if let Some(c) = self.dual_clip {
            require(c.is_finite() && c > 1.0, "dual_clip", "above 1, or \"off\"", c)?;
            let clipped = matches!(self.surrogate, Surrogate::Clipped | Surrogate::Sequence);
            require(clipped, "dual_clip", "\"off\" with this surrogate", c)?;
        }
        if let Aggregation::Constant { length } = self.aggregation {
            require(length.is_finite() && length > 0.0, "aggregation.constant.length", "above 0", length)?;
        }
        if let Some(c) = self.log_ratio_clamp {
            require(c > 0.0 && c <= MAX_LOG_RATIO, "log_ratio_clamp", "in (0, 80], or \"off\"", c)?;
        }
        self.kl_clamp.map_or(Ok(()), |c| require(positive(c), "kl_clamp", "above 0, or \"off\"", c))
    }

    /// Reads fields over defaults, and checks their ranges.
    pub(crate) fn read<'de, D: Deserializer<'de>>(defaults: Self, deserializer: D) -> Result<Self, D::Error> {
        let read = Given::deserialize(deserializer)?.over(defaults);
        read.validate().map_err(serde::de::Error::custom)?;
        Ok(read)
    }

    fn rule(&self) -> Rule {
        let std_epsilon = self.normalize_std.then(|| f64::from(self.std_epsilon));
        Rule { baseline: self.baseline, lone: self.lone, std_epsilon }
    }

    fn bounds(&self) -> Bounds {
        let Self { clip_low, clip_high, dual_clip: dual, log_ratio_clamp, .. } = *self;
        Bounds { clip_low, clip_high, dual, log_ratio_clamp }
    }

    fn kl(&self, logprob: f32, reference: f32) -> Term {
        self.kl_estimator.term(logprob, reference, self.log_ratio_clamp, self.kl_clamp)
    }

    /// What the KL term takes off the reward of each token, where it acts there and can be told.
    fn penalties(&self, outcomes: &Outcomes) -> Option<Vec<f64>> {
        let (old, reference) = outcomes.old_logprobs.as_ref().zip(outcomes.ref_logprobs.as_ref())?;
        let taken = |i: usize| match outcomes.loss_mask[i] {
            0.0 => 0.0,
            weight => f64::from(weight) * f64::from(self.kl_coef) * self.kl(old[i], reference[i]).value,
        };
        self.needs_behavior().then(|| (0..old.len()).map(taken).collect())
    }

    /// The loss of token `i` and its derivative by the token's log-probability, before aggregation.
    fn token(&self, tokens: &TokenBatch, i: usize, surrogate: Loss, tally: &mut Tally) -> Term {
        let weight = tokens.loss_mask[i];
        let (new, old) = (tokens.logprobs[i], tokens.old_logprobs[i]);
        let Loss { term: policy, ratio, clip } = surrogate;
        let mut loss = policy;
        if let Some(reference) = &tokens.ref_logprobs {
            let kl = self.kl(new, reference[i]);
            if self.kl_in == KlIn::Loss {
                loss.value += f64::from(self.kl_coef) * kl.value;
                loss.slope += f64::from(self.kl_coef) * kl.slope;
            }
            tally.mean("kl", weight, kl.value);
        }
        tally.token(weight);
        tally.mean("policy_loss", weight, policy.value);
        tally.mean("approx_kl", weight, k3(old, new, self.log_ratio_clamp, None).value);
        tally.mean("ratio_mean", weight, ratio);
        tally.max("ratio_max", ratio);
        tally.mean("entropy", weight, tokens.entropies[i]);
        tally.mean("clip_fraction", weight, matches!(clip, Clip::Low | Clip::High));
        tally.mean("clip_fraction_low", weight, clip == Clip::Low);
        tally.mean("clip_fraction_high", weight, clip == Clip::High);
        tally.mean("dual_clip_fraction", weight, clip == Clip::Dual);
        loss
    }
}

impl<'de> Deserialize<'de> for Grpo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Self::default(), deserializer)
    }
}

#[typetag::serde(name = "grpo")]
impl PolicyOptimizer for Grpo {
    fn advantages_of(&self, rewards: &[f32], in_baseline: &[bool]) -> Vec<f32> {
        let rewards: Vec<f64> = rewards.iter().map(|&reward| f64::from(reward)).collect();
        let equal = vec![1.0; rewards.len()];
        self.rule().advantages(&rewards, &equal, in_baseline).into_iter().map(|advantage| advantage as f32).collect()
    }

    fn batch_advantages(&self, outcomes: &Outcomes) -> Option<Advantages> {
        let penalties = self.penalties(outcomes);
        let (scale, gamma) = (self.batch_scale, self.gamma.map(f64::from));
        let plan = Plan { rule: self.rule(), scale, gamma, penalties: penalties.as_deref() };
        plan.is_needed().then(|| plan.advantages(outcomes))
    }

    fn loss(&self, tokens: &TokenBatch) -> TokenLoss {
        let shares = self.aggregation.weights(tokens);
        let zeros = vec![0.0; tokens.len()];
        let (mut value, mut d_logprobs, mut d_entropies) = (0.0, zeros.clone(), zeros);
        let mut tally = Tally::default();
        let entropy_coef = f64::from(self.entropy_coef);
        let bounds = self.bounds();
        for row in 0..tokens.rows() {
            let shared = self.surrogate.row(tokens, row, &bounds);
            for i in tokens.row(row).filter(|&i| shares[i] != 0.0) {
                let surrogate = self.surrogate.token(tokens, (row, i), shared, &bounds);
                let term = self.token(tokens, i, surrogate, &mut tally);
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

    fn needs_behavior(&self) -> bool {
        self.kl_coef > 0.0 && self.kl_in == KlIn::Reward
    }
}
