//! The union of masks: a token counts where one of them lets it.

use imagent_core::{Mask, Trajectory};
use serde::{Deserialize, Serialize};

/// Weight 1 where at least one of `masks` leaves it, 0 elsewhere; a trajectory is in the baseline where one of them leaves it
/// there. Without masks nothing counts. (A list of masks in a config is their product: all of them must leave a token.)
///
/// ```
/// use imagent_core::Mask;
/// let json = r#"{"type": "any", "masks": [{"type": "first_turns"}, {"type": "trajectory"}]}"#;
/// let mask: Box<dyn Mask> = serde_json::from_str(json)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnyMask {
    /// The masks. Default none.
    pub masks: Vec<Box<dyn Mask>>,
}

#[typetag::serde(name = "any")]
impl Mask for AnyMask {
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        let mut left = vec![0.0f32; weights.len()];
        for mask in &self.masks {
            let mut own = vec![1.0; weights.len()];
            mask.apply(trajectory, &mut own);
            left.iter_mut().zip(own).for_each(|(left, own)| *left = left.max(own));
        }
        weights.iter_mut().zip(left).for_each(|(weight, left)| *weight *= left);
    }

    fn in_baseline(&self, trajectory: &Trajectory) -> bool {
        self.masks.iter().any(|mask| mask.in_baseline(trajectory))
    }
}
