//! The action-level mask: the loss counts what the policy wrote, and nothing else.

use imagent_core::{Mask, Origin, Trajectory};
use serde::{Deserialize, Serialize};

/// Weight 1 on sampled tokens, 0 on the prompt and on observations (IMAgent, arXiv 2512.08980).
///
/// Without it observation text is trained on too, which teaches the policy to imitate its tools.
///
/// ```
/// use imagent_core::Mask;
/// let mask: Box<dyn Mask> = serde_json::from_str(r#"{"type": "action"}"#)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionMask {}

#[typetag::serde(name = "action")]
impl Mask for ActionMask {
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        for (weight, origin) in weights.iter_mut().zip(&trajectory.origins) {
            if *origin != Origin::Sampled {
                *weight = 0.0;
            }
        }
    }
}
