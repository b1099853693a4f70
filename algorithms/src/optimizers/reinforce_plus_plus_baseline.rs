//! REINFORCE++-baseline: the group's mean is taken off, and the batch scales.

use super::preset::preset;
use crate::{BatchScale, Grpo, KlEstimator, Lone};

preset! {
    /// REINFORCE++-baseline (Hu et al., arXiv 2501.03262): `R − mean` within the group, whitened over all tokens of the step. All
    /// fields are those of [`Grpo`].
    ///
    /// Defaults of its own: `normalize_std = false`, `lone = "reward"`, `batch_scale = "whiten"`, `kl_estimator = "k2"`, in the loss.
    ///
    /// ```
    /// assert!(!imagent_algorithms::ReinforcePlusPlusBaseline::default().0.normalize_std);
    /// ```
    #[typetag::serde(name = "reinforce_plus_plus_baseline")]
    ReinforcePlusPlusBaseline,
    Grpo {
        lone: Lone::Reward,
        normalize_std: false,
        batch_scale: BatchScale::Whiten,
        kl_estimator: KlEstimator::K2,
        ..Grpo::default()
    }
}
