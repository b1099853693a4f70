//! `imagent`: accuracy × tool gain + format.

use imagent_core::{Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::format::format;
use crate::{Grader, check};

/// The reward of IMAgent (arXiv 2512.08980):
///
/// `R = accuracy × (1 + tool_gain × tool) + format_weight × format`
///
/// with accuracy, tool and format each 0 or 1: `tool` when a tool call of the trajectory returned an image, `format` as
/// in [`Format`](crate::Format). In `[0, 1 + tool_gain + format_weight]`. The gain multiplies the accuracy, so a tool
/// call earns nothing beside a wrong answer.
///
/// The published summaries give the shape; the constants are ours.
///
/// ```
/// use imagent_rewards::{Grader, ImAgent};
/// let no_gain = ImAgent { tool_gain: 0.0, ..ImAgent::default() };
/// assert_eq!(no_gain.format_weight, 0.2);
/// assert_eq!(no_gain.grader, Grader::Exact {});
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImAgent {
    /// How the answer is compared with the gold one; default `exact`.
    pub grader: Grader,
    /// How much a right answer gains when a tool was used; not negative. Default 1, which doubles it; the ablation
    /// takes 0, 0.5, 1 and 2.
    #[serde(deserialize_with = "check::not_negative")]
    pub tool_gain: f64,
    /// Weight of the format; not negative. Default 0.2, DeepEyes' weight: worth having, and too little to make
    /// a well-formed wrong answer compete with a right one.
    #[serde(deserialize_with = "check::not_negative")]
    pub format_weight: f64,
}

impl Default for ImAgent {
    fn default() -> Self {
        Self { grader: Grader::default(), tool_gain: 1.0, format_weight: 0.2 }
    }
}

#[typetag::serde(name = "imagent")]
impl Reward for ImAgent {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        let accuracy = match self.grader.grade(sample, trajectory) {
            Ok(accuracy) => accuracy,
            Err(error) => return Score::skip(error.to_string()),
        };
        let (format, tool) = (format(trajectory), check::tool(trajectory));
        let value = accuracy * (1.0 + self.tool_gain * tool) + self.format_weight * format;
        check::score(value, accuracy, format, tool)
    }
}
