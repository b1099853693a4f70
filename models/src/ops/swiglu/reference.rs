//! The gated activation from dfdx's own ops.

use dfdx::prelude::*;

use crate::ops::Matrix;

/// `silu(gate) * up`: see [`Kernels::swiglu`](crate::ops::Kernels::swiglu).
pub fn swiglu<D: Device<f32>, T: Tape<f32, D> + Merge<R>, R>(
    gate: Matrix<D, T>,
    up: Matrix<D, R>,
) -> Result<Matrix<D, T>, D::Err> {
    gate.with_empty_tape().try_sigmoid()?.try_mul(gate)?.try_mul(up)
}
