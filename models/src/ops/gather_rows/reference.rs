//! The gather from dfdx's own op.

use dfdx::prelude::*;

use crate::ops::Matrix;

/// `x[rows]`: see [`Kernels::gather_rows`](crate::ops::Kernels::gather_rows).
pub fn gather_rows<D: Device<f32>, T: Tape<f32, D>>(x: Matrix<D, T>, rows: &[usize]) -> Result<Matrix<D, T>, D::Err> {
    let index = x.device().try_tensor_from_vec(rows.to_vec(), (rows.len(),))?;
    x.try_gather(index)
}
