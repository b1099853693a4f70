//! The soft penalty of long answers: part of a run's settings and not a reward, as its bounds are those of the run.

use imagent_core::{Group, ScoredTrajectory};
use serde::{Deserialize, Serialize};

use crate::error::{TrainError, require};

/// DAPO's soft overlong punishment (Yu et al., arXiv 2503.14476, equation 13). With `l` the tokens that the policy sampled in a
/// trajectory, all turns together:
///
/// ```text
/// reward −= penalty · clip((l − (length − buffer)) / buffer, 0, 1)
/// ```
///
/// It is applied to training rollouts after grading, and is the score's part `overlong` (never positive); evaluations know
/// nothing of it. The paper counts one response; observations, which the policy did not write, do not count here.
///
/// ```
/// use imagent_algorithms::Overlong;
/// let overlong: Overlong = serde_json::from_str(r#"{"length": 100, "buffer": 20}"#)?;
/// assert_eq!([80, 90, 100, 300].map(|tokens| overlong.part(tokens)), [0.0, -0.5, -1.0, -1.0]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlong {
    /// Sampled tokens from which on the whole penalty is due; at least 1.
    pub length: usize,
    /// Tokens before `length` over which the penalty rises from 0; in [1, length].
    pub buffer: usize,
    /// The whole penalty, in units of the reward; at least 0. Default 1.
    #[serde(default = "one")]
    pub penalty: f32,
}

fn one() -> f32 {
    1.0
}

impl Overlong {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the key that is out of range.
    pub fn validate(&self) -> Result<(), TrainError> {
        require(self.length >= 1, "overlong.length", "at least 1", self.length)?;
        let within = (1..=self.length).contains(&self.buffer);
        require(within, "overlong.buffer", "at least 1 and at most `length`", self.buffer)?;
        let positive = self.penalty.is_finite() && self.penalty >= 0.0;
        require(positive, "overlong.penalty", "at least 0", self.penalty)
    }

    /// What a trajectory of so many sampled tokens gets: from 0 down to −`penalty`.
    pub fn part(&self, tokens: usize) -> f32 {
        let over = tokens.saturating_sub(self.length - self.buffer.min(self.length)).min(self.buffer);
        if over == 0 { 0.0 } else { -self.penalty * (over as f32 / self.buffer as f32) }
    }

    /// Adds the part to every score of a group.
    pub(crate) fn apply(&self, group: &mut Group) {
        for ScoredTrajectory { trajectory, score } in &mut group.members {
            let part = self.part(trajectory.sampled_len());
            score.value += part;
            score.parts.insert("overlong", part);
        }
    }
}
