//! The Gaussian error linear unit `gelu(z) = z Φ(z)` (Hendrycks and Gimpel, 2016), exact (erf), of a product and its bias.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::linear::cpu::backward_bias;
use super::parallel::accumulate;
use super::tape::{buffer, require, take, view, view1};
use super::{Matrix, Param, Vector};

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(
    x: Matrix<Cpu, T>,
    b: Param<'_, Vector<Cpu>>,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("bias_gelu");
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let (t, n) = *x.shape();
    require(b.values.shape().0 == n && n > 0)?;
    let mut y = buffer(t * n);
    cpu::forward(&mut y, view(&x)?, view1(b.values)?);
    let y = x.device().try_tensor_from_vec(y, (t, n))?;
    if T::OWNS_TAPE {
        let (ghost, b, learns) = (y.ghost(), b.values.clone(), b.learns);
        tape.add_backward_op(move |grads| {
            timed!("bias_gelu backward");
            let mut dz = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward(&mut dz, view(&x)?, view1(&b)?);
            accumulate(grads.get_or_alloc_mut(&x)?, &dz);
            if learns {
                backward_bias(grads.get_or_alloc_mut(&b)?, &dz);
            }
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
