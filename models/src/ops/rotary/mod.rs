//! Rotary position embedding (Su et al., 2021), in the `rotate_half` (NeoX) layout.

pub mod cpu;
pub mod reference;

use std::sync::Arc;

use dfdx::prelude::*;

use super::Matrix;
use super::tape::{buffer, require, take, view};

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(
    x: Matrix<Cpu, T>,
    cos: &Arc<Vec<f32>>,
    sin: &Arc<Vec<f32>>,
    heads: usize,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("rotary");
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let (t, d) = *x.shape();
    require(heads > 0 && d % (2 * heads) == 0)?;
    require(cos.len() == t * d / (2 * heads) && sin.len() == cos.len())?;
    let mut y = buffer(t * d);
    cpu::forward(&mut y, view(&x)?, cos, sin, heads, d);
    let y = x.device().try_tensor_from_vec(y, (t, d))?;
    if T::OWNS_TAPE {
        let (x, ghost, cos, sin) = (x.ghost(), y.ghost(), cos.clone(), sin.clone());
        tape.add_backward_op(move |grads| {
            timed!("rotary backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward(grads.get_or_alloc_mut(&x)?, &dy, &cos, &sin, heads, d);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
