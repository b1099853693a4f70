//! The embedding from dfdx's own op.

use dfdx::prelude::*;

use crate::ops::Matrix;
use crate::ops::gather_rows::reference::gather_rows;

/// `table[ids]`: see [`Kernels::embed`](crate::ops::Kernels::embed).
pub fn embed<D: Device<f32>, T: Tape<f32, D>>(
    table: &Matrix<D>,
    ids: &[usize],
    tape: T,
) -> Result<Matrix<D, T>, D::Err> {
    gather_rows(table.clone().put_tape(tape), ids)
}
