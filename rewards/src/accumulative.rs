//! `accumulative`: a right answer gains with every turn that used a tool.

use imagent_core::{Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::format::format;
use crate::{Grader, check};

/// The accumulative tool reward of PyVision-RL (its published code at 62ca599):
///
/// `R = accuracy × (1 + per_turn × turns)`
///
/// where `turns` counts the turns whose tool call returned an image, at most `max_turns` of them. Meant against the
/// collapse of interaction: a policy that is paid once for a tool stops after one call. With `needs_format`, as in
/// PyVision-RL, a trajectory that is not well formed (see [`Format`](crate::Format)) gets 0.
///
/// Differs from the original in counting observed images, not calls, and in our definition of the format.
///
/// Parts: `accuracy`, `format`, `tool`, and `tool_turns`, the turns that count.
///
/// ```
/// use imagent_rewards::Accumulative;
/// let pyvision = Accumulative { needs_format: true, ..Accumulative::default() };
/// assert_eq!((pyvision.per_turn, pyvision.max_turns), (0.1, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accumulative {
    /// How the answer is compared with the gold one; default `exact`.
    pub grader: Grader,
    /// What a right answer gains by each turn with a tool; not negative. Default 0.1.
    #[serde(deserialize_with = "check::not_negative")]
    pub per_turn: f64,
    /// Most turns that count; 0, the default, counts all.
    pub max_turns: usize,
    /// Whether a trajectory that is not well formed gets 0. Default false.
    pub needs_format: bool,
}

impl Default for Accumulative {
    fn default() -> Self {
        Self { grader: Grader::default(), per_turn: 0.1, max_turns: 0, needs_format: false }
    }
}

#[typetag::serde(name = "accumulative")]
impl Reward for Accumulative {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        let accuracy = match self.grader.grade(sample, trajectory) {
            Ok(accuracy) => accuracy,
            Err(error) => return Score::skip(error.to_string()),
        };
        let seen = trajectory.turns.iter().filter_map(|turn| turn.tool.as_ref()).filter(|tool| !tool.images.is_empty());
        let most = if self.max_turns == 0 { usize::MAX } else { self.max_turns };
        let turns = seen.count().min(most);
        let format = format(trajectory);
        let gate = if self.needs_format { format } else { 1.0 };
        let value = gate * accuracy * (1.0 + self.per_turn * turns as f64);
        let mut score = check::score(value, accuracy, format, check::tool(trajectory));
        score.parts.insert("tool_turns", turns as f32);
        score
    }
}
