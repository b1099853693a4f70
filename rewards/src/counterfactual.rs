//! `counterfactual`: what a tool gained over the same question without one.

use imagent_core::{Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::format::format;
use crate::{Grader, check};

/// A tool is worth what the answer gains over that of the group's trajectories that used none:
///
/// `R = accuracy + gain × tool × (accuracy − baseline)`
///
/// where `tool` is 1 when a tool call of the trajectory returned an image, and `baseline` is the mean accuracy of the
/// tool-free trajectories of its group. So a tool earns `gain` where the question is not solved without it and nothing where
/// it always is; a wrong answer with a tool loses `gain × baseline`. A trajectory without a tool gets its accuracy. Where the
/// group has no tool-free trajectory that could be graded, or a trajectory is graded by itself as in an evaluation, the
/// second term is 0. In `[−gain, 1 + gain]`.
///
/// The formula is ours: a baseline at no cost, from samples that are there. It is a comparison within a policy, not an
/// experiment: the policy chooses when to use a tool.
///
/// Parts: `accuracy`, `format`, `tool`, and `gain`, `tool × (accuracy − baseline)`.
///
/// ```
/// use imagent_rewards::Counterfactual;
/// assert_eq!(Counterfactual::default().gain, 1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counterfactual {
    /// How the answer is compared with the gold one; default `exact`.
    pub grader: Grader,
    /// Weight of what the tool gained; not negative. Default 1.
    #[serde(deserialize_with = "check::not_negative")]
    pub gain: f64,
}

impl Default for Counterfactual {
    fn default() -> Self {
        Self { grader: Grader::default(), gain: 1.0 }
    }
}

impl Counterfactual {
    fn score_against(&self, baseline: Option<f64>, sample: &Sample, trajectory: &Trajectory) -> Score {
        let accuracy = match self.grader.grade(sample, trajectory) {
            Ok(accuracy) => accuracy,
            Err(error) => return Score::skip(error.to_string()),
        };
        let tool = check::tool(trajectory);
        let gained = baseline.map_or(0.0, |baseline| tool * (accuracy - baseline));
        let mut score = check::score(accuracy + self.gain * gained, accuracy, format(trajectory), tool);
        score.parts.insert("gain", gained as f32);
        score
    }
}

#[typetag::serde(name = "counterfactual")]
impl Reward for Counterfactual {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        self.score_against(None, sample, trajectory)
    }

    fn score_group(&self, sample: &Sample, group: &[Trajectory]) -> Vec<Score> {
        let free = group.iter().filter(|trajectory| !trajectory.used_tool());
        let graded: Vec<f64> = free.filter_map(|trajectory| self.grader.grade(sample, trajectory).ok()).collect();
        let baseline = (!graded.is_empty()).then(|| graded.iter().sum::<f64>() / graded.len() as f64);
        group.iter().map(|trajectory| self.score_against(baseline, sample, trajectory)).collect()
    }
}
