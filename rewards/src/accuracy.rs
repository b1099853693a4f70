//! `accuracy`: 1 for the gold answer, 0 otherwise.

use imagent_core::{Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::format::format;
use crate::{Grader, check};

/// Plain accuracy: `R = accuracy`, 0 or 1, 0 for a trajectory without an answer. What Mini-o3 (arXiv 2509.07969) trains
/// on, and the arm without any shaping.
///
/// `format` and `tool` are parts of the score too, for the log; they do not count.
///
/// ```
/// use imagent_core::testing::{FakePolicy, fake_sample};
/// use imagent_core::{Limits, PromptStyle, Reward, RolloutRequest, Sampling, rollout};
/// use imagent_rewards::Accuracy;
///
/// let mut policy = FakePolicy::new(|_, _| "<answer>Seven.</answer>".to_owned());
/// let request = RolloutRequest {
///     group_size: 1, sampling: Sampling::default(), limits: Limits::default(),
///     prompt: PromptStyle::default(), seed: 0, round: 0,
/// };
/// let sample = fake_sample("a", 1, "Which digit?", "seven");
/// let groups = rollout(&mut policy, &(), &[sample.clone()], &request)?;
/// assert_eq!(Accuracy::default().score(&sample, &groups[0][0]).value, 1.0);
/// # Ok::<(), imagent_core::PolicyError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accuracy {
    /// How the answer is compared with the gold one; default `exact`.
    pub grader: Grader,
}

#[typetag::serde(name = "accuracy")]
impl Reward for Accuracy {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        match self.grader.grade(sample, trajectory) {
            Ok(accuracy) => check::score(accuracy, accuracy, format(trajectory), check::tool(trajectory)),
            Err(error) => Score::skip(error.to_string()),
        }
    }
}
