//! Log-probabilities and entropies from dfdx's own ops, by way of all the logits.

use dfdx::prelude::*;

use super::Choice;
use crate::ops::Matrix;
use crate::ops::linear::reference::linear;

/// `(logprob, entropy)` of each row: see [`Kernels::token_logprob`](crate::ops::Kernels::token_logprob).
pub fn token_logprob<D: Device<f32>, T: Tape<f32, D>>(
    x: Matrix<D, T>,
    head: &Matrix<D>,
    choice: &Choice,
) -> Result<Matrix<D, T>, D::Err> {
    let ((n, _), vocabulary) = (*x.shape(), head.shape().0);
    let device = x.device().clone();
    let mut mask = vec![0.0; vocabulary];
    choice.suppress.iter().for_each(|&token| mask[token] = -1e30);
    let mask = device.try_tensor_from_vec(mask, (vocabulary,))?.try_broadcast_like::<_, Axis<0>>(&(n, vocabulary))?;
    let logits = linear(x, head, None)?.try_mul(1.0 / choice.temperature)?.try_add(mask)?;
    let log_p = logits.try_log_softmax::<Axis<1>>()?;
    let p = log_p.with_empty_tape().try_exp()?;
    let entropy = p.try_mul(log_p.with_empty_tape())?.try_sum::<(usize,), Axis<1>>()?.try_negate()?;
    let targets = device.try_tensor_from_vec(choice.targets.clone(), (n,))?;
    let logprob = log_p.try_select(targets)?;
    // A suppressed target: -inf, and no gradient.
    let column = |kept: f32, lost: f32| {
        let pick = |t: &usize| if choice.suppress.contains(t) { lost } else { kept };
        device.try_tensor_from_vec(choice.targets.iter().map(pick).collect(), (n,))
    };
    let logprob = logprob.try_mul(column(1.0, 0.0)?)?.try_add(column(0.0, f32::NEG_INFINITY)?)?;
    (logprob.try_reshape_like(&(n, 1usize))?, entropy.try_reshape_like(&(n, 1usize))?).try_concat_along(Axis::<1>)
}
