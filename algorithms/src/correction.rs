//! Truncated importance sampling: what sampling and scoring disagree on is measured, and weighted out of the loss.

use std::collections::BTreeMap;

use imagent_core::{Origin, TrainBatch, TrainRow};

/// Where the difference of two log-probabilities is cut, as in verl.
const BOUND: f64 = 20.0;

/// Sums over the sampled tokens that have weight.
#[derive(Default)]
struct Sums {
    mass: f64,
    kl: f64,
    factors: f64,
    truncated: f64,
    largest: f64,
}

/// Makes the training pass's own scores the behaviour policy's, and corrects for the difference: a sampled token's policy loss
/// gets the factor `min(exp(scored − sampled), cap)` (Yao et al., *Your efficient RL framework secretly brings you off-policy RL
/// training*, 2025). Returns figures of the disagreement; none where nothing was sampled.
pub(crate) fn correct(batch: &mut TrainBatch, scored: Vec<(usize, Vec<f32>)>, cap: f32) -> BTreeMap<String, f64> {
    let mut sums = Sums::default();
    for (row, scores) in scored {
        let row = &mut batch.rows[row];
        row.correction = Some(factors(row, &scores, f64::from(cap), &mut sums));
        row.old_logprobs = Some(scores);
    }
    if sums.mass == 0.0 {
        return BTreeMap::new();
    }
    let mean = |sum: f64| sum / sums.mass;
    BTreeMap::from([
        ("mismatch/factor_mean".to_owned(), mean(sums.factors)),
        ("mismatch/gap_max".to_owned(), sums.largest),
        ("mismatch/kl".to_owned(), mean(sums.kl)),
        ("mismatch/truncated".to_owned(), mean(sums.truncated)),
    ])
}

fn factors(row: &TrainRow, scores: &[f32], cap: f64, sums: &mut Sums) -> Vec<f32> {
    let trajectory = &row.scored.trajectory;
    let mut factors = vec![1.0; scores.len()];
    for (at, &position) in row.positions.iter().enumerate() {
        if trajectory.origins[position] != Origin::Sampled {
            continue;
        }
        let gap = (f64::from(scores[at]) - f64::from(trajectory.logprobs[position])).clamp(-BOUND, BOUND);
        let (ratio, weight) = (gap.exp(), f64::from(row.loss_mask[at]));
        factors[at] = ratio.min(cap) as f32;
        if weight != 0.0 {
            sums.mass += weight;
            sums.kl += weight * (gap.exp_m1() - gap);
            sums.factors += weight * f64::from(factors[at]);
            sums.truncated += weight * f64::from(u8::from(ratio > cap));
            sums.largest = sums.largest.max(gap.abs());
        }
    }
    factors
}
