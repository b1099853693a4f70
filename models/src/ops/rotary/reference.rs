//! Rotary embedding from dfdx's own ops.

use std::sync::Arc;

use dfdx::prelude::*;

use crate::ops::Matrix;

/// The rotation of each head: see [`Kernels::rotary`](crate::ops::Kernels::rotary).
pub fn rotary<D: Device<f32>, T: Tape<f32, D>>(
    x: Matrix<D, T>,
    cos: &Arc<Vec<f32>>,
    sin: &Arc<Vec<f32>>,
    heads: usize,
) -> Result<Matrix<D, T>, D::Err> {
    let (t, d) = *x.shape();
    let (halves, half) = (t * heads * 2, d / heads / 2);
    let device = x.device().clone();
    let table = |source: &[f32], sign: f32| {
        let row = |i: usize| (i / (2 * heads) * half, if i.is_multiple_of(2) { sign } else { 1.0 });
        let values = (0..halves).flat_map(|i| {
            let (start, sign) = row(i);
            source[start..start + half].iter().map(move |v| v * sign)
        });
        device.try_tensor_from_vec(values.collect(), (halves, half))
    };
    let swap = device.try_tensor_from_vec((0..halves).map(|i| i ^ 1).collect(), (halves,))?;
    let x = x.try_reshape_like(&(halves, half))?;
    let swapped = x.with_empty_tape().try_gather(swap)?;
    let y = x.try_mul(table(cos, 1.0)?)?.try_add(swapped.try_mul(table(sin, -1.0)?)?)?;
    y.try_reshape_like(&(t, d))
}
