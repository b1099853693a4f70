//! The product of masks as one mask, for use within others.

use imagent_core::{Mask, MaskSet, Trajectory};
use serde::{Deserialize, Serialize};

/// Weight 1 where all of `masks` leave it, as a list of masks in a config has it; inside `any` and `not` it makes one of several.
///
/// ```
/// use imagent_core::Mask;
/// let json = r#"{"type": "not", "mask": {"type": "all", "masks": [{"type": "first_turns"}, {"type": "action"}]}}"#;
/// let mask: Box<dyn Mask> = serde_json::from_str(json)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllMask {
    /// The masks. Default none: everything counts.
    pub masks: Vec<Box<dyn Mask>>,
}

#[typetag::serde(name = "all")]
impl Mask for AllMask {
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        self.masks.apply_all(trajectory, weights);
    }

    fn in_baseline(&self, trajectory: &Trajectory) -> bool {
        self.masks.all_in_baseline(trajectory)
    }
}
