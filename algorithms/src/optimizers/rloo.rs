//! RLOO: each trajectory is measured against the others of its group.

use super::preset::preset;
use crate::{Aggregation, Baseline, Grpo};

preset! {
    /// RLOO (Ahmadian et al., arXiv 2402.14740): `A_i = R_i −` the mean reward of the others, and a whole trajectory counts as one
    /// action. All fields are those of [`Grpo`].
    ///
    /// Defaults of its own: `baseline = "leave_one_out"`, `normalize_std = false`, `aggregation = "seq_mean_token_sum"`. The paper
    /// differentiates the bare log-probability (`surrogate = "reinforce"`); the clipped ratio, which is the same at the first
    /// update, allows for more than one.
    ///
    /// ```
    /// use imagent_algorithms::Rloo;
    /// use imagent_core::PolicyOptimizer;
    /// assert_eq!(Rloo::default().advantages_of(&[1.0, 0.0, 0.5], &[true; 3]), [0.75, -0.75, 0.0]);
    /// ```
    #[typetag::serde(name = "rloo")]
    Rloo,
    Grpo {
        baseline: Baseline::LeaveOneOut,
        normalize_std: false,
        aggregation: Aggregation::SeqMeanTokenSum,
        ..Grpo::default()
    }
}
