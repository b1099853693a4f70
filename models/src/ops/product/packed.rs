//! Weights packed for many products, in panels of sixteen outputs. Faster than `tiles` for all but one row, at the price of
//! a copy in f32.

use rayon::prelude::*;

use super::lanes::LANES;
use super::panels::{Job, Onto, Panels, put};
use super::sets::widest;
use super::{Part, SERIAL_WORK, TASK_OUTPUTS, TASK_ROWS};
use crate::ops::gemm::{Mat, MatMut, SharedMut};

/// Weights `[outputs, k]` that take the same rows, with their biases, in panels of sixteen outputs.
///
/// The products are those of [`super::forward`] up to rounding, with its promises: an element depends on its row and its
/// output's weights alone.
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
                put(panel, lane, &row);
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
        assert!(output.is_multiple_of(LANES), "an output that begins no panel");
        let panels = Panels::packed(&self.panels[output * k..], k, n, k * LANES);
        Job::new(y, Mat::new(x, m, k), panels, Onto::Bias(&self.bias[output..]))
    }
}
