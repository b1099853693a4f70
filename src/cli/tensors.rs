//! Named tensors in safetensors files: what `forward` and `loss` read and write.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use imagent_analysis::record::write_atomic;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::InputError;

/// An input file, read whole.
pub(crate) struct TensorInput {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// A tensor of an input file.
pub(crate) struct Tensor<T> {
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Its values, row after row.
    pub(crate) values: Vec<T>,
}

impl TensorInput {
    /// Reads a file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let wrong = |what: String| InputError(format!("{}: {what}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        SafeTensors::deserialize(&bytes).map_err(|error| wrong(format!("not a complete safetensors file: {error}")))?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// An error about this file.
    pub(crate) fn refuse(&self, what: &str) -> anyhow::Error {
        InputError(format!("{}: {what}", self.path.display())).into()
    }

    /// A tensor of numbers of any type as f32; `None` if it is not there.
    pub(crate) fn floats(&self, name: &str) -> Result<Option<Tensor<f32>>> {
        Ok(self.numbers(name)?.map(|Tensor { shape, values }| Tensor {
            shape,
            values: values.into_iter().map(|value| value as f32).collect(),
        }))
    }

    /// A tensor of whole numbers; `None` if it is not there.
    pub(crate) fn integers(&self, name: &str) -> Result<Option<Tensor<i64>>> {
        let Some(Tensor { shape, values }) = self.numbers(name)? else { return Ok(None) };
        if let Some(value) = values.iter().find(|value| value.fract() != 0.0 || value.abs() > 9e15) {
            return Err(self.refuse(&format!("tensor `{name}`: expected whole numbers, got {value}")));
        }
        Ok(Some(Tensor { shape, values: values.into_iter().map(|value| value as i64).collect() }))
    }

    fn numbers(&self, name: &str) -> Result<Option<Tensor<f64>>> {
        let file = SafeTensors::deserialize(&self.bytes).context("safetensors")?;
        let Ok(view) = file.tensor(name) else { return Ok(None) };
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F64 => read(data, f64::from_le_bytes),
            Dtype::F32 => read(data, |bytes| f64::from(f32::from_le_bytes(bytes))),
            Dtype::I64 => read(data, |bytes| i64::from_le_bytes(bytes) as f64),
            Dtype::I32 => read(data, |bytes| f64::from(i32::from_le_bytes(bytes))),
            Dtype::U8 | Dtype::BOOL => read(data, |[byte]: [u8; 1]| f64::from(byte)),
            other => {
                let expected = "expected F32, F64, I32, I64, U8 or BOOL";
                return Err(self.refuse(&format!("tensor `{name}`: {expected}, got {other:?}")));
            }
        };
        Ok(Some(Tensor { shape: view.shape().to_vec(), values }))
    }
}

fn read<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| number(*chunk)).collect()
}

/// Tensors of an output file.
#[derive(Default)]
pub(crate) struct TensorOutput {
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

impl TensorOutput {
    /// Adds a tensor of f32.
    pub(crate) fn floats(&mut self, name: impl Into<String>, shape: &[usize], values: &[f32]) {
        self.push(name, Dtype::F32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    /// Adds a tensor of i64.
    pub(crate) fn integers(&mut self, name: impl Into<String>, shape: &[usize], values: &[i64]) {
        self.push(name, Dtype::I64, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    /// Adds a tensor of i32.
    pub(crate) fn small_integers(&mut self, name: impl Into<String>, shape: &[usize], values: &[i32]) {
        self.push(name, Dtype::I32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    /// Adds a tensor of bytes.
    pub(crate) fn bytes(&mut self, name: impl Into<String>, shape: &[usize], values: &[u8]) {
        self.push(name, Dtype::U8, shape, values.to_vec());
    }

    fn push(&mut self, name: impl Into<String>, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.push((name.into(), dtype, shape.to_vec(), bytes));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Writes the file.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let views = self.tensors.iter().map(|(name, dtype, shape, bytes)| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().context("safetensors")?;
        let file = safetensors::serialize(views, None).context("safetensors")?;
        Ok(write_atomic(path, &file)?)
    }
}
