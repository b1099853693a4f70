//! `format`: 1 for a trajectory whose every turn is well formed.

use imagent_core::{Action, EndReason, Reward, Sample, Score, Trajectory, parse_turn};
use serde::{Deserialize, Serialize};

use crate::check;

/// Every tag that a turn may or might hold. Those of tools' responses belong to the template: a policy that writes one
/// invents an observation.
const TAGS: [&str; 8] = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
];

/// Format alone: `R = 1` when the trajectory ended [`Answered`](EndReason::Answered) and every turn is well formed, else 0.
///
/// A turn is well formed when it parses to a call or an answer ([`parse_turn`]) and its tags, in order, are exactly
/// `<answer></answer>` or `<tool_call></tool_call>`, with at most one `<think></think>` before them. So a second
/// action, an action within the thought, a stray or nested tag or broken JSON each cost the format; text around the
/// tags and a well-formed call that the tool refuses do not.
///
/// IMAgent (arXiv 2512.08980) has a format term; published summaries do not define it, so this definition is ours. Reads
/// no gold answer, so it never skips.
///
/// ```
/// use imagent_core::Reward;
/// let format: Box<dyn Reward> = serde_json::from_str(r#"{"type": "format"}"#)?;
/// # let _ = imagent_rewards::Format::default();
/// assert_eq!(serde_json::to_string(&format)?, r#"{"type":"format"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {}

#[typetag::serde(name = "format")]
impl Reward for Format {
    fn score(&self, _: &Sample, trajectory: &Trajectory) -> Score {
        let format = format(trajectory);
        Score::new(format as f32, [("format", format as f32), ("tool", check::tool(trajectory) as f32)])
    }
}

/// 1 for a trajectory that ended with an answer and whose every turn is well formed.
pub(crate) fn format(trajectory: &Trajectory) -> f64 {
    let good = trajectory.end == EndReason::Answered && trajectory.sampled_text().all(is_well_formed);
    f64::from(u8::from(good))
}

fn is_well_formed(turn: &str) -> bool {
    let tags = tags(turn);
    let action = tags.strip_prefix(&["<think>", "</think>"]).unwrap_or(&tags);
    matches!(action, ["<answer>", "</answer>"] | ["<tool_call>", "</tool_call>"])
        && matches!(parse_turn(turn), Action::Call(_) | Action::Answer(_))
}

/// The tags of a text, in order.
fn tags(text: &str) -> Vec<&'static str> {
    let starts = text.match_indices('<').map(|(at, _)| &text[at..]);
    starts.filter_map(|rest| TAGS.into_iter().find(|tag| rest.starts_with(tag))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns() {
        let call = "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>";
        for good in ["<answer>7</answer>", "<think>a < b</think> so <answer>7</answer>!", call, &format!("x {call}")] {
            assert!(is_well_formed(good), "{good}");
        }
        let bad = [
            "",
            "7",
            "<answer>7",
            "7</answer>",
            "<answer><answer>7</answer>",
            "<answer>1</answer><answer>2</answer>",
            "<tool_call>{}</tool_call>",
            "<think><answer>7</answer>",
            "</think><answer>7</answer>",
            "<think><answer>1</answer></think><answer>7</answer>",
            "<answer>7</answer><think></think>",
            "<think></think><think></think><answer>7</answer>",
            "<tool_response></tool_response><answer>7</answer>",
            &format!("{call}<answer>7</answer>"),
            &format!("{call}{call}"),
        ];
        for bad in bad {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }
}
