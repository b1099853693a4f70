//! Slice kernel of the sum with its normalisation. Its backward is that of [`rms_norm`], then of [`add`](mod@crate::ops::add).

use crate::ops::parallel::{chunk_rows, for_rows2};
use crate::ops::rms_norm;

/// `z = x + y` and `n = z * r * w` as [`rms_norm::cpu::forward`], a few rows of both at a time.
pub fn forward(z: &mut [f32], n: &mut [f32], [x, y]: [&[f32]; 2], w: &[f32], eps: f32) {
    let d = w.len();
    let rows = chunk_rows(d);
    for_rows2((z, d), (n, d), rows, |chunk, z, n| {
        let start = chunk * rows * d;
        for ((z, x), y) in z.iter_mut().zip(&x[start..]).zip(&y[start..]) {
            *z = x + y;
        }
        rms_norm::cpu::rows(n, z, w, eps);
    });
}
