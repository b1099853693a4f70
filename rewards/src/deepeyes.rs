//! `deepeyes`: accuracy + format + a bonus for a right answer with a tool.

use imagent_core::{Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::{Grader, check};

/// The reward of DeepEyes (arXiv 2505.14362; `verl/utils/reward_score/vl_agent.py` at 6c5e796):
///
/// `R = 0.8·accuracy + 0.2·format + 1.2·[tool ∧ accuracy > 0.5]`
///
/// so 2.0 for a right answer with a tool, 0.8 for one without, 0 for a wrong one and −0.2 for a badly formed one. `format`
/// is −1 when one of these fails, else 0, on all sampled turns put together:
///
/// * as many `<think>` as `</think>`;
/// * as many `<|vision_start|>` as `<|vision_end|>`;
/// * after the last `</think>`, as many `<answer>` as `</answer>`;
/// * the answer is shorter than `max_answer_chars`; a longer one is also wrong (the authors' guard against talking a
///   judge over).
///
/// Differs from the original, which scores the decoded context: tool responses and the template repeated in them count
/// there, so that a trajectory that zooms and never answers passes as well formed with the answer `...`. Ours reads
/// sampled text only, and `tool` from the record of the episode. A [`Grader`] stands for its LLM judge.
///
/// ```
/// use imagent_rewards::DeepEyes;
/// let reward = DeepEyes::default();
/// assert_eq!((reward.accuracy_weight, reward.format_weight, reward.tool_weight), (0.8, 0.2, 1.2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeepEyes {
    /// How the answer is compared with the gold one; default `exact`.
    pub grader: Grader,
    /// Weight of the accuracy; default 0.8.
    #[serde(deserialize_with = "check::finite")]
    pub accuracy_weight: f64,
    /// Weight of the format, which is −1 or 0; default 0.2.
    #[serde(deserialize_with = "check::finite")]
    pub format_weight: f64,
    /// Weight of a right answer with a tool; default 1.2.
    #[serde(deserialize_with = "check::finite")]
    pub tool_weight: f64,
    /// Characters from which an answer is too long; default 1000.
    pub max_answer_chars: usize,
}

impl Default for DeepEyes {
    fn default() -> Self {
        let grader = Grader::default();
        Self { grader, accuracy_weight: 0.8, format_weight: 0.2, tool_weight: 1.2, max_answer_chars: 1000 }
    }
}

#[typetag::serde(name = "deepeyes")]
impl Reward for DeepEyes {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        let graded = match self.grader.grade(sample, trajectory) {
            Ok(accuracy) => accuracy,
            Err(error) => return Score::skip(error.to_string()),
        };
        let too_long = trajectory.answer.as_ref().is_some_and(|answer| answer.chars().count() >= self.max_answer_chars);
        let accuracy = if too_long { 0.0 } else { graded };
        let format = if too_long || !is_balanced(trajectory) { -1.0 } else { 0.0 };
        let tool = check::tool(trajectory);
        let bonus = if accuracy > 0.5 { tool } else { 0.0 };
        let value = self.accuracy_weight * accuracy + self.format_weight * format + self.tool_weight * bonus;
        check::score(value, accuracy, format, tool)
    }
}

/// Whether tags open as often as they close.
fn is_balanced(trajectory: &Trajectory) -> bool {
    let text = trajectory.sampled_text().collect::<Vec<_>>().join("\n");
    let spoken = text.rsplit_once("</think>").map_or(text.as_str(), |(_, after)| after);
    let equal = |text: &str, open: &str, close: &str| text.matches(open).count() == text.matches(close).count();
    equal(&text, "<think>", "</think>")
        && equal(&text, "<|vision_start|>", "<|vision_end|>")
        && equal(spoken, "<answer>", "</answer>")
}
