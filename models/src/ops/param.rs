//! A parameter as an op takes it: its values, and whether it gets a gradient.

use super::{Matrix, Vector};

/// A weight that an op reads; frozen, it gets no gradient, and no memory for one.
///
/// A reference to a tensor is a parameter that learns:
///
/// ```
/// use dfdx::prelude::*;
/// use imagent_models::ops::{Kernels, Param};
/// let device = Cpu::default();
/// let (x, w) = (device.tensor_from_vec(vec![1.0, 2.0], (1, 2)), device.tensor_from_vec(vec![3.0, 4.0], (1, 2)));
/// let learns = Cpu::linear(x.leaky_trace(), &w, None)?.sum().backward();
/// assert_eq!(learns.get(&w).as_vec(), [1.0, 2.0]);
/// let frozen = Cpu::linear(x.leaky_trace(), Param::frozen(&w), None)?.sum().backward();
/// assert_eq!(frozen.get(&x).as_vec(), [3.0, 4.0]);
/// # Ok::<(), dfdx::tensor::CpuError>(())
/// ```
///
/// A device without a kernel computes the gradient of a frozen weight too, and nobody reads it.
#[derive(Debug)]
pub struct Param<'a, P> {
    /// Its values.
    pub values: &'a P,
    /// Whether it gets a gradient.
    pub learns: bool,
}

impl<'a, P> Param<'a, P> {
    /// A weight that gets no gradient.
    pub fn frozen(values: &'a P) -> Self {
        Self { values, learns: false }
    }
}

impl<P> Clone for Param<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Param<'_, P> {}

impl<'a, D: dfdx::prelude::Device<f32>> From<&'a Matrix<D>> for Param<'a, Matrix<D>> {
    fn from(values: &'a Matrix<D>) -> Self {
        Self { values, learns: true }
    }
}

impl<'a, D: dfdx::prelude::Device<f32>> From<&'a Vector<D>> for Param<'a, Vector<D>> {
    fn from(values: &'a Vector<D>) -> Self {
        Self { values, learns: true }
    }
}
