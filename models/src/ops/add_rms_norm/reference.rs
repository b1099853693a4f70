//! The sum and its normalisation from their own references.

use dfdx::prelude::*;

use crate::ops::{Matrix, SumAndNorm, Vector, add, rms_norm};

/// The sum and its norm: see [`Kernels::add_rms_norm`](crate::ops::Kernels::add_rms_norm).
pub fn add_rms_norm<D: Device<f32>, T: Tape<f32, D> + Merge<R>, R: Default>(
    x: Matrix<D, T>,
    y: Matrix<D, R>,
    w: &Vector<D>,
    eps: f32,
) -> Result<SumAndNorm<D, T>, D::Err> {
    let (z, tape) = add::reference::add(x, y)?.split_tape();
    let n = rms_norm::reference::rms_norm(z.clone().put_tape(tape), w, eps)?;
    Ok((z, n))
}
