//! The trajectory-level mask: episodes that were cut off, or gave up, do not push the policy.

use imagent_core::{EndReason, Mask, Trajectory};
use serde::{Deserialize, Serialize};

/// Weight 0 on the whole trajectory when it ended for one of `ends` (IMAgent, arXiv 2512.08980; "overlong
/// filtering" in DAPO).
///
/// ```
/// use imagent_algorithms::TrajectoryMask;
/// use imagent_core::EndReason;
/// let mask: TrajectoryMask = serde_json::from_str(r#"{"ends": ["TurnLimit"]}"#)?;
/// assert_eq!(mask, TrajectoryMask { ends: vec![EndReason::TurnLimit], in_baseline: true });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrajectoryMask {
    /// End reasons that are masked. Default: `NoAnswer`, `TurnLimit`, `LengthLimit`.
    pub ends: Vec<EndReason>,
    /// Whether a masked trajectory still counts in its group's mean and deviation. Default: true. The paper leaves
    /// this open; counted, a cut-off trajectory's low reward still raises the advantage of those that finished.
    pub in_baseline: bool,
}

impl Default for TrajectoryMask {
    fn default() -> Self {
        Self { ends: vec![EndReason::NoAnswer, EndReason::TurnLimit, EndReason::LengthLimit], in_baseline: true }
    }
}

impl TrajectoryMask {
    fn masks(&self, trajectory: &Trajectory) -> bool {
        self.ends.contains(&trajectory.end)
    }
}

#[typetag::serde(name = "trajectory")]
impl Mask for TrajectoryMask {
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        if self.masks(trajectory) {
            weights.fill(0.0);
        }
    }

    fn in_baseline(&self, trajectory: &Trajectory) -> bool {
        self.in_baseline || !self.masks(trajectory)
    }
}
