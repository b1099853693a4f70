//! Gradient checkpointing (Chen et al., arXiv 1604.06174): a part of the model that keeps its input alone and runs again
//! in the backward pass. Values and gradients are those without, to the bit: the second run is the first one again,
//! and its gradients are added in the same order.

use dfdx::prelude::*;

use super::{Kernels, Matrix};

/// A part of the model as a function of one matrix, with or without a tape.
pub trait Part<D: Kernels>: 'static {
    /// Runs it.
    ///
    /// # Errors
    /// When an op of it fails.
    fn run<T: Tape<f32, D>>(&self, x: Matrix<D, T>) -> Result<Matrix<D, T>, D::Err>;
}

/// Runs `part` without keeping what it computes, and again in the backward pass.
///
/// # Errors
/// When an op of the part fails, here or in the backward pass.
pub fn recompute<D: Kernels, T: Tape<f32, D>>(x: Matrix<D, T>, part: impl Part<D>) -> Result<Matrix<D, T>, D::Err> {
    let (x, mut tape) = x.split_tape();
    let y = part.run(x.clone())?;
    if T::OWNS_TAPE {
        let ghost = y.ghost();
        tape.add_backward_op(move |grads| {
            let device = x.device().clone();
            let dy = std::mem::replace(grads.get_or_alloc_mut(&ghost)?, Storage::<f32>::try_alloc_len(&device, 0)?);
            // The second run adds to the gradients that are there: they ride on its tape.
            let so_far = std::mem::replace(grads, Gradients::leaky());
            let (again, mut tape) = part.run(x.traced(so_far))?.split_tape();
            tape.add_backward_op(move |grads| {
                *grads.get_or_alloc_mut(&again)? = dy;
                Ok(())
            });
            let start: Tensor<Rank0, f32, D> = device.try_zeros()?;
            *grads = start.put_tape(tape).try_backward()?;
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
