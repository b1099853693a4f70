//! The first-turns mask: the loss counts how an episode begins.

use imagent_core::{Mask, Trajectory};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::require;

/// Weight 0 on every token after turn number `turns`, observations included.
///
/// ```
/// use imagent_algorithms::FirstTurnsMask;
/// let mask: FirstTurnsMask = serde_json::from_str(r#"{"turns": 2}"#)?;
/// assert_eq!(mask, FirstTurnsMask { turns: 2 });
/// let error = serde_json::from_str::<FirstTurnsMask>(r#"{"turns": 0}"#).unwrap_err().to_string();
/// assert!(error.starts_with("turns must be at least 1, got 0"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FirstTurnsMask {
    /// Turns that count; at least 1. Default 1.
    #[serde(deserialize_with = "at_least_one")]
    pub turns: usize,
}

impl Default for FirstTurnsMask {
    fn default() -> Self {
        Self { turns: 1 }
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let turns = usize::deserialize(deserializer)?;
    require(turns >= 1, "turns", "at least 1", turns).map_err(serde::de::Error::custom)?;
    Ok(turns)
}

#[typetag::serde(name = "first_turns")]
impl Mask for FirstTurnsMask {
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        if let Some(next) = trajectory.turns.get(self.turns.max(1) - 1) {
            weights[next.tokens.end..].fill(0.0);
        }
    }
}
