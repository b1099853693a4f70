//! Draws tokens from logits, reproducibly from (key, position) alone.

use imagent_core::{Key, Sampling};
use rand::Rng;

use crate::ops::simd::{Kernel, dispatch, exp_sum, max};

/// A drawn token and its log-probability under softmax(logits / temperature) without `suppress`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) id: u32,
    pub(crate) logprob: f32,
}

/// Draws the `position`-th token of the stream named by `key`. `logits` is scratch afterwards.
///
/// `top_k`, `top_p` and `min_p` narrow what can be drawn, in this order; the log-probability is that of the whole distribution, which is
/// what training scores. Temperature 0 takes the likeliest token (the lowest id of equals) and reports its
/// log-probability at temperature 1.
pub(crate) fn draw(logits: &mut [f32], suppress: &[usize], sampling: &Sampling, key: Key, position: u64) -> Drawn {
    suppress.iter().for_each(|&id| logits[id] = f32::NEG_INFINITY);
    let greedy = sampling.temperature <= 0.0;
    let scale = if greedy { 1.0 } else { sampling.temperature.recip() };
    let best = best_of(logits);
    let sum = dispatch(Exp { logits, scale });
    let id = if greedy { best } else { pick(logits, sampling, key.rng(position).random::<f64>()) };
    Drawn { id: id as u32, logprob: (logits[id] / sum).ln() }
}

/// The `count` likeliest tokens and their log-probabilities, falling; of equals the lower id first. `weights` is what [`draw`]
/// left behind when it drew `drawn`.
pub(crate) fn likeliest(weights: &[f32], drawn: Drawn, count: usize) -> Vec<(u32, f32)> {
    if count == 0 {
        return Vec::new();
    }
    let falling = |a: &usize, b: &usize| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b));
    let mut order: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] > 0.0).collect();
    if count < order.len() {
        order.select_nth_unstable_by(count - 1, falling);
        order.truncate(count);
    }
    order.sort_unstable_by(falling);
    let own = weights[drawn.id as usize];
    order.into_iter().map(|i| (i as u32, drawn.logprob + (weights[i] / own).ln())).collect()
}

fn best_of(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = i;
        }
    }
    best
}

/// Turns logits into unnormalised probabilities and returns their sum.
struct Exp<'a> {
    logits: &'a mut [f32],
    scale: f32,
}

impl Kernel for Exp<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let top = max(self.logits);
        exp_sum::<FMA>(self.logits, top, self.scale)
    }
}

/// The token at quantile `u` of the narrowed distribution.
fn pick(weights: &[f32], sampling: &Sampling, u: f64) -> usize {
    if sampling.top_k == 0 && sampling.top_p >= 1.0 && sampling.min_p <= 0.0 {
        return at_quantile((0..weights.len()).filter(|&i| weights[i] > 0.0), weights, u);
    }
    let mut order: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] > 0.0).collect();
    let falling = |a: &usize, b: &usize| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b));
    if sampling.top_k > 0 && sampling.top_k < order.len() {
        order.select_nth_unstable_by(sampling.top_k - 1, falling);
        order.truncate(sampling.top_k);
    }
    order.sort_unstable_by(falling);
    if sampling.top_p < 1.0 {
        let total: f64 = order.iter().map(|&i| f64::from(weights[i])).sum();
        let (mut mass, enough) = (0.0, f64::from(sampling.top_p) * total);
        let kept = order.iter().take_while(|&&i| {
            let more = mass < enough;
            mass += f64::from(weights[i]);
            more
        });
        order.truncate(kept.count().max(1));
    }
    let least = order.first().map_or(0.0, |&likeliest| sampling.min_p * weights[likeliest]);
    let kept = order.iter().take_while(|&&i| weights[i] >= least).count().max(1);
    at_quantile(order[..kept].iter().copied(), weights, u)
}

