//! Root-mean-square normalisation (Zhang and Sennrich, 2019): `y = x / sqrt(mean(x²) + eps) * w`.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::tape::{buffer, require, take, view, view1};
use super::{Matrix, Param, Vector};

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(
    x: Matrix<Cpu, T>,
    w: Param<'_, Vector<Cpu>>,
    eps: f32,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("rms_norm");
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let (t, d) = *x.shape();
    require(w.values.shape().0 == d && d > 0)?;
    let mut y = buffer(t * d);
    cpu::forward(&mut y, view(&x)?, view1(w.values)?, eps);
    let y = x.device().try_tensor_from_vec(y, (t, d))?;
    if T::OWNS_TAPE {
        let (ghost, w, learns) = (y.ghost(), w.values.clone(), w.learns);
        tape.add_backward_op(move |grads| {
            timed!("rms_norm backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            let dw = cpu::backward(grads.get_or_alloc_mut(&x)?, &dy, view(&x)?, view1(&w)?, eps);
            if learns {
                for (sum, g) in grads.get_or_alloc_mut(&w)?.iter_mut().zip(dw) {
                    *sum += g;
                }
            }
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}
