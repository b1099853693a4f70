//! The gated feed-forward layer `down(silu(gate(x)) * up(x))` as one op: of what lies between, only the outputs of `gate` and
//! `up` are kept for the backward pass, and gradients of the wide middle never leave the cache.

pub mod cpu;
pub mod reference;

use dfdx::prelude::*;

use super::tape::{require, take, view, view1};
use super::{Kernels, Matrix, Param, Vector};

/// A linear map of the layer, `w[outputs, inputs]` with its bias.
#[derive(Debug)]
pub struct Map<'a, D: Kernels> {
    /// The weight.
    pub weight: Param<'a, Matrix<D>>,
    /// The bias.
    pub bias: Option<Param<'a, Vector<D>>>,
}

impl<D: Kernels> Clone for Map<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Kernels> Copy for Map<'_, D> {}

/// A map's tensors, held for the backward pass.
struct Held {
    weight: Matrix<Cpu>,
    bias: Option<Vector<Cpu>>,
    /// Whether weight and bias get a gradient.
    learns: (bool, bool),
}

impl Held {
    fn of(map: &Map<'_, Cpu>) -> Self {
        Self {
            weight: map.weight.values.clone(),
            bias: map.bias.map(|bias| bias.values.clone()),
            learns: (map.weight.learns, map.bias.is_some_and(|bias| bias.learns)),
        }
    }

    fn slices(&self) -> Result<cpu::Map<'_>, CpuError> {
        Ok(cpu::Map { weight: view(&self.weight)?, bias: self.bias.as_ref().map(view1).transpose()? })
    }

    /// Moves the gradients out of the tape, to be put back by [`Self::put`].
    fn take(&self, grads: &mut Gradients<f32, Cpu>) -> Result<cpu::MapGradient, CpuError> {
        let weight = self.learns.0.then(|| grads.get_or_alloc_mut(&self.weight).map(take)).transpose()?;
        let bias = self.bias.as_ref().filter(|_| self.learns.1);
        let bias = bias.map(|bias| grads.get_or_alloc_mut(bias).map(take)).transpose()?;
        Ok(cpu::MapGradient { weight, bias })
    }

    fn put(&self, grads: &mut Gradients<f32, Cpu>, gradient: cpu::MapGradient) -> Result<(), CpuError> {
        if let Some(weight) = gradient.weight {
            **grads.get_or_alloc_mut(&self.weight)? = weight;
        }
        if let (Some(bias), Some(gradient)) = (&self.bias, gradient.bias) {
            **grads.get_or_alloc_mut(bias)? = gradient;
        }
        Ok(())
    }
}

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(
    x: Matrix<Cpu, T>,
    maps: [Map<'_, Cpu>; 3],
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("gated_mlp");
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let held = maps.map(|map| Held::of(&map));
    let ((t, k), (m, _)) = (*x.shape(), *held[0].weight.shape());
    let (n, _) = *held[2].weight.shape();
    for (held, shape) in held.iter().zip([(m, k), (m, k), (n, m)]) {
        require(*held.weight.shape() == shape && held.bias.as_ref().is_none_or(|bias| bias.shape().0 == shape.0))?;
    }
    let sizes = cpu::Sizes { rows: t, inputs: k, inner: m, outputs: n };
    let slices = [held[0].slices()?, held[1].slices()?, held[2].slices()?];
    let (y, kept) = cpu::forward(view(&x)?, slices, sizes, T::OWNS_TAPE);
    let y = x.device().try_tensor_from_vec(y, (t, n))?;
    if T::OWNS_TAPE {
        let ghost = y.ghost();
        tape.add_backward_op(move |grads| {
            timed!("gated_mlp backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            let mut gradients = [held[0].take(grads)?, held[1].take(grads)?, held[2].take(grads)?];
            let slices = [held[0].slices()?, held[1].slices()?, held[2].slices()?];
            cpu::backward(grads.get_or_alloc_mut(&x)?, &mut gradients, &dy, view(&x)?, &kept, slices, sizes);
            held.iter().zip(gradients).try_for_each(|(held, gradient)| held.put(grads, gradient))
        });
    }
    Ok(y.put_tape(tape))
}
