//! CISPO: ratios are cut where they weigh, and no token loses its gradient.

use super::preset::preset;
use crate::{Grpo, Surrogate};

preset! {
    /// CISPO (MiniMax-M1, arXiv 2506.13585): the log-probability of each token, weighted by its ratio, cut and held fixed. All fields
    /// are those of [`Grpo`]; see [`Surrogate`] for the formula.
    ///
    /// Defaults of its own: `surrogate = "weighted"`, `clip_low = 1` (no bound below, as in the paper), `clip_high = 4` (ratios up to
    /// 5, as in ScaleRL, arXiv 2510.13786; the paper leaves it open).
    ///
    /// ```
    /// assert_eq!(imagent_algorithms::Cispo::default().0.clip_high, 4.0);
    /// ```
    #[typetag::serde(name = "cispo")]
    Cispo,
    Grpo {
        surrogate: Surrogate::Weighted,
        clip_low: 1.0,
        clip_high: 4.0,
        ..Grpo::default()
    }
}
