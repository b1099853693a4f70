//! Products of f32 rows with weights as they are stored: f32, bf16 or f16, f32 sums, for inference.
//!
//! `y[i, j] = b[j] + Σ_k x[i, k] w[j, k]`, both operands row after row, nothing packed and nothing transposed: one
//! row against a weight in 16 bits reads each byte of the weight once and goes at the speed of memory.
//!
//! What holds, bit for bit (tested):
//! * an element depends on its row of `x` and its row of `w` alone: `k` is cut every `BLOCK` terms, a block is summed in
//!   16 lanes that are folded in one order, and the blocks are added in turn. So neither the number of rows, nor which
//!   rows these are, nor the number of threads matters;
//! * a weight in 16 bits gives what the same values give in f32: widening is exact.
//!
//! A weight that meets many rows again and again is worth packing: [`Packed`] is a copy of it in f32 that goes at the speed of
//! arithmetic.
//!
//! `lanes` has the instruction sets, `sets` chooses one at run time, `tiles` and `panels` have the loops.

mod lanes;
mod packed;
pub(crate) mod panels;
mod sets;
#[cfg(test)]
mod tests;
mod tiles;

use dfdx::prelude::*;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::gemm::SharedMut;
use super::tape::{buffer, require, view, view1};
use super::{Matrix, Vector};
pub use packed::Packed;

/// Terms of a block of a sum.
const BLOCK: usize = 1024;
/// Rows of the weight in a task.
const TASK_OUTPUTS: usize = 64;
/// Rows of `x` in a task.
const TASK_ROWS: usize = 96;
/// Below this many multiply-adds a product runs on the calling thread.
const SERIAL_WORK: usize = 1 << 19;

/// Numbers as they are stored.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// Half precision.
    F16(&'a [f16]),
}

impl<'a> Elements<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory they take.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::Bf16(values) => bytemuck::cast_slice(values.reinterpret_cast()),
            Self::F16(values) => bytemuck::cast_slice(values.reinterpret_cast()),
        }
    }

    /// All of them, as f32.
    pub fn widened(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.widen_into(0, &mut out);
        out
    }

    /// Writes those from `start` on to `out`, as f32.
    ///
    /// # Panics
    /// If there are fewer than `out` holds.
    pub fn widen_into(&self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self {
            Self::F32(values) => out.copy_from_slice(&values[range]),
            Self::Bf16(values) => out.iter_mut().zip(&values[range]).for_each(|(out, x)| *out = x.to_f32()),
            Self::F16(values) => out.iter_mut().zip(&values[range]).for_each(|(out, x)| *out = x.to_f32()),
        }
    }
}

/// One weight of several that take the same rows: `[outputs, k]`, with its bias.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The weight, row after row.
    pub weight: Elements<'a>,
    /// Added to each row of the result.
    pub bias: Option<&'a [f32]>,
    /// Rows of the weight.
    pub outputs: usize,
}

/// `y[m, Σ outputs] = x[m, k] [w₁; w₂; …]ᵀ + [b₁; b₂; …]` on rayon's threads: `m` is `y.len()` over the outputs.
///
/// # Panics
/// If the shapes do not fit.
pub fn forward(y: &mut [f32], x: &[f32], parts: &[Part<'_>], k: usize) {
    let width: usize = parts.iter().map(|part| part.outputs).sum();
    if y.is_empty() {
        return;
    }
    let m = y.len() / width;
    assert!(y.len() == m * width && x.len() == m * k, "product of {} by {k} into {}", x.len(), y.len());
    for part in parts {
        let fits = part.weight.len() == part.outputs * k && part.bias.is_none_or(|b| b.len() == part.outputs);
        assert!(fits, "a weight of {} elements as {} rows of {k}", part.weight.len(), part.outputs);
    }
    let out = SharedMut::new(y);
    let mut first = 0;
    let mut tasks = Vec::new();
    for part in parts {
        for output in (0..part.outputs).step_by(TASK_OUTPUTS) {
            let outputs = output..part.outputs.min(output + TASK_OUTPUTS);
            let rows = |row| Task { part, first, outputs: outputs.clone(), rows: row..m.min(row + TASK_ROWS) };
            tasks.extend((0..m).step_by(TASK_ROWS).map(rows));
        }
        first += part.outputs;
    }
    if m * width * k < SERIAL_WORK {
        tasks.iter().for_each(|task| task.run(out, x, (width, k)));
    } else {
        tasks.par_iter().with_max_len(1).for_each(|task| task.run(out, x, (width, k)));
    }
}

/// Some rows against some rows of a weight.
struct Task<'a> {
    part: &'a Part<'a>,
    /// Column of `y` where the part begins.
    first: usize,
    outputs: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Task<'_> {
    fn run(&self, y: SharedMut<'_>, x: &[f32], (width, k): (usize, usize)) {
        let (rows, outputs) = (self.rows.len(), self.outputs.len());
        let at = self.rows.start * width + self.first + self.outputs.start;
        // SAFETY: the tasks partition the rows and columns of `y`, so no two blocks share an element.
        let mut y = unsafe { y.block(at, rows, outputs, width) };
        let x = &x[self.rows.start * k..self.rows.end * k];
        let range = self.outputs.start * k..self.outputs.end * k;
        let bias = self.part.bias.map(|bias| &bias[self.outputs.clone()]);
        match self.part.weight {
            Elements::F32(w) => tiles::product(&mut y, x, &w[range], bias, k),
            Elements::Bf16(w) => tiles::product(&mut y, x, &w[range], bias, k),
            Elements::F16(w) => tiles::product(&mut y, x, &w[range], bias, k),
        }
    }
}

/// The product on `Cpu` tensors; there is no way back through it.
pub(crate) fn on_cpu(
    x: &Matrix<Cpu>,
    w: Elements<'_>,
    outputs: usize,
    b: Option<&Vector<Cpu>>,
) -> Result<Matrix<Cpu>, CpuError> {
    timed!("product");
    let (t, k) = *x.shape();
    require(w.len() == outputs * k && b.is_none_or(|b| b.shape().0 == outputs))?;
    let mut y = buffer(t * outputs);
    forward(&mut y, view(x)?, &[Part { weight: w, bias: b.map(view1).transpose()?, outputs }], k);
    x.device().try_tensor_from_vec(y, (t, outputs))
}
