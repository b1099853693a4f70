//! The gated feed-forward layer from the ops it is made of.

use dfdx::prelude::*;

use super::Map;
use crate::ops::{Kernels, Matrix};

/// `down(silu(gate(x)) * up(x))`: see [`Kernels::gated_mlp`].
pub fn gated_mlp<D: Kernels, T: Tape<f32, D>>(x: Matrix<D, T>, maps: [Map<'_, D>; 3]) -> Result<Matrix<D, T>, D::Err> {
    let [gate, up, down] = maps;
    let (x, tape) = x.split_tape();
    let (up, tape) = D::linear(x.clone().put_tape(tape), up.weight, up.bias)?.split_tape();
    let gate = D::linear(x.put_tape(tape), gate.weight, gate.bias)?;
    D::linear(D::swiglu(gate, up)?, down.weight, down.bias)
}
