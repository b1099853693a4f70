//! Log-probabilities of chosen tokens, and the entropy of the distributions they came from,
//! without the matrix of rows by vocabulary: logits are made chunk by chunk, and made again in the
//! backward pass.

pub mod cpu;
pub mod reference;

use std::sync::Arc;

use dfdx::prelude::*;

use super::product::Elements;
use super::tape::{require, take, view};
use super::{Matrix, Param};

/// Which token of each row to score, and how the distribution is shaped.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The token of each row.
    pub targets: Vec<usize>,
    /// What logits are divided by; greater than 0.
    pub temperature: f32,
    /// Tokens whose probability is 0; not all of them.
    pub suppress: Vec<usize>,
}

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(
    x: Matrix<Cpu, T>,
    head: Param<'_, Matrix<Cpu>>,
    choice: &Arc<Choice>,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("token_logprob");
    let Param { values: head, learns } = head;
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let ((n, d), (vocabulary, d2)) = (*x.shape(), *head.shape());
    require(d == d2 && choice.targets.len() == n && choice.temperature > 0.0)?;
    require(choice.targets.iter().chain(&choice.suppress).all(|&token| token < vocabulary))?;
    let mut out = vec![0.0; 2 * n];
    let mut lse = vec![0.0; n];
    cpu::forward(&mut out, &mut lse, view(&x)?, view(head)?, choice, d);
    let out = x.device().try_tensor_from_vec(out, (n, 2))?;
    if T::OWNS_TAPE {
        let (handle, head, choice) = (out.clone(), head.clone(), choice.clone());
        tape.add_backward_op(move |grads| {
            timed!("token_logprob backward");
            let dout = take(grads.get_or_alloc_mut(&handle)?);
            let mut dhead = if learns { Some(take(grads.get_or_alloc_mut(&head)?)) } else { None };
            let dx = grads.get_or_alloc_mut(&x)?;
            let saved = cpu::Saved { x: view(&x)?, head: view(&head)?, out: view(&handle)?, lse: &lse };
            cpu::backward(dx, dhead.as_deref_mut(), &dout, saved, &choice, d);
            if let Some(dhead) = dhead {
                **grads.get_or_alloc_mut(&head)? = dhead;
            }
            Ok(())
        });
    }
    Ok(out.put_tape(tape))
}

/// The same without a tape, with a head as it is stored.
pub(crate) fn stored_on_cpu(
    x: &Matrix<Cpu>,
    head: Elements<'_>,
    vocabulary: usize,
    choice: &Choice,
) -> Result<Matrix<Cpu>, CpuError> {
    timed!("token_logprob");
    let (n, d) = *x.shape();
    require(head.len() == vocabulary * d && choice.targets.len() == n && choice.temperature > 0.0)?;
    require(choice.targets.iter().chain(&choice.suppress).all(|&token| token < vocabulary))?;
    let mut out = vec![0.0; 2 * n];
    cpu::forward_stored(&mut out, &mut vec![0.0; n], view(x)?, head, choice, d);
    x.device().try_tensor_from_vec(out, (n, 2))
}
