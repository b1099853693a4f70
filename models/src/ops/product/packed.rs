//! Weights packed for many products: sixteen outputs side by side, so that a tile's sums are whole vectors and nothing is
//! folded. Faster than `tiles` for all but one row, at the price of a copy in f32.

use rayon::prelude::*;

use super::lanes::{LANES, Lanes};
use super::sets::{Loops, widest};
use super::{BLOCK, Part, SERIAL_WORK, TASK_OUTPUTS, TASK_ROWS};
use crate::ops::gemm::{MatMut, SharedMut};

/// Weights `[outputs, k]` that take the same rows, with their biases, in panels of sixteen outputs.
///
/// The products are those of [`super::forward`] up to rounding, with its promises: an element depends on its row and its
/// output's weights alone. Its terms are added one by one in blocks of `BLOCK`, and the blocks in turn.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Panel after panel; in a panel, the weights of each of the `k` inputs together. What is missing in the last is 0.
    panels: Vec<f32>,
    /// Of each output, with zeros up to a whole panel.
    bias: Vec<f32>,
    outputs: usize,
    k: usize,
}

impl Packed {
    /// Packs weights, one after the other.
    ///
    /// # Panics
    /// If a weight has not `outputs` rows of `k`.
    pub fn new(parts: &[Part<'_>], k: usize) -> Self {
        let outputs: usize = parts.iter().map(|part| part.outputs).sum();
        let mut bias = vec![0.0; outputs.next_multiple_of(LANES)];
        let mut rows = Vec::with_capacity(outputs);
        for part in parts {
            let fits = part.weight.len() == part.outputs * k && part.bias.is_none_or(|b| b.len() == part.outputs);
            assert!(fits, "a weight of {} elements as {} rows of {k}", part.weight.len(), part.outputs);
            if let Some(b) = part.bias {
                bias[rows.len()..rows.len() + b.len()].copy_from_slice(b);
            }
            rows.extend((0..part.outputs).map(|row| (part.weight, row)));
        }
        let mut panels = vec![0.0; bias.len() * k];
        let fill = |(panel, rows): (&mut [f32], &[_])| {
            let mut row = vec![0.0; k];
            for (lane, &(weight, index)) in rows.iter().enumerate() {
                super::Elements::widen_into(&weight, index * k, &mut row);
                panel.iter_mut().skip(lane).step_by(LANES).zip(&row).for_each(|(to, from)| *to = *from);
            }
        };
        panels.par_chunks_mut((k * LANES).max(1)).zip(rows.par_chunks(LANES)).for_each(fill);
        Self { panels, bias, outputs, k }
    }

    /// Rows of the weights.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `y[m, outputs] = x[m, k] wᵀ + b` on rayon's threads.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn forward(&self, y: &mut [f32], x: &[f32]) {
        if y.is_empty() {
            return;
        }
        let (width, k) = (self.outputs, self.k);
        let m = y.len() / width;
        assert!(y.len() == m * width && x.len() == m * k, "product of {} by {k} into {}", x.len(), y.len());
        let out = SharedMut::new(y);
        let outputs = (0..width).step_by(TASK_OUTPUTS);
        let rows = |output| (0..m).step_by(TASK_ROWS).map(move |row| (row, output));
        let tasks: Vec<(usize, usize)> = outputs.flat_map(rows).collect();
        let run = |&(row, output): &(usize, usize)| {
            let (rows, outputs) = (TASK_ROWS.min(m - row), TASK_OUTPUTS.min(width - output));
            // SAFETY: the tasks partition the rows and columns of `y`, so no two blocks share an element.
            let mut y = unsafe { out.block(row * width + output, rows, outputs, width) };
            widest(self.job(&mut y, &x[row * k..(row + rows) * k], output));
        };
        if m * width * k < SERIAL_WORK {
            tasks.iter().for_each(run);
        } else {
            tasks.par_iter().with_max_len(1).for_each(run);
        }
    }

    /// Rows `x` against the outputs from `output` on, as many as `y` has columns; `output` begins a panel.
    pub(super) fn job<'a, 'y>(&'a self, y: &'a mut MatMut<'y>, x: &'a [f32], output: usize) -> Job<'a, 'y> {
        let (m, n, k) = (y.row_count(), y.col_count(), self.k);
        let columns = output..output + n.next_multiple_of(LANES);
        let (panels, bias) = (&self.panels[columns.start * k..columns.end * k], &self.bias[columns]);
        assert!(x.len() == m * k && output.is_multiple_of(LANES), "shapes do not fit");
        Job { y, x, panels, bias, sizes: (m, n, k) }
    }
}

/// Some rows against some panels.
pub(super) struct Job<'a, 'y> {
    y: &'a mut MatMut<'y>,
    x: &'a [f32],
    panels: &'a [f32],
    bias: &'a [f32],
    /// Rows, outputs, inputs.
    sizes: (usize, usize, usize),
}

