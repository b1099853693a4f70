//! `sum`: rewards added up.

use imagent_core::{Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::{Accuracy, Format, check, combine};

/// One reward of a [`Sum`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// What its value is multiplied with; any finite number. Default 1.
    #[serde(default = "one", deserialize_with = "check::finite")]
    pub weight: f64,
    /// The reward, any plug-in.
    pub reward: Box<dyn Reward>,
}

impl Term {
    /// A weighted reward.
    pub fn new(weight: f64, reward: impl Reward + 'static) -> Self {
        Self { weight, reward: Box::new(reward) }
    }
}

fn one() -> f64 {
    1.0
}

/// `R = offset + Σ weightᵢ × rewardᵢ`.
///
/// Parts: `term_1`, `term_2`, … hold the value of each term before its weight; a part that a term names itself keeps its
/// name, and where two name one (`accuracy`, say), it is the first one's. A trajectory that one term cannot grade is
/// skipped. Rewards that compare within a group do so here too.
///
/// ```
/// use imagent_core::Reward;
/// # let _ = imagent_rewards::Sum::default();
/// let reward: Box<dyn Reward> = serde_json::from_str(
///     r#"{"type": "sum", "terms": [
///         {"reward": {"type": "imagent"}},
///         {"weight": 0.5, "reward": {"type": "length", "tokens": 400}}
///     ]}"#,
/// )?;
/// # assert!(format!("{reward:?}").contains("0.5"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sum {
    /// What is added to the terms; any finite number. Default 0.
    #[serde(deserialize_with = "check::finite")]
    pub offset: f64,
    /// From 1 to 16 rewards with their weights. Default: accuracy, and format with weight 0.2.
    #[serde(deserialize_with = "combine::few")]
    pub terms: Vec<Term>,
}

impl Default for Sum {
    fn default() -> Self {
        Self { offset: 0.0, terms: vec![Term::new(1.0, Accuracy::default()), Term::new(0.2, Format {})] }
    }
}

impl Sum {
    fn value(&self, values: &[f64]) -> f64 {
        self.terms.iter().zip(values).fold(self.offset, |sum, (term, value)| sum + term.weight * value)
    }
}

#[typetag::serde(name = "sum")]
impl Reward for Sum {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        let scores: Vec<Score> = self.terms.iter().map(|term| term.reward.score(sample, trajectory)).collect();
        combine::merged(&scores, |values| self.value(values))
    }

    fn score_group(&self, sample: &Sample, group: &[Trajectory]) -> Vec<Score> {
        let rewards = self.terms.iter().map(|term| &*term.reward);
        combine::group(rewards, sample, group, |values| self.value(values))
    }
}
