//! REINFORCE++: no baseline but the whole batch.

use super::preset::preset;
use crate::{Baseline, BatchScale, Grpo, KlEstimator, KlIn};

preset! {
    /// REINFORCE++ (Hu et al., arXiv 2501.03262): returns token by token, whitened over all tokens of the step. All fields are those
    /// of [`Grpo`].
    ///
    /// Defaults of its own: `baseline = "none"`, `normalize_std = false`, `gamma = 1`, `batch_scale = "whiten"`, `kl_in = "reward"`,
    /// `kl_estimator = "k1"` (`kl_coef` is 0 as everywhere; the paper's is 0.01).
    ///
    /// ```
    /// use imagent_algorithms::ReinforcePlusPlus;
    /// use imagent_core::{Outcomes, PolicyOptimizer};
    /// let outcomes = Outcomes {
    ///     offsets: vec![0, 2, 4],
    ///     groups: vec![0, 1],
    ///     in_baseline: vec![true; 2],
    ///     rewards: vec![1.0, 0.0],
    ///     loss_mask: vec![1.0; 4],
    ///     ..Outcomes::default()
    /// };
    /// let rows = ReinforcePlusPlus::default().batch_advantages(&outcomes).unwrap_or_default().rows;
    /// assert!((rows[0] - 0.75f32.sqrt()).abs() < 1e-6 && rows[1] == -rows[0]);
    /// ```
    #[typetag::serde(name = "reinforce_plus_plus")]
    ReinforcePlusPlus,
    Grpo {
        baseline: Baseline::None,
        normalize_std: false,
        gamma: Some(1.0),
        batch_scale: BatchScale::Whiten,
        kl_in: KlIn::Reward,
        kl_estimator: KlEstimator::K1,
        ..Grpo::default()
    }
}
