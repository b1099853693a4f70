//! The linear layer `y = x wᵀ + b`, with the weight as Hugging Face stores it.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::tape::{require, take, view, view1};
use super::{Matrix, Param, Vector};

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(
    x: Matrix<Cpu, T>,
    w: Param<'_, Matrix<Cpu>>,
    b: Option<Param<'_, Vector<Cpu>>>,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("linear");
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let ((t, k), (n, k2)) = (*x.shape(), *w.values.shape());
    require(k == k2 && b.is_none_or(|b| b.values.shape().0 == n))?;
    let mut y = Vec::with_capacity(t * n);
    cpu::append(&mut y, view(&x)?, view(w.values)?, b.map(|b| view1(b.values)).transpose()?, (t, n, k));
    let y = x.device().try_tensor_from_vec(y, (t, n))?;
    if T::OWNS_TAPE {
        let (ghost, dx, w, learns) = (y.ghost(), x.ghost(), w.values.clone(), w.learns);
        // Only the weight's gradient needs the input; of a frozen weight it is not kept.
        let x = learns.then_some(x);
        let b = b.filter(|b| b.learns).map(|b| b.values.ghost());
        tape.add_backward_op(move |grads| {
            timed!("linear backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward_input(grads.get_or_alloc_mut(&dx)?, &dy, view(&w)?, (t, n, k));
            if let Some(x) = &x {
                cpu::backward_weight(grads.get_or_alloc_mut(&w)?, &dy, view(x)?, (t, n, k));
            }
            if let Some(b) = &b {
                cpu::backward_bias(grads.get_or_alloc_mut(b)?, &dy);
            }
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
