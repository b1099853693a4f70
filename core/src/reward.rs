//! Rewards: what a trajectory is worth.

use std::collections::BTreeMap;

use crate::sample::Sample;
use crate::trajectory::Trajectory;

/// What a reward says of a trajectory.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The reward.
    pub value: f32,
    /// Its named parts, such as `accuracy` and `format`, before weighting.
    pub parts: BTreeMap<&'static str, f32>,
    /// Why the trajectory could not be graded; it is then counted, and left out of training.
    pub skip: Option<String>,
    /// What the trajectory's advantage is multiplied with; 1 where the reward says nothing. A factor on the reward itself
    /// would not do: advantages that are divided by a group's deviation lose it.
    pub weight: f32,
}

impl Default for Score {
    fn default() -> Self {
        Self { value: 0.0, parts: BTreeMap::new(), skip: None, weight: 1.0 }
    }
}

impl Score {
    /// A reward with its parts.
    pub fn new(value: f32, parts: impl IntoIterator<Item = (&'static str, f32)>) -> Self {
        Self { value, parts: parts.into_iter().collect(), ..Self::default() }
    }

    /// A trajectory that cannot be graded.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self { skip: Some(reason.into()), ..Self::default() }
    }

    /// The part called `name`, 0 when there is none.
    pub fn part(&self, name: &str) -> f32 {
        self.parts.get(name).copied().unwrap_or(0.0)
    }
}

/// A reward. Reads sampled text only ([`Trajectory::sampled_text`], [`Trajectory::answer`]), never the prompt,
/// an observation or a log-probability.
#[typetag::serde(tag = "type")]
pub trait Reward: Send + Sync + std::fmt::Debug {
    /// Grades one trajectory by itself: all that there is in an evaluation.
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score;

    /// Grades the trajectories of one prompt together, one score each, in order. By default each by itself; a reward
    /// that compares a trajectory with others of its group has its own. Called by [`score_group`].
    fn score_group(&self, sample: &Sample, group: &[Trajectory]) -> Vec<Score> {
        group.iter().map(|trajectory| self.score(sample, trajectory)).collect()
    }
}

/// The scores of a group, one a trajectory: one that the reward left out is a skip, one too many is dropped.
pub fn score_group<R: Reward + ?Sized>(reward: &R, sample: &Sample, group: &[Trajectory]) -> Vec<Score> {
    let mut scores = reward.score_group(sample, group);
    scores.resize_with(group.len(), || Score::skip("the reward gave no score"));
    scores
}
