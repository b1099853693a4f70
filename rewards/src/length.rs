//! `length`: a penalty on how much a trajectory says.

use imagent_core::{Reward, Sample, Score, Trajectory};
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

/// Which lengths cost nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthShape {
    /// Those up to `tokens − slack`; then the penalty rises to 1 at `tokens`.
    #[default]
    AtMost,
    /// `tokens` alone; the penalty rises to 1 at `slack` tokens less or more.
    Near,
}

/// A penalty on the number `n` of sampled tokens of a trajectory, all its turns and their end tokens together; what tools
/// and the template wrote does not count. In `[−1, 0]`:
///
/// * `at_most`: `R = −clip((n − (tokens − slack)) / slack, 0, 1)`, the soft overlong punishment of DAPO (arXiv 2503.14476)
///   with `tokens` its longest and `slack` its cache; a slack of 1 makes a hard limit;
/// * `near`: `R = −min(1, |n − tokens| / slack)`, a target length as in L1 (arXiv 2503.04697), cut off at 1.
///
/// A term for [`Sum`](crate::Sum), beside the accuracy. Reads no gold answer, so it never skips. Part: `length`, the same
/// value.
///
/// ```
/// use imagent_rewards::{Length, LengthShape};
/// let length = Length { tokens: 100, slack: 20, ..Length::default() };
/// assert_eq!([80, 90, 100, 500].map(|n| length.penalty(n)), [0.0, -0.5, -1.0, -1.0]);
/// let near = Length { shape: LengthShape::Near, ..length };
/// assert_eq!([80, 95, 100, 110].map(|n| near.penalty(n)), [-1.0, -0.25, 0.0, -0.5]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Length {
    /// `at_most` (default) or `near`.
    pub shape: LengthShape,
    /// The longest, or the target. Default 1024.
    pub tokens: usize,
    /// Over how many tokens the penalty rises from 0 to 1; at least 1. Default 256.
    #[serde(deserialize_with = "slack")]
    pub slack: usize,
}

impl Default for Length {
    fn default() -> Self {
        Self { shape: LengthShape::AtMost, tokens: 1024, slack: 256 }
    }
}

fn slack<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(D::Error::custom("must be at least 1, got 0")),
        slack => Ok(slack),
    }
}

impl Length {
    /// The reward of a trajectory of `n` sampled tokens.
    pub fn penalty(&self, n: usize) -> f64 {
        let (n, tokens, slack) = (n as f64, self.tokens as f64, self.slack.max(1) as f64);
        let over = match self.shape {
            LengthShape::AtMost => (n - (tokens - slack)) / slack,
            LengthShape::Near => (n - tokens).abs() / slack,
        };
        // From 0, as −0 is no penalty to write down.
        0.0 - over.clamp(0.0, 1.0)
    }
}

#[typetag::serde(name = "length")]
impl Reward for Length {
    fn score(&self, _: &Sample, trajectory: &Trajectory) -> Score {
        let value = self.penalty(trajectory.sampled_len()) as f32;
        Score::new(value, [("length", value)])
    }
}
