//! `tool_use`: 1 for a trajectory that saw an image by a tool.

use imagent_core::{Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::check;

/// Tool use alone: `R = 1` when a tool call of the trajectory returned an image, else 0. A term for [`Sum`](crate::Sum) and a
/// factor for [`Product`](crate::Product); by itself it pays for calls whatever comes of them. Reads no gold answer, so it
/// never skips.
///
/// ```
/// use imagent_core::Reward;
/// let reward: Box<dyn Reward> = serde_json::from_str(r#"{"type": "tool_use"}"#)?;
/// # let _ = imagent_rewards::ToolUse::default();
/// assert_eq!(serde_json::to_string(&reward)?, r#"{"type":"tool_use"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolUse {}

#[typetag::serde(name = "tool_use")]
impl Reward for ToolUse {
    fn score(&self, _: &Sample, trajectory: &Trajectory) -> Score {
        let tool = check::tool(trajectory) as f32;
        Score::new(tool, [("tool", tool)])
    }
}
