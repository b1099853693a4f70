//! Columns on slices.

use std::ops::Range;

use crate::ops::parallel::for_rows;

/// `y[t, n] = x[t, columns]` of `x[t, d]`.
pub fn forward(y: &mut [f32], x: &[f32], d: usize, columns: Range<usize>) {
    let n = columns.len();
    for_rows(y, n, |start, y| {
        for (row, x) in y.chunks_mut(n).zip(x[start * d..].chunks(d)) {
            row.copy_from_slice(&x[columns.clone()]);
        }
    });
}

/// `dx[t, columns] += dy[t, n]`.
pub fn backward(dx: &mut [f32], dy: &[f32], d: usize, columns: Range<usize>) {
    let n = columns.len();
    for_rows(dx, d, |start, dx| {
        for (row, dy) in dx.chunks_mut(d).zip(dy[start * n..].chunks(n)) {
            row[columns.clone()].iter_mut().zip(dy).for_each(|(a, b)| *a += b);
        }
    });
}
