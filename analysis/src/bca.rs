//! The BCa bootstrap of a mean: for the few values that the seeds of an ablation give.
//!
//! Efron, *Better bootstrap confidence intervals*, 1987. Of `B` means of resamples, the interval is not from the 2.5 % to
//! the 97.5 % quantile but between quantiles that are corrected for bias (`z₀`) and skew (`a`):
//!
//! `α = Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z)))`, `z = ∓1.96`, `z₀ = Φ⁻¹(share of the means below the mean)`, and from the means
//! `mᵢ` without value `i`: `a = Σ(m̄ − mᵢ)³ / 6 (Σ(m̄ − mᵢ)²)^{3/2}`.
//!
//! Of very few values every bootstrap is too narrow, as it knows no spread beyond theirs; [`crate::stats::t_interval`]
//! stands beside it in the tables.

use imagent_core::seed;
use rand::Rng;

use crate::stats::{Interval, mean, quantile};

/// The normal quantile of 97.5 %.
const Z: f64 = 1.959_963_984_540_054;

/// Which of `n` values each resample draws: drawn once, so that many means (the steps of a curve) are resampled alike.
#[derive(Clone, Debug)]
pub struct Resamples {
    n: usize,
    draws: Vec<usize>,
}

impl Resamples {
    /// `count` resamples with replacement of `n` values, drawn from `seed`.
    pub fn new(n: usize, count: usize, seed: u64) -> Self {
        let draw = |i: usize| {
            let mut rng = seed::rng(seed, &[i as u64]);
            (0..n).map(move |_| rng.random_range(0..n)).collect::<Vec<_>>()
        };
        Self { n, draws: if n == 0 { Vec::new() } else { (0..count).flat_map(draw).collect() } }
    }

    /// The mean of the values with its 95 % BCa interval; `None` of fewer than two values, of a number of values other than
    /// `n`, and where one is not finite.
    ///
    /// ```
    /// use imagent_analysis::bca::Resamples;
    /// let interval = Resamples::new(5, 10_000, 0).interval(&[0.0, 0.1, 0.1, 0.2, 0.9]).unwrap();
    /// assert!(interval.mean - interval.low < interval.high - interval.mean, "it leans towards the long tail");
    /// ```
    pub fn interval(&self, values: &[f64]) -> Option<Interval> {
        let n = values.len();
        if n < 2 || n != self.n || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let centre = mean(values)?;
        let of = |draw: &[usize]| draw.iter().map(|&i| values[i]).sum::<f64>() / n as f64;
        let mut means: Vec<f64> = self.draws.chunks_exact(n).map(of).collect();
        means.sort_by(f64::total_cmp);
        let bias = normal_quantile(share_below(&means, centre));
        let skew = acceleration(values, centre);
        let at = |z: f64| normal(bias + (bias + z) / (1.0 - skew * (bias + z)));
        let (low, high) = (quantile(&means, at(-Z)), quantile(&means, at(Z)));
        Some(Interval { mean: centre, low: low.min(centre), high: high.max(centre), n })
    }
}

/// The share of sorted means below `centre`, those that equal it (up to rounding) as one half; never 0 or 1.
fn share_below(means: &[f64], centre: f64) -> f64 {
    let slack = 1e-12 * centre.abs().max(1e-300);
    let below = means.partition_point(|&value| value < centre - slack);
    let above = means.partition_point(|&value| value <= centre + slack);
    let edge = 0.5 / means.len().max(1) as f64;
    ((below + above) as f64 / (2 * means.len()).max(1) as f64).clamp(edge, 1.0 - edge)
}

/// The skew of the mean, from the means without one of the values.
fn acceleration(values: &[f64], centre: f64) -> f64 {
    let n = values.len() as f64;
    // m̄ − mᵢ is (xᵢ − x̄) / (n − 1).
    let gaps = values.iter().map(|value| (value - centre) / (n - 1.0));
    let (cubes, squares) = gaps.fold((0.0, 0.0), |(c, s), gap| (c + gap.powi(3), s + gap * gap));
    if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 }
}

/// The normal distribution function.
fn normal(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// Its inverse, by bisection; exact to 1e-12.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if normal(middle) < p { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_quantile_inverts_the_distribution() {
        for (p, z) in [(0.975, Z), (0.5, 0.0), (0.841_344_746_068_543, 1.0), (0.001, -3.090_232_306_167_813_5)] {
            assert!((normal_quantile(p) - z).abs() < 1e-9, "{p}");
        }
    }

    /// By enumeration of all 3³ resamples of 0, 0, 1 with equal weights: the means are 0 (8 of 27), 1/3 (12), 2/3 (6), 1 (1).
    #[test]
    fn bias_and_skew_are_those_of_the_formulas() {
        let values = [0.0, 0.0, 1.0];
        let all: Vec<usize> = (0..27).flat_map(|i| [i / 9, i / 3 % 3, i % 3]).collect();
        let resamples = Resamples { n: 3, draws: all };
        let mut means: Vec<f64> =
            resamples.draws.chunks(3).map(|d| d.iter().map(|&i| values[i]).sum::<f64>() / 3.0).collect();
        means.sort_by(f64::total_cmp);
        assert!((share_below(&means, 1.0 / 3.0) - (8.0 + 6.0) / 27.0).abs() < 1e-12);
        // Gaps −1/6, −1/6, 1/3: cubes 1/36, squares 1/6.
        assert!((acceleration(&values, 1.0 / 3.0) - (1.0 / 36.0) / (6.0 * (1.0f64 / 6.0).powf(1.5))).abs() < 1e-12);
        let interval = resamples.interval(&values).unwrap();
        assert_eq!((interval.low, interval.n), (0.0, 3));
        assert!(interval.high > 0.9 && interval.high <= 1.0, "{interval:?}");
    }

    #[test]
    fn without_skew_it_is_near_the_percentile_interval_and_follows_a_shift() {
        let values: Vec<f64> = (0..41).map(|i| f64::from(i) / 40.0).collect();
        let interval = Resamples::new(41, 10_000, 3).interval(&values).unwrap();
        let plain = crate::stats::bootstrap(&values, 3).unwrap();
        assert!((interval.low - plain.low).abs() < 0.004 && (interval.high - plain.high).abs() < 0.004);
        let moved: Vec<f64> = values.iter().map(|value| value + 10.0).collect();
        let there = Resamples::new(41, 10_000, 3).interval(&moved).unwrap();
        assert!((there.low - interval.low - 10.0).abs() < 1e-6 && (there.high - interval.high - 10.0).abs() < 1e-6);
    }

    #[test]
    fn what_has_no_spread_or_no_number_has_no_width() {
        let resamples = Resamples::new(3, 100, 0);
        assert_eq!(resamples.interval(&[2.0; 3]).map(|i| (i.low, i.high)), Some((2.0, 2.0)));
        assert_eq!(resamples.interval(&[1.0, 2.0]), None);
        assert_eq!(resamples.interval(&[1.0, f64::NAN, 2.0]), None);
        assert_eq!(Resamples::new(0, 10, 0).interval(&[]), None);
        assert_eq!(Resamples::new(1, 10, 0).interval(&[1.0]), None);
    }
}
