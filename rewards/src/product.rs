//! `product`: rewards multiplied.

use imagent_core::{Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::{Accuracy, Format, combine};

/// `R = Π rewardᵢ`. With a [`Sum`](crate::Sum) as a factor, one can weaken or shift another: IMAgent's reward is
/// `accuracy × (1 + tool_gain × tool_use)`, and `0.2 × format` beside it.
///
/// Parts: `term_1`, `term_2`, … hold the value of each factor; a part that a factor names itself keeps its name, and where
/// two name one (`accuracy`, say), it is the first one's. A trajectory that one factor cannot grade is skipped, even where
/// another is 0. Rewards that compare within a group do so here too.
///
/// ```
/// use imagent_core::Reward;
/// # let _ = imagent_rewards::Product::default();
/// let reward: Box<dyn Reward> = serde_json::from_str(
///     r#"{"type": "product", "factors": [
///         {"type": "accuracy"},
///         {"type": "sum", "offset": 1.0, "terms": [{"weight": 0.5, "reward": {"type": "tool_use"}}]}
///     ]}"#,
/// )?;
/// # assert!(format!("{reward:?}").contains("0.5"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Product {
    /// From 1 to 16 rewards, any plug-ins. Default: accuracy and format.
    #[serde(deserialize_with = "combine::few")]
    pub factors: Vec<Box<dyn Reward>>,
}

impl Default for Product {
    fn default() -> Self {
        Self { factors: vec![Box::new(Accuracy::default()), Box::new(Format {})] }
    }
}

fn value(values: &[f64]) -> f64 {
    values.iter().product()
}

#[typetag::serde(name = "product")]
impl Reward for Product {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        let scores: Vec<Score> = self.factors.iter().map(|factor| factor.score(sample, trajectory)).collect();
        combine::merged(&scores, value)
    }

    fn score_group(&self, sample: &Sample, group: &[Trajectory]) -> Vec<Score> {
        combine::group(self.factors.iter().map(|factor| &**factor), sample, group, value)
    }
}
