//! The pull towards a reference: which estimate of the KL divergence, and where it acts.

use serde::{Deserialize, Serialize};

use super::terms::{Term, cut, k3};

/// An estimate of KL(policy ‖ reference) from one token (Schulman, *Approximating KL divergence*, 2020), with
/// `d = logprob − ref_logprob`:
///
/// | variant | value | slope by logprob |
/// |---|---|---|
/// | `k1` | `d` | 1 |
/// | `k2` | `d² / 2` | `d` |
/// | `k3` | `exp(−d) − 1 + d` | `1 − exp(−d)` |
/// | `abs` | `\|d\|` | sign of `d` |
///
/// k1 and k3 have the divergence as their mean; of the slopes only k2's has the divergence's gradient as its mean, that of k1 has
/// mean 0: in a loss k1 pulls nowhere. `d` is cut to ±80, in k3 to `log_ratio_clamp`; `kl_clamp` bounds k3 alone, as in verl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// The log ratio.
    K1,
    /// Half its square.
    K2,
    /// Unbiased and never negative.
    #[default]
    K3,
    /// Its absolute value.
    Abs,
}

/// Where the KL term acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlIn {
    /// Added to the loss of each token.
    #[default]
    Loss,
    /// Taken off the reward, by what the policy that sampled differs from the reference. Where advantages are made of a
    /// trajectory's reward, its sum over the trajectory; where they are discounted token by token, from each token on.
    Reward,
}

impl KlEstimator {
    /// The estimate and its slope; `clamp` and `max` as in [`k3`].
    pub(crate) fn term(self, logprob: f32, reference: f32, clamp: Option<f32>, max: Option<f32>) -> Term {
        if self == Self::K3 {
            return k3(logprob, reference, clamp, max);
        }
        let (d, inside) = cut(f64::from(logprob) - f64::from(reference), None);
        let (value, slope) = match self {
            Self::K2 => (0.5 * d * d, d),
            Self::Abs => (d.abs(), if d == 0.0 { 0.0 } else { d.signum() }),
            Self::K1 | Self::K3 => (d, 1.0),
        };
        Term { value, slope: if inside { slope } else { 0.0 } }
    }
}
