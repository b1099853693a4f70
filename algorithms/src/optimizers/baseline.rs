//! What a trajectory's reward is measured against, within its group.

use serde::{Deserialize, Serialize};

/// The part of a reward that is not the trajectory's own merit. With `R` the rewards of a group's baseline (the trajectories
/// that the masks leave in it) and `n` their number:
///
/// | variant | advantage of trajectory i, before any scaling | known as |
/// |---|---|---|
/// | `mean` | `R_i − mean(R)` | GRPO |
/// | `leave_one_out` | `R_i −` mean of the others `= (n R_i − Σ R) / (n − 1)` | RLOO (Ahmadian et al., arXiv 2402.14740) |
/// | `length_weighted` | `R_i − Σ l R / Σ l`, `l` the sum of a trajectory's loss weights | OPO (Hao et al., arXiv 2505.23585) |
/// | `second_best` | the best has `R_i −` the second best, all others 0 | pass@k training (Tang et al., arXiv 2503.19595), k = n |
/// | `none` | `R_i` | REINFORCE |
///
/// A trajectory outside the baseline is measured against all in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The group's mean.
    #[default]
    Mean,
    /// The mean of the others.
    LeaveOneOut,
    /// The mean by length.
    LengthWeighted,
    /// The second best, for the best.
    SecondBest,
    /// Nothing.
    None,
}

/// The advantage of trajectories whose group has a baseline of fewer than two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lone {
    /// 0: there is nothing to compare with.
    #[default]
    Zero,
    /// The reward itself, as in verl.
    Reward,
}

/// How rewards of a group become advantages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) baseline: Baseline,
    pub(crate) lone: Lone,
    /// Added to the deviation that advantages are divided by; `None` leaves them undivided.
    pub(crate) std_epsilon: Option<f64>,
}

impl Rule {
    /// The advantages of one group, in its order. `lengths` are read by [`Baseline::LengthWeighted`] alone.
    pub(crate) fn advantages(&self, rewards: &[f64], lengths: &[f64], in_baseline: &[bool]) -> Vec<f64> {
        let counted: Vec<usize> = (0..rewards.len()).filter(|&i| in_baseline[i]).collect();
        if counted.len() < 2 {
            return match (self.baseline, self.lone) {
                (Baseline::None, _) | (_, Lone::Reward) => rewards.to_vec(),
                (_, Lone::Zero) => vec![0.0; rewards.len()],
            };
        }
        let baseline: Vec<f64> = counted.iter().map(|&i| rewards[i]).collect();
        let flat = baseline.windows(2).all(|pair| pair[0] == pair[1]);
        let mean = if flat { baseline[0] } else { baseline.iter().sum::<f64>() / baseline.len() as f64 };
        let scale = match (self.std_epsilon, flat) {
            (None, _) => 1.0,
            (Some(_), true) => 0.0,
            (Some(epsilon), false) => 1.0 / (unbiased_std(&baseline, mean) + epsilon),
        };
        let against = |i: usize| match self.baseline {
            Baseline::Mean => mean,
            Baseline::None => 0.0,
            Baseline::LeaveOneOut if flat || !in_baseline[i] => mean,
            Baseline::LeaveOneOut => (mean * baseline.len() as f64 - rewards[i]) / (baseline.len() - 1) as f64,
            Baseline::LengthWeighted if flat => mean,
            Baseline::LengthWeighted => weighted_mean(&counted, rewards, lengths).unwrap_or(mean),
            Baseline::SecondBest => second_best(&counted, rewards, i),
        };
        (0..rewards.len()).map(|i| (rewards[i] - against(i)) * scale).collect()
    }
}

fn unbiased_std(values: &[f64], mean: f64) -> f64 {
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

fn weighted_mean(counted: &[usize], rewards: &[f64], lengths: &[f64]) -> Option<f64> {
    let total: f64 = counted.iter().map(|&i| lengths[i]).sum();
    (total > 0.0).then(|| counted.iter().map(|&i| lengths[i] * rewards[i]).sum::<f64>() / total)
}

/// The second best reward for the (first) best of the baseline; their own for all others.
fn second_best(counted: &[usize], rewards: &[f64], i: usize) -> f64 {
    let best = counted.iter().copied().reduce(|best, other| if rewards[other] > rewards[best] { other } else { best });
    if best != Some(i) {
        return rewards[i];
    }
    counted.iter().filter(|&&other| other != i).map(|&other| rewards[other]).fold(f64::NEG_INFINITY, f64::max)
}
