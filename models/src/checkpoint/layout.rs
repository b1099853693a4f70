//! A safetensors file from names and shapes alone: its header, and where each tensor's bytes will stand.

use std::collections::{BTreeMap, HashMap};

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype as Stored, Metadata, TensorInfo};

use crate::config::Dtype;

/// A tensor's place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the first byte, counted from the start of the file.
    pub(super) offset: u64,
    /// Row-major.
    pub(super) shape: Vec<usize>,
}

impl Place {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A file that is still to be written.
#[derive(Debug)]
pub(super) struct Layout {
    /// The first bytes of the file: length of the header, and the header.
    pub(super) head: Vec<u8>,
    /// Where each tensor goes.
    pub(super) places: BTreeMap<String, Place>,
    /// Bytes of the whole file.
    pub(super) len: u64,
}

/// The format's name of an element type.
pub(super) fn stored(dtype: Dtype) -> Stored {
    match dtype {
        Dtype::F32 => Stored::F32,
        Dtype::F16 => Stored::F16,
        Dtype::Bf16 => Stored::BF16,
    }
}

impl Layout {
    /// Lays tensors of one element type out as Hugging Face's writers do: sorted by name, header padded to eight bytes.
    pub(super) fn new(tensors: &[(String, Vec<usize>)], dtype: Dtype) -> Result<Self, SafeTensorError> {
        let sorted: BTreeMap<&String, &Vec<usize>> = tensors.iter().map(|(name, shape)| (name, shape)).collect();
        let mut end = 0;
        let mut infos = Vec::with_capacity(sorted.len());
        for (name, shape) in &sorted {
            let start = end;
            end += shape.iter().product::<usize>() * dtype.bytes();
            let info = TensorInfo { dtype: stored(dtype), shape: shape.to_vec(), data_offsets: (start, end) };
            infos.push(((*name).clone(), info));
        }
        let starts: Vec<usize> = infos.iter().map(|(_, info)| info.data_offsets.0).collect();
        let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let mut json = serde_json::to_vec(&Metadata::new(Some(about), infos)?)?;
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut head = (json.len() as u64).to_le_bytes().to_vec();
        head.extend(json);
        let first = head.len();
        let place = |((name, shape), start): ((&&String, &&Vec<usize>), usize)| {
            ((**name).clone(), Place { offset: (first + start) as u64, shape: shape.to_vec() })
        };
        let places = sorted.iter().zip(starts).map(place).collect();
        Ok(Self { head, places, len: (first + end) as u64 })
    }
}
