//! Columns by the product with rows of the identity.

use std::ops::Range;

use dfdx::prelude::*;

use crate::ops::Matrix;

/// `x[.., columns]`.
pub fn columns<D: Device<f32>, T: Tape<f32, D>>(
    x: Matrix<D, T>,
    columns: Range<usize>,
) -> Result<Matrix<D, T>, D::Err> {
    let (d, n) = (x.shape().1, columns.len());
    let mut picks = vec![0.0; d * n];
    columns.enumerate().for_each(|(at, column)| picks[column * n + at] = 1.0);
    let picks = x.device().try_tensor_from_vec(picks, (d, n))?;
    x.try_matmul(picks)
}
