//! The terms that policy-gradient losses are made of: probability ratios and the k3 estimate of the KL divergence.
//!
//! All in `f64`: inputs are `f32` log-probabilities, so no term loses digits, and a difference of two log-probabilities
//! that is out of bounds is cut before it can overflow.

/// Where a log ratio is cut when no clamp is asked for: `e^80` still fits an `f32`.
pub(crate) const MAX_LOG_RATIO: f32 = 80.0;

/// A function of a token's log-probability, with its derivative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Term {
    /// The value.
    pub(crate) value: f64,
    /// d value / d log-probability.
    pub(crate) slope: f64,
}

/// `exp(logprob − old)` with the log ratio cut to ±`clamp`; outside, the slope is 0.
pub(crate) fn ratio(logprob: f32, old: f32, clamp: Option<f32>) -> Term {
    let (log_ratio, inside) = cut(f64::from(logprob) - f64::from(old), clamp);
    let value = log_ratio.exp();
    Term { value, slope: if inside { value } else { 0.0 } }
}

/// Schulman's k3 estimate of KL(policy ‖ reference): `exp(d) − d − 1` with `d = reference − logprob`, cut to ±`clamp`;
/// a value above `max` is cut too. Never negative; outside either bound the slope is 0.
pub(crate) fn k3(logprob: f32, reference: f32, clamp: Option<f32>, max: Option<f32>) -> Term {
    let (d, inside) = cut(f64::from(reference) - f64::from(logprob), clamp);
    let value = (d.exp_m1() - d).max(0.0);
    match max.map(f64::from) {
        Some(max) if value > max => Term { value: max, slope: 0.0 },
        _ => Term { value, slope: if inside { -d.exp_m1() } else { 0.0 } },
    }
}

/// `value` cut to ±`clamp` (±80 without one), and whether it was inside.
pub(crate) fn cut(value: f64, clamp: Option<f32>) -> (f64, bool) {
    let bound = f64::from(clamp.unwrap_or(MAX_LOG_RATIO));
    (value.clamp(-bound, bound), value.abs() <= bound)
}
