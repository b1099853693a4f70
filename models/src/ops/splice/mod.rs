//! Puts rows into a matrix in place of others: image features among token embeddings.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::Matrix;
use super::tape::{require, take, view};

pub(crate) fn on_cpu<T: Tape<f32, Cpu> + Merge<R>, R>(
    x: Matrix<Cpu, T>,
    rows: Matrix<Cpu, R>,
    at: &[usize],
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("splice");
    let (x, left) = x.try_contiguous()?.split_tape();
    let (rows, right) = rows.split_tape();
    let mut tape = left.merge(right);
    let (t, d) = *x.shape();
    require(*rows.shape() == (at.len(), d) && at.iter().all(|&row| row < t))?;
    let mut y = view(&x)?.to_vec();
    let owners = owners(at, t);
    cpu::forward(&mut y, view(&rows)?, &owners, d);
    let y = x.device().try_tensor_from_vec(y, (t, d))?;
    if T::OWNS_TAPE {
        let (x, rows, ghost) = (x.ghost(), rows.ghost(), y.ghost());
        tape.add_backward_op(move |grads| {
            timed!("splice backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward_rows(grads.get_or_alloc_mut(&rows)?, &dy, &owners, d);
            cpu::backward_input(grads.get_or_alloc_mut(&x)?, &dy, &owners, d);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}

/// For each of `t` rows, the row put there, if any; of several the last.
pub(crate) fn owners(at: &[usize], t: usize) -> Vec<Option<usize>> {
    let mut owners = vec![None; t];
    for (i, &row) in at.iter().enumerate() {
        owners[row] = Some(i);
    }
    owners
}
