//! `grounding_image`: 1 where the answer names the right image.

use imagent_core::{BoxFrame, Grounding, Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::check;
use crate::format::format;
use crate::grader::no_gold_box;

/// The image reward of MIRG-RL (arXiv 2509.21788): `R = 1` where the answer names an image that holds a gold box, else 0.
///
/// The image is the field `image` of a JSON object, read also where the box beside it is missing or none, so that it can be learned
/// before boxes are. An answer with a box that names no image is about the sample's image if it has only one. Gold is the sample's answer
/// where that is a box, else its gold regions; a sample with neither is skipped.
///
/// Parts: `image`, the same value; `format`; `tool`. A term for [`Sum`](crate::Sum) beside
/// [`GroundingObject`](crate::GroundingObject).
///
/// ```
/// use imagent_core::Reward;
/// # let _ = imagent_rewards::GroundingImage::default();
/// let reward: Box<dyn Reward> = serde_json::from_str(
///     r#"{"type": "sum", "terms": [
///         {"weight": 1.0, "reward": {"type": "grounding_object"}},
///         {"weight": 0.5, "reward": {"type": "grounding_image"}},
///         {"weight": 0.2, "reward": {"type": "format"}}
///     ]}"#,
/// )?;
/// # assert!(format!("{reward:?}").contains("0.5"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroundingImage {}

#[typetag::serde(name = "grounding_image")]
impl Reward for GroundingImage {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        // Which image it is does not depend on the frames.
        let Some(found) = Grounding::read(sample, trajectory, BoxFrame::Shown, BoxFrame::Original) else {
            return Score::skip(no_gold_box(sample).to_string());
        };
        let image = f32::from(u8::from(found.right_image()));
        let parts = [("image", image), ("format", format(trajectory) as f32), ("tool", check::tool(trajectory) as f32)];
        Score::new(image, parts)
    }
}
