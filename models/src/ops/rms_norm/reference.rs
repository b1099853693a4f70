//! Root-mean-square normalisation from dfdx's own ops.

use dfdx::prelude::*;

use crate::ops::{Matrix, Vector};

/// `y = x / sqrt(mean(x²) + eps) * w`: see [`Kernels::rms_norm`](crate::ops::Kernels::rms_norm).
pub fn rms_norm<D: Device<f32>, T: Tape<f32, D>>(
    x: Matrix<D, T>,
    w: &Vector<D>,
    eps: f32,
) -> Result<Matrix<D, T>, D::Err> {
    let shape = *x.shape();
    let square = x.with_empty_tape().try_square()?.try_mean::<(usize,), Axis<1>>()?;
    let scale = square.try_add(eps)?.try_sqrt()?.try_recip()?;
    let y = x.try_mul(scale.try_broadcast_like::<_, Axis<1>>(&shape)?)?;
    y.try_mul(w.retaped::<T>().try_broadcast_like::<_, Axis<0>>(&shape)?)
}
