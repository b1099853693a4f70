//! The splice from dfdx's own ops.

use dfdx::prelude::*;

use super::owners;
use crate::ops::Matrix;
use crate::ops::gather_rows::reference::gather_rows;

/// `x` with `rows[i]` at row `at[i]`: see [`Kernels::splice`](crate::ops::Kernels::splice).
pub fn splice<D: Device<f32>, T: Tape<f32, D> + Merge<R>, R: Tape<f32, D>>(
    x: Matrix<D, T>,
    rows: Matrix<D, R>,
    at: &[usize],
) -> Result<Matrix<D, T>, D::Err> {
    let t = x.shape().0;
    let order: Vec<usize> =
        owners(at, t).into_iter().enumerate().map(|(i, owner)| owner.map_or(i, |r| t + r)).collect();
    gather_rows((x, rows).try_concat_along(Axis::<0>)?, &order)
}
