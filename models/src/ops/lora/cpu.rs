//! Slice kernels of the low-rank term. Sizes are `t` rows, `n` outputs, `k` inputs, rank `r`.

use std::borrow::Cow;

use imagent_core::derive;

use super::{Dropout, LowRank};
use crate::ops::gemm::{Mat, MatMut, matmul};
use crate::ops::parallel::{accumulate, for_rows};

/// `y[t, n] += low b[n, r]ᵀ`; returns `low[t, r] = s drop(x)[t, k] a[r, k]ᵀ`.
pub fn forward(y: &mut [f32], x: &[f32], [a, b]: [&[f32]; 2], how: &LowRank, [t, n, k, r]: [usize; 4]) -> Vec<f32> {
    let mut low = vec![0.0; t * r];
    matmul(MatMut::new(&mut low, t, r), Mat::new(&dropped(x, how, k), t, k), Mat::new(a, r, k).t(), false);
    low.iter_mut().for_each(|value| *value *= how.scale);
    matmul(MatMut::new(y, t, n), Mat::new(&low, t, r), Mat::new(b, n, r).t(), true);
    low
}

/// `db[n, r] += dy[t, n]ᵀ low[t, r]`.
pub fn backward_b(db: &mut [f32], dy: &[f32], low: &[f32], [t, n, r]: [usize; 3]) {
    matmul(MatMut::new(db, n, r), Mat::new(dy, t, n).t(), Mat::new(low, t, r), true);
}

/// `s dy[t, n] b[n, r]`: the derivative by `drop(x) aᵀ`.
pub fn backward_low(dy: &[f32], b: &[f32], scale: f32, [t, n, r]: [usize; 3]) -> Vec<f32> {
    let mut dlow = vec![0.0; t * r];
    matmul(MatMut::new(&mut dlow, t, r), Mat::new(dy, t, n), Mat::new(b, n, r), false);
    dlow.iter_mut().for_each(|value| *value *= scale);
    dlow
}

/// `da[r, k] += dlow[t, r]ᵀ drop(x)[t, k]`.
pub fn backward_a(da: &mut [f32], dlow: &[f32], x: &[f32], how: &LowRank, [t, k, r]: [usize; 3]) {
    matmul(MatMut::new(da, r, k), Mat::new(dlow, t, r).t(), Mat::new(&dropped(x, how, k), t, k), true);
}

/// `dx[t, k] += drop(dlow[t, r] a[r, k])`.
pub fn backward_input(dx: &mut [f32], dlow: &[f32], a: &[f32], how: &LowRank, [t, k, r]: [usize; 3]) {
    let (dlow, a) = (Mat::new(dlow, t, r), Mat::new(a, r, k));
    match &how.dropout {
        None => matmul(MatMut::new(dx, t, k), dlow, a, true),
        Some(dropout) => {
            let mut product = vec![0.0; t * k];
            matmul(MatMut::new(&mut product, t, k), dlow, a, false);
            drop_elements(&mut product, dropout, k);
            accumulate(dx, &product);
        }
    }
}

fn dropped<'a>(x: &'a [f32], how: &LowRank, k: usize) -> Cow<'a, [f32]> {
    match &how.dropout {
        None => Cow::Borrowed(x),
        Some(dropout) => {
            let mut x = x.to_vec();
            drop_elements(&mut x, dropout, k);
            Cow::Owned(x)
        }
    }
}

/// Drops elements of `x[t, k]` and scales what is kept. Two neighbours share one draw of 64 bits.
pub fn drop_elements(x: &mut [f32], dropout: &Dropout, k: usize) {
    let least = (f64::from(dropout.rate) * (1u64 << 32) as f64) as u64;
    let scale = (1.0 - dropout.rate).recip();
    for_rows(x, k, |start, rows| {
        for (row, name) in rows.chunks_exact_mut(k).zip(&dropout.rows[start..]) {
            let state = derive(dropout.key, &[*name]);
            for (pair, elements) in row.chunks_mut(2).enumerate() {
                let draw = derive(state, &[pair as u64]);
                for (element, draw) in elements.iter_mut().zip([draw & 0xffff_ffff, draw >> 32]) {
                    *element = if draw < least { 0.0 } else { *element * scale };
                }
            }
        }
    });
}
