//! Slice kernels of the root-mean-square normalisation.

use crate::ops::parallel::{chunk_rows, for_rows, for_rows2};
use crate::ops::simd::{Kernel, dispatch, fma, sum_zip};

/// `y[t, d] = x[t, d] * r[t] * w[d]` with `r = 1 / sqrt(mean(x²) + eps)`; `d = w.len()`.
pub fn forward(y: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    let d = w.len();
    for_rows(y, d, |start, y| {
        rows(y, &x[start * d..start * d + y.len()], w, eps);
    });
}

/// [`forward`] on the calling thread.
pub(crate) fn rows(y: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    dispatch(Forward { y, x, w, eps });
}

struct Forward<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    w: &'a [f32],
    eps: f32,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.w.len();
        for (y, x) in self.y.chunks_exact_mut(d).zip(self.x.chunks_exact(d)) {
            let r = scale::<FMA>(x, self.eps);
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(self.w) {
                *y = x * r * w;
            }
        }
    }
}

#[inline(always)]
fn scale<const FMA: bool>(x: &[f32], eps: f32) -> f32 {
    let squares = sum_zip(x, x, |s, a, b| fma::<FMA>(a, b, s));
    1.0 / (squares / x.len() as f32 + eps).sqrt()
}

/// `dx += r * (w dy - x * r² * mean(dy w x))`; returns `dw[d] = Σ_t dy x r`, summed within fixed
/// chunks of rows, then over the chunks in order.
pub fn backward(dx: &mut [f32], dy: &[f32], x: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let d = w.len();
    let chunks = (dx.len() / d).div_ceil(chunk_rows(d));
    let mut partial = vec![0.0; chunks * d];
    // One row of `partial` for each chunk of rows of `dx`.
    for_chunks(dx, d, &mut partial, |start, dx, dw| {
        let range = start * d..start * d + dx.len();
        dispatch(Backward { dx, dw, dy: &dy[range.clone()], x: &x[range], w, eps });
    });
    let mut dw = vec![0.0; d];
    for chunk in partial.chunks_exact(d) {
        for (sum, g) in dw.iter_mut().zip(chunk) {
            *sum += g;
        }
    }
    dw
}

fn for_chunks(dx: &mut [f32], d: usize, partial: &mut [f32], f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync) {
    for_rows2((dx, d * chunk_rows(d)), (partial, d), 1, |chunk, dx, dw| f(chunk * chunk_rows(d), dx, dw));
}

struct Backward<'a> {
    dx: &'a mut [f32],
    dw: &'a mut [f32],
    dy: &'a [f32],
    x: &'a [f32],
    w: &'a [f32],
    eps: f32,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.w.len();
        let rows = self.dx.chunks_exact_mut(d).zip(self.dy.chunks_exact(d)).zip(self.x.chunks_exact(d));
        let mut weighted = vec![0.0f32; d];
        for ((dx, dy), x) in rows {
            let r = scale::<FMA>(x, self.eps);
            for ((wg, &g), &w) in weighted.iter_mut().zip(dy).zip(self.w) {
                *wg = g * w;
            }
            let dot = sum_zip(&weighted, x, |s, a, b| fma::<FMA>(a, b, s));
            let pull = -dot * r * r * r / d as f32;
            for ((dx, &wg), &x) in dx.iter_mut().zip(&weighted).zip(x) {
                *dx += fma::<FMA>(x, pull, wg * r);
            }
            for ((dw, &g), &x) in self.dw.iter_mut().zip(dy).zip(x) {
                *dw = fma::<FMA>(g * x, r, *dw);
            }
        }
    }
}
