//! The seam with dfdx: tensors in and out as slices, gradients in and out of the tape.

use std::ops::DerefMut;

use dfdx::prelude::*;

use super::{Matrix, Vector};

/// The elements of a matrix, row after row, borrowed.
///
/// # Errors
/// If they do not lie so in memory: call `try_contiguous` first. (Gradients of a permuted or
/// broadcast tensor would have another layout than its values.)
pub(crate) fn view<T>(x: &Matrix<Cpu, T>) -> Result<&[f32], CpuError> {
    let (rows, cols) = *x.shape();
    if rows * cols == 0 {
        return Ok(&[]);
    }
    let first: *const f32 = &x[[0, 0]];
    let corner = |i, j| std::ptr::from_ref(&x[[i, j]]) == first.wrapping_add(i * cols + j);
    require(corner(0, cols - 1) && corner(rows - 1, 0) && corner(rows - 1, cols - 1))?;
    // SAFETY: dfdx keeps a `Cpu` tensor in one `Vec<f32>` and has no way to borrow it whole. The
    // corners show that the matrix is row-major and that element `rows * cols - 1` is inside that
    // vector, which `x` keeps alive and unchanged for the lifetime of the slice.
    Ok(unsafe { std::slice::from_raw_parts(first, rows * cols) })
}

/// The elements of a vector, borrowed.
///
/// # Errors
/// If they do not lie together in memory.
pub(crate) fn view1<T>(x: &Vector<Cpu, T>) -> Result<&[f32], CpuError> {
    let len = x.shape().0;
    if len == 0 {
        return Ok(&[]);
    }
    let first: *const f32 = &x[[0]];
    require(std::ptr::from_ref(&x[[len - 1]]) == first.wrapping_add(len - 1))?;
    // SAFETY: as in `view`.
    Ok(unsafe { std::slice::from_raw_parts(first, len) })
}

/// Memory for an output of `len` elements, all zero.
pub(crate) fn buffer(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

/// Moves the gradient of an output out of the tape, which has no further use for it.
pub(crate) fn take(gradient: &mut impl DerefMut<Target = Vec<f32>>) -> Vec<f32> {
    std::mem::take(&mut **gradient)
}

/// An error unless `holds`: what the shapes of the inputs must fulfil.
pub(crate) fn require(holds: bool) -> Result<(), CpuError> {
    if holds { Ok(()) } else { Err(CpuError::WrongNumElements) }
}
