//! The repeated-call mask: asking a tool the same thing again is not trained on.

use imagent_core::{Mask, ToolCall, Trajectory, TurnRecord};
use serde::{Deserialize, Serialize};

/// What of a trajectory with a repeated call is masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masked {
    /// The turns that repeat a call, and no others.
    #[default]
    Turn,
    /// All of it.
    Trajectory,
}

/// Weight 0 on turns whose tool call equals an earlier one of the same trajectory: the same tool, and arguments that are equal as
/// JSON. A call that cannot be read equals none.
///
/// ```
/// use imagent_algorithms::{Masked, RepeatedCallMask};
/// let mask: RepeatedCallMask = serde_json::from_str(r#"{"masked": "trajectory"}"#)?;
/// assert_eq!(mask, RepeatedCallMask { masked: Masked::Trajectory, in_baseline: true });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepeatedCallMask {
    /// Whether the repeating turns are masked, or the whole trajectory. Default `turn`.
    pub masked: Masked,
    /// Whether a trajectory with a repeated call counts in its group's mean and deviation. Default true.
    pub in_baseline: bool,
}

impl Default for RepeatedCallMask {
    fn default() -> Self {
        Self { masked: Masked::Turn, in_baseline: true }
    }
}

/// The turns that repeat a call.
fn repeating(trajectory: &Trajectory) -> impl Iterator<Item = &TurnRecord> {
    let call = |turn: &'_ TurnRecord| -> Option<ToolCall> { turn.tool.as_ref()?.call.clone() };
    let mut seen: Vec<ToolCall> = Vec::new();
    trajectory.turns.iter().filter(move |turn| {
        let Some(call) = call(turn) else { return false };
        let repeats = seen.contains(&call);
        seen.push(call);
        repeats
    })
}

#[typetag::serde(name = "repeated_call")]
impl Mask for RepeatedCallMask {
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        for turn in repeating(trajectory) {
            match self.masked {
                Masked::Turn => weights[turn.tokens.clone()].fill(0.0),
                Masked::Trajectory => weights.fill(0.0),
            }
        }
    }

    fn in_baseline(&self, trajectory: &Trajectory) -> bool {
        self.in_baseline || repeating(trajectory).next().is_none()
    }
}
