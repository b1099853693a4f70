//! The linear layer `y = x wᵀ + b`, with the weight as Hugging Face stores it.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::tape::{buffer, require, take, view, view1};
use super::{Matrix, Vector};

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(
    x: Matrix<Cpu, T>,
    w: &Matrix<Cpu>,
    b: Option<&Vector<Cpu>>,
) -> Result<Matrix<Cpu, T>, CpuError> {
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let ((t, k), (n, k2)) = (*x.shape(), *w.shape());
    require(k == k2 && b.is_none_or(|b| b.shape().0 == n))?;
    let mut y = buffer(t * n);
    cpu::forward(&mut y, view(&x)?, view(w)?, b.map(view1).transpose()?, (t, n, k));
    let y = x.device().try_tensor_from_vec(y, (t, n))?;
    if T::OWNS_TAPE {
        let (ghost, w, b) = (y.ghost(), w.clone(), b.cloned());
        tape.add_backward_op(move |grads| {
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward_input(grads.get_or_alloc_mut(&x)?, &dy, view(&w)?, (t, n, k));
            cpu::backward_weight(grads.get_or_alloc_mut(&w)?, &dy, view(&x)?, (t, n, k));
            if let Some(b) = &b {
                cpu::backward_bias(grads.get_or_alloc_mut(b)?, &dy);
            }
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
