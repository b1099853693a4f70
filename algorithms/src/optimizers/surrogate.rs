//! What is differentiated in place of the expected reward: a token's loss by its ratio, its log-probability and its
//! advantage.

use imagent_core::TokenBatch;
use serde::{Deserialize, Serialize};

use super::terms::{Term, cut, ratio};

/// The loss of a token. With `r` the token's ratio `exp(logprob − old_logprob)`, `A` its advantage, `low = 1 − clip_low` and
/// `high = 1 + clip_high`; `sg` is held fixed when differentiating:
///
/// | variant | loss of a token | known as |
/// |---|---|---|
/// | `clipped` | `−min(r·A, clip(r, low, high)·A)`, at most `−dual_clip·A` where `A < 0` | PPO, GRPO |
/// | `sequence` | the same with the row's ratio `s = exp(mean of its log ratios by loss weight)` | GSPO |
/// | `geometric` | `−g·A`, `g` the same mean with each log ratio cut to `[−clip_low, clip_high]` on the side that `A` pushes to | GMPO (Zhao et al., arXiv 2507.20673) |
/// | `weighted` | `−sg(clip(r, low, high))·A·logprob` | CISPO |
/// | `reinforce` | `−A·logprob` | REINFORCE, GPG |
///
/// `sequence` gives token `t` the slope `−s·A_t`: the exact derivative where a row's tokens have one advantage, and GSPO-token
/// where each has its own. At the policy that sampled all five have the slope `−A`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surrogate {
    /// The clipped ratio of the token.
    #[default]
    Clipped,
    /// The clipped ratio of the sequence.
    Sequence,
    /// The geometric mean of clipped ratios.
    Geometric,
    /// The log-probability, weighted by the clipped ratio.
    Weighted,
    /// The log-probability alone.
    Reinforce,
}

/// Which bound decided a token's surrogate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clip {
    None,
    Low,
    High,
    Dual,
}

/// The bounds of a ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) clip_low: f32,
    pub(crate) clip_high: f32,
    pub(crate) dual: Option<f32>,
    pub(crate) log_ratio_clamp: Option<f32>,
}

/// A token's surrogate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) term: Term,
    pub(crate) ratio: f64,
    pub(crate) clip: Clip,
}

impl Surrogate {
    /// What the tokens of a row share: the mean of its log ratios, where the surrogate asks for one.
    pub(crate) fn row(self, tokens: &TokenBatch, row: usize, bounds: &Bounds) -> Option<(f64, bool)> {
        let log_ratio = |i: usize| f64::from(tokens.logprobs[i]) - f64::from(tokens.old_logprobs[i]);
        let rises = tokens.advantages[row] > 0.0;
        let shared: &dyn Fn(usize) -> f64 = match self {
            Self::Sequence => &log_ratio,
            Self::Geometric => &|i| pushed(log_ratio(i), rises, bounds).0,
            Self::Clipped | Self::Weighted | Self::Reinforce => return None,
        };
        let (mut sum, mut mass) = (0.0, 0.0);
        for i in tokens.row(row).filter(|&i| tokens.loss_mask[i] != 0.0) {
            let weight = f64::from(tokens.loss_mask[i]);
            sum += weight * shared(i);
            mass += weight;
        }
        Some(cut(if mass > 0.0 { sum / mass } else { 0.0 }, bounds.log_ratio_clamp))
    }

    /// The loss of token `i` of row `row`; `shared` is the row's.
    pub(crate) fn token(
        self,
        tokens: &TokenBatch,
        (row, i): (usize, usize),
        shared: Option<(f64, bool)>,
        bounds: &Bounds,
    ) -> Loss {
        let (new, old) = (tokens.logprobs[i], tokens.old_logprobs[i]);
        let advantage = f64::from(tokens.advantage(row, i));
        let r = match shared {
            None => ratio(new, old, bounds.log_ratio_clamp),
            Some((mean, inside)) => Term { value: mean.exp(), slope: if inside { mean.exp() } else { 0.0 } },
        };
        let (term, clip) = match self {
            Self::Clipped | Self::Sequence => clipped(r, advantage, bounds),
            Self::Geometric => {
                let (_, clip) = pushed(f64::from(new) - f64::from(old), tokens.advantages[row] > 0.0, bounds);
                let slope = if clip == Clip::None { -r.slope * advantage } else { 0.0 };
                (Term { value: -r.value * advantage, slope }, clip)
            }
            Self::Weighted => weighted(r.value, new, advantage, bounds),
            Self::Reinforce => (likelihood(1.0, new, advantage), Clip::None),
        };
        Loss { term, ratio: r.value, clip }
    }
}

impl Bounds {
    fn ratios(&self) -> (f64, f64) {
        (1.0 - f64::from(self.clip_low), 1.0 + f64::from(self.clip_high))
    }
}

fn clipped(ratio: Term, advantage: f64, bounds: &Bounds) -> (Term, Clip) {
    let (low, high) = bounds.ratios();
    let flat = |bound: f64| Term { value: -bound * advantage, slope: 0.0 };
    let dual = bounds.dual.map_or(f64::INFINITY, f64::from);
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

fn weighted(ratio: f64, logprob: f32, advantage: f64, bounds: &Bounds) -> (Term, Clip) {
    let (low, high) = bounds.ratios();
    let clip = match ratio {
        r if r < low => Clip::Low,
        r if r > high => Clip::High,
        _ => Clip::None,
    };
    (likelihood(ratio.clamp(low, high), logprob, advantage), clip)
}

/// `−weight·A·logprob` with the weight held fixed; a token that cannot be drawn counts as the least likely `f32`.
fn likelihood(weight: f64, logprob: f32, advantage: f64) -> Term {
    let slope = -weight * advantage;
    Term { value: slope * f64::from(logprob.max(f32::MIN)), slope }
}

/// A log ratio, cut where the advantage pushes it beyond its bound.
fn pushed(log_ratio: f64, rises: bool, bounds: &Bounds) -> (f64, Clip) {
    let (low, high) = (-f64::from(bounds.clip_low), f64::from(bounds.clip_high));
    if rises && log_ratio > high {
        (high, Clip::High)
    } else if !rises && log_ratio < low {
        (low, Clip::Low)
    } else {
        (log_ratio, Clip::None)
    }
}
