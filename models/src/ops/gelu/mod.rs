//! The Gaussian error linear unit `gelu(x) = x Φ(x)` (Hendrycks and Gimpel, 2016), exact (erf).

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::Matrix;
use super::tape::{buffer, take, view};

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(x: Matrix<Cpu, T>) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("gelu");
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let shape = *x.shape();
    let mut y = buffer(shape.0 * shape.1);
    cpu::forward(&mut y, view(&x)?);
    let y = x.device().try_tensor_from_vec(y, shape)?;
    if T::OWNS_TAPE {
        let ghost = y.ghost();
        tape.add_backward_op(move |grads| {
            timed!("gelu backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward(grads.get_or_alloc_mut(&x)?, &dy, view(&x)?);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
