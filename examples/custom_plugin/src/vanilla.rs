//! `vanilla`: the plain policy gradient with the group's mean as its baseline.

use imagent::prelude::*;
use serde::{Deserialize, Serialize};

/// `A = R − mean of the group`, `L = −Σ w·A·logπ / Σ w` over all tokens with their weights `w` from the masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vanilla {}

#[typetag::serde(name = "vanilla")]
impl PolicyOptimizer for Vanilla {
    fn advantages_of(&self, rewards: &[f32], in_baseline: &[bool]) -> Vec<f32> {
        let counted: Vec<f32> = rewards.iter().zip(in_baseline).filter(|(_, is_in)| **is_in).map(|(r, _)| *r).collect();
        let mean = counted.iter().sum::<f32>() / counted.len().max(1) as f32;
        rewards.iter().map(|reward| reward - mean).collect()
    }

    fn loss(&self, tokens: &TokenBatch) -> TokenLoss {
        let all = tokens.loss_mask.iter().sum::<f32>().max(1.0);
        let slope = |(token, row): (usize, usize)| -tokens.loss_mask[token] * tokens.advantages[row] / all;
        let d_logprobs: Vec<f32> = tokens.row_of_tokens().enumerate().map(slope).collect();
        let value = d_logprobs.iter().zip(&tokens.logprobs).map(|(slope, logprob)| f64::from(slope * logprob)).sum();
        TokenLoss { value, d_entropies: vec![0.0; tokens.len()], d_logprobs, ..TokenLoss::default() }
    }
}
