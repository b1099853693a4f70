//! The sum of two matrices: the residual connection.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::Matrix;
use super::parallel::accumulate;
use super::tape::{buffer, require, take, view};

pub(crate) fn on_cpu<T: Tape<f32, Cpu> + Merge<R>, R>(
    x: Matrix<Cpu, T>,
    y: Matrix<Cpu, R>,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("add");
    let (x, left) = x.try_contiguous()?.split_tape();
    let (y, right) = y.split_tape();
    let mut tape = left.merge(right);
    let shape = *x.shape();
    require(shape == *y.shape())?;
    let mut z = buffer(shape.0 * shape.1);
    cpu::forward(&mut z, view(&x)?, view(&y)?);
    let z = x.device().try_tensor_from_vec(z, shape)?;
    if T::OWNS_TAPE {
        let (x, y, ghost) = (x.ghost(), y.ghost(), z.ghost());
        tape.add_backward_op(move |grads| {
            timed!("add backward");
            let dz = take(grads.get_or_alloc_mut(&ghost)?);
            accumulate(grads.get_or_alloc_mut(&x)?, &dz);
            accumulate(grads.get_or_alloc_mut(&y)?, &dz);
            Ok(())
        });
    }
    Ok(z.put_tape(tape))
}
