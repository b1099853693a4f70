//! Advantages of a whole step: discounted returns, the KL term in the reward, and scaling over the batch.

use imagent_core::{Advantages, Outcomes};
use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, Rule};

/// What the advantages of a whole step are scaled by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchScale {
    /// Nothing.
    #[default]
    Off,
    /// `(A − mean) / √(var + 1e-8)`, mean and unbiased variance over all tokens of the step by loss weight (REINFORCE++).
    /// A step whose advantages are all equal gets 0.
    Whiten,
    /// Multiplied by rows / rows whose reward is not 0 (GPG, Chu et al., arXiv 2504.02546, as in verl).
    Nonzero,
}

/// Added to the variance in whitening, as in verl.
const VARIANCE_EPSILON: f64 = 1e-8;

/// How a step's outcomes become advantages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) rule: Rule,
    pub(crate) scale: BatchScale,
    /// Discount of returns token by token; `None` gives every token what the trajectory has.
    pub(crate) gamma: Option<f64>,
    /// What is taken off the reward of each token.
    pub(crate) penalties: Option<&'a [f64]>,
}

impl Plan<'_> {
    /// Whether the groups' own advantages are not all there is to it.
    pub(crate) fn is_needed(&self) -> bool {
        self.gamma.is_some()
            || self.penalties.is_some()
            || self.scale != BatchScale::Off
            || self.rule.baseline == Baseline::LengthWeighted
    }

    /// The advantages of all rows.
    pub(crate) fn advantages(&self, outcomes: &Outcomes) -> Advantages {
        let rewards: Vec<f64> = outcomes.rewards.iter().map(|&reward| f64::from(reward)).collect();
        let mut values = match self.gamma {
            Some(gamma) => {
                let rows = by_group(&self.rule, outcomes, &rewards);
                Values { tokens: Some(self.returns(outcomes, &rows, gamma)), rows }
            }
            None => {
                let shaped: Vec<f64> =
                    (0..rewards.len()).map(|row| rewards[row] - self.penalty(outcomes, row)).collect();
                Values { rows: by_group(&self.rule, outcomes, &shaped), tokens: None }
            }
        };
        match self.scale {
            BatchScale::Off => {}
            BatchScale::Whiten => values.whiten(outcomes),
            BatchScale::Nonzero => {
                let nonzero = rewards.iter().filter(|&&reward| reward != 0.0).count().max(1);
                let alpha = rewards.len() as f64 / nonzero as f64;
                values.each(|value| value * alpha);
            }
        }
        values.finish(outcomes)
    }

    fn penalty(&self, outcomes: &Outcomes, row: usize) -> f64 {
        self.penalties.map_or(0.0, |all| all[outcomes.row(row)].iter().sum())
    }

    /// `G_t = x_t + gamma · G_{t+1}` over the tokens that have weight. `x` is what came of the token, less its penalty; the
    /// trajectory's advantage comes with its last token.
    fn returns(&self, outcomes: &Outcomes, rows: &[f64], gamma: f64) -> Vec<f64> {
        let mut returns = vec![0.0; outcomes.loss_mask.len()];
        for (row, &advantage) in rows.iter().enumerate() {
            // The baseline's share of a reward that is given token by token.
            let given = outcomes.token_rewards.as_ref().map_or(0.0, |_| f64::from(outcomes.rewards[row]));
            let mut last = Some(advantage - given);
            let mut running = 0.0;
            for i in outcomes.row(row).rev().filter(|&i| outcomes.loss_mask[i] != 0.0) {
                let came = outcomes.token_rewards.as_ref().map_or(0.0, |all| f64::from(all[i]));
                let penalty = self.penalties.map_or(0.0, |all| all[i]);
                running = came + last.take().unwrap_or(0.0) - penalty + gamma * running;
                returns[i] = running;
            }
        }
        returns
    }
}

/// The rule on each group; groups may be interleaved.
pub(crate) fn by_group(rule: &Rule, outcomes: &Outcomes, rewards: &[f64]) -> Vec<f64> {
    let mut members: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
    outcomes.groups.iter().enumerate().for_each(|(row, &group)| members.entry(group).or_default().push(row));
    let length = |row| outcomes.loss_mask[outcomes.row(row)].iter().map(|&weight| f64::from(weight)).sum::<f64>();
    let mut advantages = vec![0.0; rewards.len()];
    for rows in members.values() {
        let own: Vec<f64> = rows.iter().map(|&row| rewards[row]).collect();
        let lengths: Vec<f64> = rows.iter().map(|&row| length(row)).collect();
        let counts: Vec<bool> = rows.iter().map(|&row| outcomes.in_baseline[row]).collect();
        let values = rule.advantages(&own, &lengths, &counts);
        rows.iter().zip(values).for_each(|(&row, value)| advantages[row] = value);
    }
    advantages
}

/// Advantages in the making.
struct Values {
    rows: Vec<f64>,
    tokens: Option<Vec<f64>>,
}

impl Values {
    fn each(&mut self, change: impl Fn(f64) -> f64) {
        self.rows.iter_mut().chain(self.tokens.iter_mut().flatten()).for_each(|value| *value = change(*value));
    }

    fn whiten(&mut self, outcomes: &Outcomes) {
        let of = |row: usize, i: usize| self.tokens.as_ref().map_or(self.rows[row], |all| all[i]);
        let counted = (0..outcomes.rows()).filter(|&row| outcomes.in_baseline[row]);
        let pairs: Vec<(f64, f64)> = counted
            .flat_map(|row| outcomes.row(row).map(move |i| (row, i)))
            .map(|(row, i)| (f64::from(outcomes.loss_mask[i]), of(row, i)))
            .filter(|(weight, _)| *weight != 0.0)
            .collect();
        let mass: f64 = pairs.iter().map(|(weight, _)| weight).sum();
        let flat = pairs.windows(2).all(|pair| pair[0].1 == pair[1].1);
        if flat || mass <= 1.0 {
            return self.each(|_| 0.0);
        }
        let mean = pairs.iter().map(|(weight, value)| weight * value).sum::<f64>() / mass;
        let squares: f64 = pairs.iter().map(|(weight, value)| weight * (value - mean).powi(2)).sum();
        let scale = (squares / (mass - 1.0) + VARIANCE_EPSILON).sqrt().recip();
        self.each(|value| (value - mean) * scale);
    }

    /// In single precision; tokens only where those of some row differ.
    fn finish(self, outcomes: &Outcomes) -> Advantages {
        let Some(tokens) = self.tokens else {
            return Advantages { rows: self.rows.into_iter().map(|value| value as f32).collect(), tokens: None };
        };
        let weighted = |row: usize| outcomes.row(row).filter(|&i| outcomes.loss_mask[i] != 0.0);
        let mut differ = false;
        let mut rows = Vec::with_capacity(self.rows.len());
        for (row, &whole) in self.rows.iter().enumerate() {
            let (mut sum, mut mass) = (0.0, 0.0);
            let first = weighted(row).next().map_or(whole, |i| tokens[i]);
            let same = weighted(row).all(|i| tokens[i] == first);
            for i in weighted(row) {
                sum += f64::from(outcomes.loss_mask[i]) * tokens[i];
                mass += f64::from(outcomes.loss_mask[i]);
            }
            rows.push(if same { first } else { sum / mass } as f32);
            differ |= !same;
        }
        let tokens = differ.then(|| tokens.into_iter().map(|value| value as f32).collect());
        Advantages { rows, tokens }
    }
}
