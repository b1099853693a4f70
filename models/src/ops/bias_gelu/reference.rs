//! The Gaussian error linear unit of a sum with a bias, from dfdx's own ops.

use dfdx::prelude::*;

use crate::ops::{Matrix, Vector};

/// `z Φ(z)` with `z = x + b`: see [`Kernels::bias_gelu`](crate::ops::Kernels::bias_gelu).
///
/// The derivative of `accurate_gelu` in dfdx 0.13 has the density `x e^(-x²/2) / sqrt(π)`, which is
/// `sqrt(2)` times too large. A term of value 0 whose derivative is the difference makes up for it.
pub fn bias_gelu<D: Device<f32>, T: Tape<f32, D>>(x: Matrix<D, T>, b: &Vector<D>) -> Result<Matrix<D, T>, D::Err> {
    let shape = *x.shape();
    let x = x.try_add(b.retaped::<T>().try_broadcast_like::<_, Axis<0>>(&shape)?)?;
    let value = bump(x.retaped::<NoneTape>())?;
    let correction = bump(x.with_empty_tape())?.try_sub(value)?;
    x.try_accurate_gelu()?.try_add(correction)
}

/// `e^(-x²/2) (1 / sqrt(π) - 1 / sqrt(2π))`.
fn bump<D: Device<f32>, T: Tape<f32, D>>(x: Matrix<D, T>) -> Result<Matrix<D, T>, D::Err> {
    const HEIGHT: f32 = 0.564_189_6 - 0.398_942_3;
    x.try_square()?.try_mul(-0.5)?.try_exp()?.try_mul(HEIGHT)
}
