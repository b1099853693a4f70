//! Tensors on their way into safetensors files whose headers are written already: any tensor at any time, piece by piece.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use half::slice::HalfFloatSliceExt;
use half::vec::HalfFloatVecExt;
use half::{bf16, f16};

use super::layout::{Layout, Place};
use crate::config::Dtype;
use crate::error::{ModelError, Result};

/// Elements that are narrowed and written at once; bounds the memory of a thread that writes.
pub(super) const PIECE: usize = 1 << 19;

/// A file whose header is written and whose tensors may come.
#[derive(Debug)]
pub(super) struct TensorWriter {
    path: PathBuf,
    file: Mutex<File>,
    layout: Layout,
    dtype: Dtype,
}

impl TensorWriter {
    /// Creates the file, at its full length.
    pub(super) fn create(path: &Path, tensors: &[(String, Vec<usize>)], dtype: Dtype) -> Result<Self> {
        let bad = |source| ModelError::Safetensors { path: path.to_path_buf(), source };
        let layout = Layout::new(tensors, dtype).map_err(bad)?;
        let mut file = File::create(path).map_err(ModelError::io(path))?;
        file.set_len(layout.len).and_then(|()| file.write_all(&layout.head)).map_err(ModelError::io(path))?;
        Ok(Self { path: path.to_path_buf(), file: Mutex::new(file), layout, dtype })
    }

    /// Where a tensor of this file goes.
    pub(super) fn place(&self, name: &str) -> Option<&Place> {
        self.layout.places.get(name)
    }

    /// Writes elements `first..` of the tensor at `place`, narrowed to nearest, ties to even.
    pub(super) fn write(&self, place: &Place, first: usize, values: &[f32]) -> Result<()> {
        let mut bytes = Vec::new();
        let pieces = values.chunks(PIECE).enumerate();
        for (number, piece) in pieces {
            let at = place.offset + ((first + number * PIECE) * self.dtype.bytes()) as u64;
            narrow(piece, self.dtype, &mut bytes);
            // A thread that failed while it held the lock has failed the whole write.
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let written = file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&bytes));
            written.map_err(ModelError::io(&self.path))?;
        }
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(super) fn finish(self) -> Result<()> {
        let file = self.file.into_inner().unwrap_or_else(PoisonError::into_inner);
        file.sync_all().map_err(ModelError::io(&self.path))
    }
}

/// Puts little-endian bytes of `values` into `bytes`.
fn narrow(values: &[f32], dtype: Dtype, bytes: &mut Vec<u8>) {
    bytes.clear();
    let mut halves = |mut words: Vec<u16>| {
        words.iter_mut().for_each(|word| *word = word.to_le());
        bytes.extend_from_slice(bytemuck::cast_slice(&words));
    };
    match dtype {
        Dtype::F16 => {
            let mut narrow = vec![f16::ZERO; values.len()];
            narrow.convert_from_f32_slice(values);
            halves(narrow.reinterpret_into());
        }
        Dtype::Bf16 => {
            let mut narrow = vec![bf16::ZERO; values.len()];
            narrow.convert_from_f32_slice(values);
            halves(narrow.reinterpret_into());
        }
        Dtype::F32 => {
            let words: Vec<u32> = values.iter().map(|value| value.to_bits().to_le()).collect();
            bytes.extend_from_slice(bytemuck::cast_slice(&words));
        }
    }
}
