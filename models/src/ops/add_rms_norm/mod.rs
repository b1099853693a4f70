//! A residual connection and the normalisation of what comes out: `z = x + y`, `n = z / sqrt(mean(z²) + eps) * w`.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::parallel::accumulate;
use super::tape::{buffer, require, take, view, view1};
use super::{Matrix, Param, SumAndNorm, Vector, rms_norm};

pub(crate) fn on_cpu<T: Tape<f32, Cpu> + Merge<R>, R>(
    x: Matrix<Cpu, T>,
    y: Matrix<Cpu, R>,
    w: Param<'_, Vector<Cpu>>,
    eps: f32,
) -> Result<SumAndNorm<Cpu, T>, CpuError> {
    timed!("add_rms_norm");
    let (x, left) = x.try_contiguous()?.split_tape();
    let (y, right) = y.split_tape();
    let mut tape = left.merge(right);
    let (t, d) = *x.shape();
    require(*y.shape() == (t, d) && w.values.shape().0 == d && d > 0)?;
    let (mut z, mut n) = (buffer(t * d), buffer(t * d));
    cpu::forward(&mut z, &mut n, [view(&x)?, view(&y)?], view1(w.values)?, eps);
    let z = x.device().try_tensor_from_vec(z, (t, d))?;
    let n = x.device().try_tensor_from_vec(n, (t, d))?;
    if T::OWNS_TAPE {
        let (x, y, ghost, sum) = (x.ghost(), y.ghost(), n.ghost(), z.clone());
        let (w, learns) = (w.values.clone(), w.learns);
        tape.add_backward_op(move |grads| {
            timed!("add_rms_norm backward");
            let dn = take(grads.get_or_alloc_mut(&ghost)?);
            let mut dz = take(grads.get_or_alloc_mut(&sum)?);
            let dw = rms_norm::cpu::backward(&mut dz, &dn, view(&sum)?, view1(&w)?, eps);
            if learns {
                accumulate(grads.get_or_alloc_mut(&w)?, &dw);
            }
            accumulate(grads.get_or_alloc_mut(&x)?, &dz);
            accumulate(grads.get_or_alloc_mut(&y)?, &dz);
            Ok(())
        });
    }
    Ok((z, n.put_tape(tape)))
}
