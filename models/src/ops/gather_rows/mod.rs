//! Rows of a matrix in a given order, with repeats: selections and permutations.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::Matrix;
use super::embed;
use super::tape::{buffer, require, take, view};

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(x: Matrix<Cpu, T>, rows: &[usize]) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("gather_rows");
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let (t, d) = *x.shape();
    require(rows.iter().all(|&row| row < t))?;
    let mut y = buffer(rows.len() * d);
    embed::cpu::forward(&mut y, view(&x)?, rows, d);
    let y = x.device().try_tensor_from_vec(y, (rows.len(), d))?;
    if T::OWNS_TAPE {
        let (x, ghost, rows) = (x.ghost(), y.ghost(), rows.to_vec());
        tape.add_backward_op(move |grads| {
            timed!("gather_rows backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward(grads.get_or_alloc_mut(&x)?, &dy, &rows, d);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
