//! Dr. GRPO: GRPO without the two divisors that favour some questions and some lengths.

use super::preset::preset;
use crate::{Aggregation, Grpo};

preset! {
    /// Dr. GRPO (Liu et al., arXiv 2503.20783): advantages `R − mean`, not divided by the deviation, and a divisor of the loss that does
    /// not depend on lengths. All fields are those of [`Grpo`].
    ///
    /// Defaults of its own: `normalize_std = false`, `aggregation = { constant = { length = 1024 } }`; the paper's length is the most
    /// tokens that a response may have.
    ///
    /// ```
    /// use imagent_algorithms::DrGrpo;
    /// use imagent_core::PolicyOptimizer;
    /// assert_eq!(DrGrpo::default().advantages_of(&[1.0, 0.0, 1.0, 0.0], &[true; 4]), [0.5, -0.5, 0.5, -0.5]);
    /// ```
    #[typetag::serde(name = "dr_grpo")]
    DrGrpo,
    Grpo {
        normalize_std: false,
        aggregation: Aggregation::Constant { length: 1024.0 },
        ..Grpo::default()
    }
}
