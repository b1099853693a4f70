//! One memory-mapped safetensors file, whatever its tensors are for.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::tensor::{Dtype as Type, Metadata, SafeTensors};

use super::diagnose::{Fault, diagnose};
use super::stored::Stored;
use crate::config::Dtype;
use crate::error::{ModelError, Result};

/// Bytes of the smallest tensor whose pages are worth handing back.
#[cfg(unix)]
const RELEASED: usize = 1 << 20;

/// A memory-mapped safetensors file. Nothing is copied until a tensor is asked for.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    header: usize,
    metadata: Metadata,
}

impl TensorFile {
    /// Maps a file and reads its header. The file must not be changed in place while it is open (this crate's writers
    /// rename new files into place instead).
    ///
    /// # Errors
    /// `Io` if it cannot be opened; `Damaged` if it is no such file, is cut short, or its header cannot be true.
    pub fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(ModelError::io(path))?;
        // SAFETY: the map is read-only and private to this struct; as documented above, the file is not truncated or
        // changed in place while it is mapped.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(path))?;
        let bad = |source| match diagnose(&map) {
            Some(Fault { tensor, problem }) => ModelError::Damaged { file: path.to_path_buf(), tensor, problem },
            None => ModelError::Safetensors { path: path.to_path_buf(), source },
        };
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(bad)?;
        Ok(Self { path: path.to_path_buf(), map, header: header + 8, metadata })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names in the order of the data.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Shape of a tensor, if it is here.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// Element type of a tensor as the file calls it, e.g. `BF16`, if it is here.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.metadata.info(name).map(|info| info.dtype.to_string())
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.map.len() as u64
    }

    /// Hands the pages of a large tensor that was copied back to the system, so that the file and the copies of its tensors
    /// are not in memory together.
    #[cfg(unix)]
    fn release(&self, start: usize, len: usize) {
        if len >= RELEASED {
            // SAFETY: the map is of a file, read-only and never written to: pages that are given up are read from the file
            // again when they are touched, with the same content.
            let given_up = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
            // It is advice: where it is not taken, more memory is used, and that is all.
            let _ = given_up;
        }
    }

    #[cfg(not(unix))]
    fn release(&self, _: usize, _: usize) {}

    /// A tensor as it is stored; in `dtype` if one is given, else in its own type, which is then not copied.
    ///
    /// # Errors
    /// As [`Self::tensor_f32`].
    pub fn stored(self: &Arc<Self>, name: &str, dtype: Option<Dtype>) -> Result<Stored> {
        let own = match self.metadata.info(name).map(|info| info.dtype) {
            Some(Type::F32) => Some(Dtype::F32),
            Some(Type::F16) => Some(Dtype::F16),
            Some(Type::BF16) => Some(Dtype::Bf16),
            _ => None,
        };
        if let (Some(own), Some(info)) = (own, self.metadata.info(name))
            && dtype.is_none_or(|wanted| wanted == own)
            && let Some(stored) = Stored::mapped(self, info.data_offsets.0..info.data_offsets.1, own)
        {
            return Ok(stored);
        }
        let (_, values) = self.tensor_f32(name)?;
        Ok(Stored::held(values, dtype.or(own).unwrap_or(Dtype::F32)))
    }

    /// Bytes of the data, counted from its beginning.
    pub(super) fn bytes(&self, range: &Range<usize>) -> Option<&[u8]> {
        self.map.get(self.header + range.start..self.header + range.end)
    }

    /// Shape and values (row-major) of an f32, f16 or bf16 tensor; widening to f32 is exact.
    ///
    /// # Errors
    /// `MissingTensor` if it is not here; `TensorType` if it has another element type.
    pub fn tensor_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let missing = || ModelError::MissingTensor { file: self.path.clone(), tensor: name.to_owned() };
        let info = self.metadata.info(name).ok_or_else(missing)?;
        let (start, end) = info.data_offsets;
        let bytes = &self.map[self.header + start..self.header + end];
        let values = match info.dtype {
            Type::F32 => widen(bytes, f32::from_le_bytes),
            Type::F16 => widen(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Type::BF16 => widen(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            other => {
                return Err(ModelError::TensorType {
                    file: self.path.clone(),
                    tensor: name.to_owned(),
                    expected: "F32, F16 or BF16".into(),
                    got: format!("{other:?}"),
                });
            }
        };
        self.release(self.header + start, end - start);
        Ok((info.shape.clone(), values))
    }
}

fn widen<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
}
