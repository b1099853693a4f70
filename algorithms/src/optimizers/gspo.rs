//! GSPO: the ratio of the whole sequence decides, and is clipped.

use super::preset::preset;
use crate::{Aggregation, Grpo, Surrogate};

preset! {
    /// GSPO (Zheng et al., arXiv 2507.18071): GRPO with the sequence's ratio, `exp` of the mean log ratio of its tokens, and bounds
    /// as narrow as such a mean moves. All fields are those of [`Grpo`]; see [`Surrogate`] for the formula.
    ///
    /// Defaults of its own: `surrogate = "sequence"`, `clip_low = 3e-4`, `clip_high = 4e-4`, `aggregation = "seq_mean_token_mean"`,
    /// `log_ratio_clamp = 10` (verl cuts at 10 above, and not below).
    ///
    /// ```
    /// assert_eq!(imagent_algorithms::Gspo::default().0.clip_low, 3e-4);
    /// ```
    #[typetag::serde(name = "gspo")]
    Gspo,
    Grpo {
        surrogate: Surrogate::Sequence,
        clip_low: 3e-4,
        clip_high: 4e-4,
        aggregation: Aggregation::SeqMeanTokenMean,
        log_ratio_clamp: Some(10.0),
        ..Grpo::default()
    }
}