fn at_quantile(ids: impl Iterator<Item = usize> + Clone, weights: &[f32], u: f64) -> usize {
    let total: f64 = ids.clone().map(|i| f64::from(weights[i])).sum();
    let mut left = u * total;
    let mut last = 0;
    for i in ids {
        last = i;
        left -= f64::from(weights[i]);
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn frequencies_follow_the_distribution_and_logprobs_are_exact() {
        let logits = [0.0f32, 1.0, 2.0, 5.0];
        let z: f64 = [0.0f64, 1.0, 2.0].iter().map(|x| (x / 2.0).exp()).sum();
        let mut counts = [0; 4];
        for i in 0..20_000 {
            let sampling = Sampling { temperature: 2.0, ..Sampling::default() };
            let drawn = draw(&mut logits.clone(), &[3], &sampling, Key(7), i);
            let exact = f64::from(logits[drawn.id as usize]) / 2.0 - z.ln();
            assert!((f64::from(drawn.logprob) - exact).abs() < 1e-6);
            counts[drawn.id as usize] += 1;
        }
        assert_eq!(counts[3], 0);
        for (i, &count) in counts.iter().take(3).enumerate() {
            let p = (f64::from(logits[i]) / 2.0).exp() / z;
            assert!((f64::from(count) / 20_000.0 - p).abs() < 0.015, "token {i}: {count}");
        }
    }

    #[test]
    fn narrowing_keeps_only_the_likeliest() {
        let logits = [0.0f32, 1.0, 2.0, 5.0];
        for i in 0..500 {
            let top_k = Sampling { top_k: 2, ..Sampling::default() };
            assert!(draw(&mut logits.clone(), &[], &top_k, Key(1), i).id >= 2);
            let top_p = Sampling { top_p: 0.5, ..Sampling::default() };
            assert_eq!(draw(&mut logits.clone(), &[], &top_p, Key(1), i).id, 3);
        }
        assert_eq!(draw(&mut [1.0, 3.0, 3.0], &[], &Sampling::greedy(), Key(0), 0).id, 1);
    }

    /// Which tokens can be drawn from probabilities 0.4, 0.3, 0.2, 0.1.
    fn drawn(sampling: &Sampling) -> Vec<u32> {
        let logits = [0.2f32.ln(), 0.4f32.ln(), 0.1f32.ln(), 0.3f32.ln()];
        let mut ids: Vec<u32> = (0..2000).map(|i| draw(&mut logits.clone(), &[], sampling, Key(3), i).id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    #[test]
    fn filters_come_in_the_order_of_generate() {
        let all = Sampling::default();
        assert_eq!(drawn(&all), [0, 1, 2, 3]);
        // Half as likely as the likeliest, itself included.
        assert_eq!(drawn(&Sampling { min_p: 0.45, ..all.clone() }), [0, 1, 3]);
        assert_eq!(drawn(&Sampling { min_p: 0.51, ..all.clone() }), [1, 3]);
        assert_eq!(drawn(&Sampling { min_p: 1.0, ..all.clone() }), [1]);
        // The likeliest have 0.4 of 1, but 0.4 of 0.7 of what `top_k` keeps: `top_p` counts shares of that.
        assert_eq!(drawn(&Sampling { top_p: 0.5, ..all.clone() }), [1, 3]);
        assert_eq!(drawn(&Sampling { top_k: 2, top_p: 0.5, ..all.clone() }), [1]);
        assert_eq!(drawn(&Sampling { top_k: 2, top_p: 0.6, ..all.clone() }), [1, 3]);
        assert_eq!(drawn(&Sampling { top_p: 0.8, min_p: 0.6, ..all.clone() }), [1, 3]);
        assert_eq!(drawn(&Sampling { top_k: 3, top_p: 0.99, min_p: 0.1, ..all }), [0, 1, 3]);
    }

    #[test]
    fn the_likeliest_fall_and_have_logprobs_of_their_own() {
        let logits = [0.2f32.ln(), 0.4f32.ln(), 0.1f32.ln(), 0.3f32.ln()];
        let mut weights = logits;
        let drawn = draw(&mut weights, &[2], &Sampling::default(), Key(5), 1);
        assert_eq!(likeliest(&weights, drawn, 0), []);
        let told = likeliest(&weights, drawn, 9);
        assert_eq!(told.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3, 0], "never what cannot be drawn");
        for &(id, logprob) in &told {
            assert!((logprob - (logits[id as usize].exp() / 0.9).ln()).abs() < 1e-5, "{id}: {logprob}");
        }
        assert!(told.contains(&(drawn.id, drawn.logprob)) && likeliest(&weights, drawn, 2) == told[..2]);
    }

    #[test]
    fn the_logprob_is_that_of_the_whole_distribution() {
        let logits = [0.2f32.ln(), 0.4f32.ln(), 0.1f32.ln(), 0.3f32.ln()];
        let narrow = Sampling { top_k: 1, top_p: 0.3, min_p: 0.9, ..Sampling::default() };
        let drawn = draw(&mut logits.clone(), &[], &narrow, Key(3), 0);
        assert!(drawn.id == 1 && (drawn.logprob - 0.4f32.ln()).abs() < 1e-6);
    }
}
