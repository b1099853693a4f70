//! `price`: accuracy, less what the tool calls cost.

use imagent::prelude::*;
use serde::{Deserialize, Serialize};

/// `R = accuracy − price × calls`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// How the answer is compared with the gold one.
    pub grader: Grader,
    /// What a call costs. Default 0.05.
    pub price: f64,
}

impl Default for Price {
    fn default() -> Self {
        Self { grader: Grader::default(), price: 0.05 }
    }
}

#[typetag::serde(name = "price")]
impl Reward for Price {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        match self.grader.grade(sample, trajectory) {
            Ok(accuracy) => {
                let value = accuracy - self.price * trajectory.calls() as f64;
                Score::new(value as f32, [("accuracy", accuracy as f32)])
            }
            Err(error) => Score::skip(error.to_string()),
        }
    }
}
