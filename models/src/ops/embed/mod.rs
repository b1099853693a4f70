//! The embedding: rows of a table by token id.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::tape::{buffer, require, take, view};
use super::{Matrix, Param};

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(
    table: Param<'_, Matrix<Cpu>>,
    ids: &[usize],
    mut tape: T,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("embed");
    let Param { values: table, learns } = table;
    let (v, d) = *table.shape();
    require(ids.iter().all(|&id| id < v))?;
    let mut y = buffer(ids.len() * d);
    cpu::forward(&mut y, view(table)?, ids, d);
    let y = table.device().try_tensor_from_vec(y, (ids.len(), d))?;
    if T::OWNS_TAPE && learns {
        let (table, ghost, ids) = (table.ghost(), y.ghost(), ids.to_vec());
        tape.add_backward_op(move |grads| {
            timed!("embed backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward(grads.get_or_alloc_mut(&table)?, &dy, &ids, d);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
