//! The complement of a mask: what it leaves out counts, and nothing else.

use imagent_core::{Mask, Trajectory};
use serde::{Deserialize, Serialize};

use super::all::AllMask;

/// Weight 1 where `mask` has 0, and 0 where it has 1. The baseline is not its affair: every trajectory stays in it.
///
/// Beside `action` in the list, or observations are trained on too: `[{ type = "action" }, { type = "not", mask = { type =
/// "first_turns" } }]` trains all turns but the first.
///
/// ```
/// use imagent_core::Mask;
/// let json = r#"{"type": "not", "mask": {"type": "repeated_call"}}"#;
/// let mask: Box<dyn Mask> = serde_json::from_str(json)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotMask {
    /// The mask. Default `all` without masks, which leaves everything, so that nothing counts.
    pub mask: Box<dyn Mask>,
}

impl Default for NotMask {
    fn default() -> Self {
        Self { mask: Box::new(AllMask::default()) }
    }
}

#[typetag::serde(name = "not")]
impl Mask for NotMask {
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        let mut own = vec![1.0; weights.len()];
        self.mask.apply(trajectory, &mut own);
        weights.iter_mut().zip(own).for_each(|(weight, own)| *weight *= 1.0 - own);
    }
}
