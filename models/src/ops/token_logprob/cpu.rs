//! Slice kernels of the log-probabilities. With logits `z = x headᵀ / temperature` (suppressed ones
//! at `-inf`) and `p = softmax(z)`: `logprob = z[target] - lse(z)`, `entropy = lse(z) - Σ p z`.

use std::ops::Range;

use super::Choice;
use crate::ops::gemm::{Mat, MatMut, matmul};
use crate::ops::parallel::for_rows2;
use crate::ops::product::{self, Elements, Part};
use crate::ops::simd::{Kernel, dispatch, exp, exp_moments, fma, max};

/// Logits held at a time, about.
const CHUNK: usize = 1 << 21;
/// Rows whose logits are held at a time, at least: every chunk goes through all of the head.
const ROWS: usize = 64;
/// Terms summed in single precision before the sum goes into a double.
const BLOCK: usize = 4096;
/// A logit that stands for `-inf`, but whose product with probability 0 is 0.
const NEVER: f32 = -1e30;

/// Writes `(logprob, entropy)` of each row to `out[n, 2]` and the log-sum-exp of its logits to `lse`.
///
/// `x` is `[n, d]`, `head` `[vocabulary, d]`. A suppressed target has log-probability `-inf`.
pub fn forward(out: &mut [f32], lse: &mut [f32], x: &[f32], head: &[f32], choice: &Choice, d: usize) {
    let fill = |logits: &mut Vec<f32>, rows| fill(logits, x, head, choice, rows, d);
    score(out, lse, choice, head.len() / d, fill);
}

/// [`forward`] with a head as it is stored.
pub fn forward_stored(out: &mut [f32], lse: &mut [f32], x: &[f32], head: Elements<'_>, choice: &Choice, d: usize) {
    let vocabulary = head.len() / d;
    let part = Part { weight: head, bias: None, outputs: vocabulary };
    score(out, lse, choice, vocabulary, |logits, rows| {
        logits.resize(rows.len() * vocabulary, 0.0);
        product::forward(logits, &x[rows.start * d..rows.end * d], &[part], d);
        suppress(logits, choice, vocabulary);
    });
}

/// Scores rows chunk by chunk; `fill` makes the logits of some rows, not yet divided by the temperature.
fn score(
    out: &mut [f32],
    lse: &mut [f32],
    choice: &Choice,
    vocabulary: usize,
    fill: impl Fn(&mut Vec<f32>, Range<usize>),
) {
    let mut logits = Vec::new();
    for rows in chunks(lse.len(), vocabulary) {
        fill(&mut logits, rows.clone());
        let mut both: Vec<f32> = vec![0.0; 3 * rows.len()];
        for_rows2((&mut logits, vocabulary), (&mut both, 3), 1, |i, logits, both| {
            let (total, entropy) = dispatch(Moments { logits, scale: 1.0 / choice.temperature });
            let target = logits[choice.targets[rows.start + i]];
            let logprob =
                if target == NEVER { f64::NEG_INFINITY } else { f64::from(target / choice.temperature) - total };
            both.copy_from_slice(&[logprob as f32, entropy as f32, total as f32]);
        });
        for (i, both) in rows.zip(both.chunks_exact(3)) {
            out[2 * i..2 * i + 2].copy_from_slice(&both[..2]);
            lse[i] = both[2];
        }
    }
}

fn chunks(n: usize, vocabulary: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = (CHUNK / vocabulary.max(1)).max(ROWS);
    (0..n).step_by(rows).map(move |start| start..n.min(start + rows))
}

/// Makes the logits of `rows`, not yet divided by the temperature.
fn fill(logits: &mut Vec<f32>, x: &[f32], head: &[f32], choice: &Choice, rows: Range<usize>, d: usize) {
    let (m, vocabulary) = (rows.len(), head.len() / d);
    logits.resize(m * vocabulary, 0.0);
    let x = Mat::new(&x[rows.start * d..], m, d);
    matmul(MatMut::new(logits, m, vocabulary), x, Mat::new(head, vocabulary, d).t(), false);
    suppress(logits, choice, vocabulary);
}

