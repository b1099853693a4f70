//! The linear layer from dfdx's own ops.

use dfdx::prelude::*;

use crate::ops::{Matrix, Vector};

/// `y = x wᵀ + b`: see [`Kernels::linear`](crate::ops::Kernels::linear).
pub fn linear<D: Device<f32>, T: Tape<f32, D>>(
    x: Matrix<D, T>,
    w: &Matrix<D>,
    b: Option<&Vector<D>>,
) -> Result<Matrix<D, T>, D::Err> {
    let y = x.try_matmul(w.retaped::<T>().try_permute::<_, Axes2<1, 0>>()?)?;
    match b {
        None => Ok(y),
        Some(b) => {
            let shape = *y.shape();
            y.try_add(b.retaped::<T>().try_broadcast_like::<_, Axis<0>>(&shape)?)
        }
    }
}
