//! The gated activation `silu(gate) * up` (Shazeer, 2020), `silu(x) = x / (1 + e^-x)`.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::Matrix;
use super::tape::{buffer, require, take, view};

pub(crate) fn on_cpu<T: Tape<f32, Cpu> + Merge<R>, R>(
    gate: Matrix<Cpu, T>,
    up: Matrix<Cpu, R>,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("swiglu");
    let (gate, left) = gate.try_contiguous()?.split_tape();
    let (up, right) = up.split_tape();
    let mut tape = left.merge(right);
    let (t, m) = *gate.shape();
    require((t, m) == *up.shape())?;
    let mut y = buffer(t * m);
    cpu::forward(&mut y, view(&gate)?, view(&up)?);
    let y = gate.device().try_tensor_from_vec(y, (t, m))?;
    if T::OWNS_TAPE {
        let ghost = y.ghost();
        tape.add_backward_op(move |grads| {
            timed!("swiglu backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward_up(grads.get_or_alloc_mut(&up)?, &dy, view(&gate)?);
            cpu::backward_gate(grads.get_or_alloc_mut(&gate)?, &dy, view(&gate)?, view(&up)?);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
