//! The parameters: every matrix and vector of the model under its hub name, in the order of the checkpoint.

use std::sync::Arc;

use dfdx::prelude::*;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::ops::{Kernels, Param};

/// A matrix `[out, in]` on device `D`.
pub type Matrix<D> = Tensor<(usize, usize), f32, D>;
/// A vector on device `D`.
pub type Vector<D> = Tensor<(usize,), f32, D>;

/// Where a matrix lies in [`Weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixId(usize);
/// Where a vector lies in [`Weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorId(usize);

#[derive(Clone, Copy, Debug)]
enum Place {
    Matrix(usize),
    Vector(usize),
}

/// One parameter's name and shape as in the checkpoint.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Hub name.
    pub name: String,
    /// Shape in the checkpoint; a convolution's is flattened to `[out, rest]` here.
    pub shape: Vec<usize>,
    /// Whether it is trained; otherwise it gets no gradient.
    pub trained: bool,
    place: Place,
}

impl Entry {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is a matrix, which weight decay applies to, and not a norm or a bias.
    pub fn is_matrix(&self) -> bool {
        matches!(self.place, Place::Matrix(_))
    }
}

/// All parameters of a model.
#[derive(Clone, Debug)]
pub struct Weights<D: Kernels> {
    entries: Arc<Vec<Entry>>,
    matrices: Vec<Held<Matrix<D>>>,
    vectors: Vec<Held<Vector<D>>>,
}

/// A tensor, and whether it is trained.
#[derive(Clone, Debug)]
struct Held<P> {
    values: P,
    trained: bool,
}

impl<P> Held<P> {
    fn new(values: P) -> Self {
        Self { values, trained: true }
    }
}

impl<D: Kernels> Weights<D> {
    /// Fills every parameter of `config` with what `values(name, shape)` gives.
    pub fn build(
        config: &Config,
        device: &D,
        mut values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let (mut entries, mut matrices, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
        for (name, shape) in crate::checkpoint::names(config) {
            let data = values(&name, &shape)?;
            let place = if shape.len() == 1 {
                let vector = device.try_tensor_from_vec(data, (shape[0],)).map_err(device_error("load"))?;
                vectors.push(Held::new(vector));
                Place::Vector(vectors.len() - 1)
            } else {
                let flat = (shape[0], shape[1..].iter().product());
                let matrix = device.try_tensor_from_vec(data, flat).map_err(device_error("load"))?;
                matrices.push(Held::new(matrix));
                Place::Matrix(matrices.len() - 1)
            };
            entries.push(Entry { name, shape, trained: true, place });
        }
        Ok(Self { entries: Arc::new(entries), matrices, vectors })
    }

    /// Reads every parameter from a checkpoint.
    pub fn load(config: &Config, device: &D, checkpoint: &Checkpoint) -> Result<Self> {
        checkpoint.check(config)?;
        Self::build(config, device, |name, shape| checkpoint.tensor_shaped(name, shape))
    }

    /// Names and shapes, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A copy of parameter `index` (in the order of [`Self::entries`]) on the host.
    pub fn values(&self, index: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.entries[index].len()];
        match self.entries[index].place {
            Place::Matrix(i) => self.matrices[i].values.copy_into(&mut out),
            Place::Vector(i) => self.vectors[i].values.copy_into(&mut out),
        }
        out
    }

    /// Overwrites parameter `index`.
    pub fn set(&mut self, index: usize, values: &[f32]) {
        match self.entries[index].place {
            Place::Matrix(i) => self.matrices[i].values.copy_from(values),
            Place::Vector(i) => self.vectors[i].values.copy_from(values),
        }
    }

    /// Freezes parameter `index`, or thaws it.
    pub(crate) fn set_trained(&mut self, index: usize, trained: bool) {
        let entry = &mut Arc::make_mut(&mut self.entries)[index];
        entry.trained = trained;
        match entry.place {
            Place::Matrix(i) => self.matrices[i].trained = trained,
            Place::Vector(i) => self.vectors[i].trained = trained,
        }
    }

    /// The gradient of parameter `index` on the host.
    pub fn gradient(&self, index: usize, gradients: &mut Gradients<f32, D>) -> Result<Vec<f32>> {
        let grad = match self.entries[index].place {
            Place::Matrix(i) => {
                gradients.try_alloc_for(&self.matrices[i].values).map_err(device_error("gradient"))?;
                gradients.get(&self.matrices[i].values).as_vec()
            }
            Place::Vector(i) => {
                gradients.try_alloc_for(&self.vectors[i].values).map_err(device_error("gradient"))?;
                gradients.get(&self.vectors[i].values).as_vec()
            }
        };
        Ok(grad)
    }

    /// Position of the parameter called `name` in [`Self::entries`].
    pub fn index(&self, name: &str) -> Result<usize> {
        let found = self.entries.iter().position(|entry| entry.name == name);
        found.ok_or_else(|| ModelError::MissingTensor { file: "model".into(), tensor: name.to_owned() })
    }

    pub(crate) fn matrix_id(&self, name: &str) -> Result<MatrixId> {
        match self.entries[self.index(name)?].place {
            Place::Matrix(i) => Ok(MatrixId(i)),
            Place::Vector(_) => Err(ModelError::MissingTensor { file: "model".into(), tensor: name.to_owned() }),
        }
    }

    pub(crate) fn vector_id(&self, name: &str) -> Result<VectorId> {
        match self.entries[self.index(name)?].place {
            Place::Vector(i) => Ok(VectorId(i)),
            Place::Matrix(_) => Err(ModelError::MissingTensor { file: "model".into(), tensor: name.to_owned() }),
        }
    }

    pub(crate) fn matrix(&self, id: MatrixId) -> Param<'_, Matrix<D>> {
        let Held { values, trained } = &self.matrices[id.0];
        Param { values, learns: *trained }
    }

    pub(crate) fn vector(&self, id: VectorId) -> Param<'_, Vector<D>> {
        let Held { values, trained } = &self.vectors[id.0];
        Param { values, learns: *trained }
    }
}

/// Turns a device's error into ours.
pub(crate) fn device_error<E: std::fmt::Display>(op: &'static str) -> impl Fn(E) -> ModelError {
    move |error| ModelError::Device { op, message: error.to_string() }
}
