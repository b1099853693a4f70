//! Some neighbouring columns of a matrix: how a fused projection is taken apart.

pub mod cpu;
pub mod reference;

use std::ops::Range;

use dfdx::prelude::*;

use super::Matrix;
use super::tape::{buffer, require, take, view};

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(x: Matrix<Cpu, T>, columns: Range<usize>) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("columns");
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let (t, d) = *x.shape();
    require(columns.start <= columns.end && columns.end <= d)?;
    let n = columns.len();
    let mut y = buffer(t * n);
    cpu::forward(&mut y, view(&x)?, d, columns.clone());
    let y = x.device().try_tensor_from_vec(y, (t, n))?;
    if T::OWNS_TAPE {
        let (x, ghost) = (x.ghost(), y.ghost());
        tape.add_backward_op(move |grads| {
            timed!("columns backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward(grads.get_or_alloc_mut(&x)?, &dy, d, columns);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn equals_the_composite_with_its_gradient() {
        let dev = Cpu::default();
        let x: Tensor<(usize, usize), f32, _> = dev.sample_normal_like(&(7, 12));
        let ours = on_cpu(x.leaky_trace(), 3..8).unwrap();
        let theirs = reference::columns(x.leaky_trace(), 3..8).unwrap();
        assert_eq!(ours.as_vec(), theirs.as_vec());
        let weights: Tensor<(usize, usize), f32, _> = dev.sample_normal_like(&(7, 5));
        let a = (ours * weights.clone()).sum::<(), _>().backward();
        let b = (theirs * weights).sum::<(), _>().backward();
        assert_eq!(a.get(&x).as_vec(), b.get(&x).as_vec());
    }
}
