//! The sum from dfdx's own op.

use dfdx::prelude::*;

use crate::ops::Matrix;

/// `x + y`: see [`Kernels::add`](crate::ops::Kernels::add).
pub fn add<D: Device<f32>, T: Tape<f32, D> + Merge<R>, R: Default>(
    x: Matrix<D, T>,
    y: Matrix<D, R>,
) -> Result<Matrix<D, T>, D::Err> {
    x.try_add(y)
}