/// A block of `k`.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
}

impl Loops for Job<'_, '_> {
    #[inline(always)]
    unsafe fn run<L: Lanes, const C1: usize, const R: usize, const C: usize>(mut self) {
        // SAFETY: the caller's promise.
        unsafe { if self.sizes.0 == 1 { self.blocks::<L, 1, C1>() } else { self.blocks::<L, R, C>() } }
    }
}

impl Job<'_, '_> {
    /// # Safety
    /// The instruction set of `L` is there.
    #[inline(always)]
    unsafe fn blocks<L: Lanes, const R: usize, const C: usize>(&mut self) {
        let (k, panels) = (self.sizes.2, self.bias.len() / LANES);
        let mut start = 0;
        loop {
            let span = Span { start, len: BLOCK.min(k - start) };
            let mut panel = 0;
            while panel < panels {
                let wide = panels - panel >= C;
                // SAFETY: the caller's promise.
                unsafe { if wide { self.rows::<L, R, C>(panel, span) } else { self.rows::<L, R, 1>(panel, span) } }
                panel += if wide { C } else { 1 };
            }
            start += BLOCK;
            if start >= k {
                return;
            }
        }
    }

    /// All rows against `C` panels.
    ///
    /// # Safety
    /// As [`Self::blocks`].
    #[inline(always)]
    unsafe fn rows<L: Lanes, const R: usize, const C: usize>(&mut self, panel: usize, span: Span) {
        let m = self.sizes.0;
        let mut i = 0;
        while i < m {
            // As few tiles as can be, of about one height.
            let rows = (m - i).div_ceil((m - i).div_ceil(R));
            // SAFETY: the caller's promise.
            unsafe {
                match rows {
                    1 => self.tile::<L, 1, C>(i, panel, span),
                    2 => self.tile::<L, 2, C>(i, panel, span),
                    3 => self.tile::<L, 3, C>(i, panel, span),
                    4 => self.tile::<L, 4, C>(i, panel, span),
                    5 => self.tile::<L, 5, C>(i, panel, span),
                    _ => self.tile::<L, 6, C>(i, panel, span),
                }
            }
            i += rows;
        }
    }

    /// Adds a block to `R` rows of `C` panels.
    ///
    /// # Safety
    /// As [`Self::blocks`].
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const C: usize>(&mut self, i: usize, panel: usize, span: Span) {
        let (_, n, k) = self.sizes;
        let x = &self.x[i * k + span.start..(i + R - 1) * k + span.start + span.len];
        let w = &self.panels[(panel * k + span.start) * LANES..((panel + C - 1) * k + span.start + span.len) * LANES];
        // SAFETY: the slices hold the block of each of the rows, `k` apart, and of each of the panels, `k * LANES` apart.
        let sums = unsafe { sums::<L, R, C>(x.as_ptr(), w.as_ptr(), k, span.len) };
        for (r, sums) in sums.into_iter().enumerate() {
            let row = self.y.row(i + r);
            for (c, sum) in sums.into_iter().enumerate() {
                let column = (panel + c) * LANES;
                let (bias, width) = (&self.bias[column..column + LANES], LANES.min(n - column));
                let out = &mut row[column..column + width];
                let mut whole = [0.0; LANES];
                let before = if span.start == 0 {
                    bias.as_ptr()
                } else {
                    whole[..width].copy_from_slice(out);
                    whole.as_ptr()
                };
                // SAFETY: `bias` and `whole` hold `LANES` numbers, and so does `out` where it is written at once.
                unsafe {
                    let sum = L::add(L::f32(before), sum);
                    if width == LANES {
                        L::store(sum, out.as_mut_ptr());
                        continue;
                    }
                    L::store(sum, whole.as_mut_ptr());
                }
                out.copy_from_slice(&whole[..width]);
            }
        }
    }
}

/// `Σ x[r][l] w[c][l]` over `len` inputs, for [`LANES`] outputs of each panel `c`.
///
/// # Safety
/// The instruction set of `L` is there. Of `x`, `R` rows `k` apart are good for `len` elements; of `w`, `C` panels `k * LANES`
/// apart for `len * LANES`.
#[inline(always)]
unsafe fn sums<L: Lanes, const R: usize, const C: usize>(
    x: *const f32,
    w: *const f32,
    k: usize,
    len: usize,
) -> [[L::V; C]; R] {
    // SAFETY: every load is of an input below `len`.
    unsafe {
        let mut acc = [[L::zero(); C]; R];
        for l in 0..len {
            let mut weights = [L::zero(); C];
            for (c, weight) in weights.iter_mut().enumerate() {
                *weight = L::f32(w.add((c * k + l) * LANES));
            }
            for (r, sums) in acc.iter_mut().enumerate() {
                let row = L::splat(*x.add(r * k + l));
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = L::fma(row, weight, *sum);
                }
            }
        }
        acc
    }
}