fn suppress(logits: &mut [f32], choice: &Choice, vocabulary: usize) {
    for row in logits.chunks_exact_mut(vocabulary) {
        for &token in &choice.suppress {
            row[token] = NEVER;
        }
    }
}

/// Log-sum-exp and entropy of a row of logits.
struct Moments<'a> {
    logits: &'a [f32],
    scale: f32,
}

impl Kernel for Moments<'_> {
    type Output = (f64, f64);
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Self::Output {
        let top = max(self.logits);
        let (mut zeroth, mut first) = (0.0f64, 0.0f64);
        for block in self.logits.chunks(BLOCK) {
            let (a, b) = exp_moments::<FMA>(block, top, self.scale);
            zeroth += f64::from(a);
            first += f64::from(b);
        }
        (f64::from(top) * f64::from(self.scale) + zeroth.ln(), zeroth.ln() - first / zeroth)
    }
}

/// What [`backward`] needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Hidden rows `[n, d]`.
    pub x: &'a [f32],
    /// The head `[vocabulary, d]`.
    pub head: &'a [f32],
    /// What [`forward`] wrote to `out`.
    pub out: &'a [f32],
    /// What [`forward`] wrote to `lse`.
    pub lse: &'a [f32],
}

/// Adds to `dx[n, d]` and, unless the head is frozen, to `dhead[vocabulary, d]`, given `dout[n, 2]` by log-probability and entropy.
///
/// `dz = g (onehot(target) - p) - e p (ln p + entropy)`; `g` counts as 0 for a suppressed target.
pub fn backward(
    dx: &mut [f32],
    mut dhead: Option<&mut [f32]>,
    dout: &[f32],
    saved: Saved<'_>,
    choice: &Choice,
    d: usize,
) {
    let Saved { x, head, out, lse } = saved;
    let vocabulary = head.len() / d;
    let mut logits = Vec::new();
    for rows in chunks(lse.len(), vocabulary) {
        fill(&mut logits, x, head, choice, rows.clone(), d);
        for_rows2((&mut logits, vocabulary), (&mut vec![0.0; rows.len()], 1), 1, |i, logits, _| {
            let i = rows.start + i;
            let target = choice.targets[i];
            let by_logprob = if out[2 * i].is_finite() { dout[2 * i] } else { 0.0 };
            dispatch(LogitGradient {
                logits,
                lse: lse[i],
                entropy: out[2 * i + 1],
                by_logprob,
                by_entropy: dout[2 * i + 1],
                scale: 1.0 / choice.temperature,
            });
            logits[target] += by_logprob / choice.temperature;
        });
        let (m, range) = (rows.len(), rows.start * d..rows.end * d);
        let gradient = Mat::new(&logits, m, vocabulary);
        matmul(MatMut::new(&mut dx[range.clone()], m, d), gradient, Mat::new(head, vocabulary, d), true);
        if let Some(dhead) = dhead.as_deref_mut() {
            matmul(MatMut::new(dhead, vocabulary, d), gradient.t(), Mat::new(&x[range], m, d), true);
        }
    }
}

/// Turns the logits of a row into their gradient, but for the target's own term.
struct LogitGradient<'a> {
    logits: &'a mut [f32],
    lse: f32,
    entropy: f32,
    by_logprob: f32,
    by_entropy: f32,
    scale: f32,
}

impl Kernel for LogitGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let constant = fma::<FMA>(self.by_entropy, self.entropy, self.by_logprob);
        for z in self.logits.iter_mut() {
            let log_p = fma::<FMA>(*z, self.scale, -self.lse);
            let slope = fma::<FMA>(self.by_entropy, log_p, constant);
            *z = -exp::<FMA>(log_p) * slope * self.scale;
        }
    }
}
