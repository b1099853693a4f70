//! Slice kernels of the linear layer. Sizes are `(t, n, k)`: rows, outputs, inputs.

use rayon::prelude::*;

use crate::ops::gemm::{Mat, MatMut, append_product, matmul};
use crate::ops::parallel::for_rows;

/// Appends the rows of `x[t, k] w[n, k]ᵀ + b[n]` to `y`.
pub fn append(y: &mut Vec<f32>, x: &[f32], w: &[f32], b: Option<&[f32]>, (t, n, k): (usize, usize, usize)) {
    let (x, w) = (Mat::new(x, t, k), Mat::new(w, n, k).t());
    let Some(b) = b else { return append_product(y, x, w) };
    let start = y.len();
    y.resize(start + t * n, 0.0);
    for_rows(&mut y[start..], n, |_, rows| rows.chunks_mut(n).for_each(|row| row.copy_from_slice(b)));
    matmul(MatMut::new(&mut y[start..], t, n), x, w, true);
}

/// `dx[t, k] += dy[t, n] w[n, k]`.
pub fn backward_input(dx: &mut [f32], dy: &[f32], w: &[f32], (t, n, k): (usize, usize, usize)) {
    matmul(MatMut::new(dx, t, k), Mat::new(dy, t, n), Mat::new(w, n, k), true);
}

/// `dw[n, k] += dy[t, n]ᵀ x[t, k]`.
pub fn backward_weight(dw: &mut [f32], dy: &[f32], x: &[f32], (t, n, k): (usize, usize, usize)) {
    matmul(MatMut::new(dw, n, k), Mat::new(dy, t, n).t(), Mat::new(x, t, k), true);
}

/// `db[n] += Σ_t dy[t, n]`, rows in order.
pub fn backward_bias(db: &mut [f32], dy: &[f32]) {
    const COLUMNS: usize = 64;
    let n = db.len();
    let sum = |(i, columns): (usize, &mut [f32])| {
        for row in dy.chunks_exact(n) {
            for (d, g) in columns.iter_mut().zip(&row[i * COLUMNS..]) {
                *d += g;
            }
        }
    };
    if dy.len() < 65_536 {
        db.chunks_mut(COLUMNS).enumerate().for_each(sum);
    } else {
        db.par_chunks_mut(COLUMNS).enumerate().for_each(sum);
    }
}
