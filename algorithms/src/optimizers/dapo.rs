//! DAPO: GRPO with more room upwards and a mean over tokens.

use super::preset::preset;
use crate::{Aggregation, Grpo};

preset! {
    /// DAPO (Yu et al., arXiv 2503.14476), its loss: clip-higher and the mean over all tokens. All fields are those of [`Grpo`].
    ///
    /// Defaults of its own: `clip_high = 0.28`. The paper's other parts belong to the run: dynamic sampling is
    /// `train.drop_flat_groups` with `train.refill_rounds`, the soft penalty of long answers is the reward `length` as a term of
    /// a `sum`, and overlong filtering is the mask `trajectory`.
    ///
    /// ```
    /// assert_eq!(imagent_algorithms::Dapo::default().0.clip_high, 0.28);
    /// ```
    #[typetag::serde(name = "dapo")]
    Dapo,
    Grpo {
        clip_high: 0.28,
        aggregation: Aggregation::TokenMean,
        ..Grpo::default()
    }
}
