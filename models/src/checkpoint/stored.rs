//! A tensor as it is stored: lent from the memory map, or held once in the element type asked for.

use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};

use super::tensor_file::TensorFile;
use crate::config::Dtype;
use crate::ops::product::Elements;

/// The elements of a tensor, row-major. Clones share them.
#[derive(Clone, Debug)]
pub struct Stored(Place);

#[derive(Clone, Debug)]
enum Place {
    /// Bytes of a file, of this type.
    Mapped(Arc<TensorFile>, Range<usize>, Dtype),
    F32(Arc<Vec<f32>>),
    Bf16(Arc<Vec<bf16>>),
    F16(Arc<Vec<f16>>),
}

impl Stored {
    /// Bytes `range` of a file, if they can be read in place: on a little-endian machine, aligned for their type.
    pub(super) fn mapped(file: &Arc<TensorFile>, range: Range<usize>, dtype: Dtype) -> Option<Self> {
        let stored = Self(Place::Mapped(Arc::clone(file), range, dtype));
        let Place::Mapped(file, range, _) = &stored.0 else { return None };
        let here = cfg!(target_endian = "little") && view(file, range, dtype).is_some();
        here.then_some(stored)
    }

    /// Values held in a type; narrowing rounds to nearest, ties to even.
    pub fn held(values: Vec<f32>, dtype: Dtype) -> Self {
        Self(match dtype {
            Dtype::F32 => Place::F32(Arc::new(values)),
            Dtype::Bf16 => Place::Bf16(Arc::new(values.into_iter().map(bf16::from_f32).collect())),
            Dtype::F16 => Place::F16(Arc::new(values.into_iter().map(f16::from_f32).collect())),
        })
    }

    /// The elements.
    pub fn elements(&self) -> Elements<'_> {
        match &self.0 {
            Place::Mapped(file, range, dtype) => view(file, range, *dtype).unwrap_or(Elements::F32(&[])),
            Place::F32(values) => Elements::F32(values),
            Place::Bf16(values) => Elements::Bf16(values),
            Place::F16(values) => Elements::F16(values),
        }
    }
}

/// Bytes of a file as numbers; `None` if they do not lie as those have to.
fn view<'a>(file: &'a TensorFile, range: &Range<usize>, dtype: Dtype) -> Option<Elements<'a>> {
    use half::slice::HalfBitsSliceExt;
    let bytes = file.bytes(range)?;
    match dtype {
        Dtype::F32 => bytemuck::try_cast_slice(bytes).ok().map(Elements::F32),
        Dtype::Bf16 => {
            let bits: &[u16] = bytemuck::try_cast_slice(bytes).ok()?;
            Some(Elements::Bf16(bits.reinterpret_cast()))
        }
        Dtype::F16 => {
            let bits: &[u16] = bytemuck::try_cast_slice(bytes).ok()?;
            Some(Elements::F16(bits.reinterpret_cast()))
        }
    }
}
