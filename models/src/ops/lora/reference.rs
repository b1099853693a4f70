//! The low-rank term from dfdx's own ops.

use dfdx::prelude::*;

use super::{LowRank, cpu};
use crate::ops::Matrix;
use crate::ops::linear::reference::linear;

/// `y + s drop(x) aᵀ bᵀ`: see [`Kernels::lora`](crate::ops::Kernels::lora).
pub fn lora<D: Device<f32>, T: Tape<f32, D>>(
    y: Matrix<D, T>,
    x: &Matrix<D>,
    [a, b]: [&Matrix<D>; 2],
    how: &LowRank,
) -> Result<Matrix<D, T>, D::Err> {
    let (y, tape) = y.split_tape();
    let mut x = x.clone().put_tape(tape);
    if let Some(dropout) = &how.dropout {
        let shape = *x.shape();
        let mut mask = vec![1.0; shape.0 * shape.1];
        cpu::drop_elements(&mut mask, dropout, shape.1);
        x = x.try_mul(y.device().try_tensor_from_vec(mask, shape)?)?;
    }
    let low = linear(x, a, None)?.try_mul(how.scale)?;
    linear(low, b, None)?.try_add(y)
}
