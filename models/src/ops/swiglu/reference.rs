//! The gated activation from dfdx's own ops.

use dfdx::prelude::*;

use crate::ops::Matrix;
use crate::ops::gather_rows::reference::gather_rows;

/// `silu(gate) * up`: see [`Kernels::swiglu`](crate::ops::Kernels::swiglu).
pub fn swiglu<D: Device<f32>, T: Tape<f32, D> + Merge<R>, R>(
    gate: Matrix<D, T>,
    up: Matrix<D, R>,
) -> Result<Matrix<D, T>, D::Err> {
    gate.with_empty_tape().try_sigmoid()?.try_mul(gate)?.try_mul(up)
}

/// [`swiglu`] of the halves of each row: see
/// [`Kernels::swiglu_packed`](crate::ops::Kernels::swiglu_packed).
pub fn swiglu_packed<D: Device<f32>, T: Tape<f32, D>>(x: Matrix<D, T>) -> Result<Matrix<D, T>, D::Err> {
    let (t, m) = (x.shape().0, x.shape().1 / 2);
    let x = x.try_reshape_like(&(2 * t, m))?;
    let even: Vec<usize> = (0..t).map(|i| 2 * i).collect();
    let odd: Vec<usize> = (0..t).map(|i| 2 * i + 1).collect();
    let gate = gather_rows(x.with_empty_tape(), &even)?;
    swiglu(gate, gather_rows(x, &odd)?)
}
