//! The parameters: every matrix and vector of the model under its hub name, in the order of the checkpoint.

use std::sync::Arc;

use dfdx::prelude::*;

use crate::checkpoint::{Checkpoint, Stored};
use crate::config::{Config, Dtype};
use crate::error::{ModelError, Result};
use crate::ops::{Kernels, Lent, Param};

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

/// The values of a matrix.
#[derive(Clone, Debug)]
pub(crate) enum MatrixValues<D: Kernels> {
    /// On the device, in f32: can be trained.
    Tensor(Matrix<D>),
    /// As in the checkpoint, with their shape: for inference.
    Stored(Stored, (usize, usize)),
}

impl<D: Kernels> MatrixValues<D> {
    /// The elements on the host, row after row.
    pub(crate) fn lend(&self) -> Lent<'_> {
        match self {
            Self::Tensor(matrix) => D::lend(matrix),
            Self::Stored(stored, _) => Lent::Here(stored.elements()),
        }
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> (usize, usize) {
        match self {
            Self::Tensor(matrix) => *matrix.shape(),
            Self::Stored(_, shape) => *shape,
        }
    }
}

/// All parameters of a model: matrices to train are tensors of the device, those for inference are left as the
/// checkpoint stores them. Vectors are tensors in both cases.
#[derive(Clone, Debug)]
pub struct Weights<D: Kernels> {
    entries: Arc<Vec<Entry>>,
    matrices: Vec<Held<MatrixValues<D>>>,
    vectors: Vec<Held<Vector<D>>>,
}

/// A parameter's values, and whether it is trained.
#[derive(Clone, Debug)]
struct Held<P> {
    values: P,
    trained: bool,
}

impl<D: Kernels> Weights<D> {
    /// Fills every parameter of `config` with what `values(name, shape)` gives; all are trained.
    pub fn build(
        config: &Config,
        device: &D,
        mut values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let mut weights = Self::empty();
        for (name, shape) in crate::checkpoint::names(config) {
            let data = values(&name, &shape)?;
            if shape.len() == 1 {
                weights.push_vector(name, device, data, true)?;
            } else {
                let matrix = device.try_tensor_from_vec(data, flat(&shape)).map_err(device_error("load"))?;
                weights.push_matrix(name, shape, MatrixValues::Tensor(matrix), true);
            }
        }
        Ok(weights)
    }

    /// Takes every parameter from a checkpoint for inference: matrices stay where they are, in the checkpoint's own
    /// type, or are held once in `dtype`. None is trained.
    pub fn for_inference(config: &Config, device: &D, checkpoint: &Checkpoint, dtype: Option<Dtype>) -> Result<Self> {
        checkpoint.check(config)?;
        let mut weights = Self::empty();
        for (name, shape) in crate::checkpoint::names(config) {
            if shape.len() == 1 {
                let values = checkpoint.tensor_shaped(&name, &shape)?;
                weights.push_vector(name, device, values, false)?;
            } else {
                let stored = checkpoint.stored(&name, dtype)?;
                let values = MatrixValues::Stored(stored, flat(&shape));
                weights.push_matrix(name, shape, values, false);
            }
        }
        Ok(weights)
    }

    fn empty() -> Self {
        Self { entries: Arc::default(), matrices: Vec::new(), vectors: Vec::new() }
    }

    fn push_vector(&mut self, name: String, device: &D, values: Vec<f32>, trained: bool) -> Result<()> {
        let shape = vec![values.len()];
        let vector = device.try_tensor_from_vec(values, (shape[0],)).map_err(device_error("load"))?;
        let place = Place::Vector(self.vectors.len());
        self.vectors.push(Held { values: vector, trained });
        Arc::make_mut(&mut self.entries).push(Entry { name, shape, trained, place });
        Ok(())
    }

    fn push_matrix(&mut self, name: String, shape: Vec<usize>, values: MatrixValues<D>, trained: bool) {
        let place = Place::Matrix(self.matrices.len());
        self.matrices.push(Held { values, trained });
        Arc::make_mut(&mut self.entries).push(Entry { name, shape, trained, place });
    }

    /// Whether every matrix is a tensor that gradients can reach.
    pub fn can_train(&self) -> bool {
        self.matrices.iter().all(|matrix| matches!(matrix.values, MatrixValues::Tensor(_)))
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
            Place::Matrix(i) => match &self.matrices[i].values {
                MatrixValues::Tensor(matrix) => matrix.copy_into(&mut out),
                MatrixValues::Stored(stored, _) => stored.elements().widen_into(0, &mut out),
            },
            Place::Vector(i) => self.vectors[i].values.copy_into(&mut out),
        }
        out
    }

    /// Overwrites parameter `index`.
    pub fn set(&mut self, index: usize, values: &[f32]) {
        match self.entries[index].place {
            Place::Matrix(i) => match &mut self.matrices[i].values {
                MatrixValues::Tensor(matrix) => matrix.copy_from(values),
                MatrixValues::Stored(stored, _) => *stored = Stored::held(values.to_vec(), Dtype::F32),
            },
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
                let MatrixValues::Tensor(matrix) = &self.matrices[i].values else {
                    return Err(ModelError::InferenceOnly);
                };
                gradients.try_alloc_for(matrix).map_err(device_error("gradient"))?;
                gradients.get(matrix).as_vec()
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

    pub(crate) fn matrix(&self, id: MatrixId) -> Param<'_, MatrixValues<D>> {
        let Held { values, trained } = &self.matrices[id.0];
        Param { values, learns: *trained }
    }

    pub(crate) fn vector(&self, id: VectorId) -> Param<'_, Vector<D>> {
        let Held { values, trained } = &self.vectors[id.0];
        Param { values, learns: *trained }
    }
}

/// Rows and columns of a parameter that is no vector.
fn flat(shape: &[usize]) -> (usize, usize) {
    (shape[0], shape[1..].iter().product())
}

/// Turns a device's error into ours.
pub(crate) fn device_error<E: std::fmt::Display>(op: &'static str) -> impl Fn(E) -> ModelError {
    move |error| ModelError::Device { op, message: error.to_string() }
}
