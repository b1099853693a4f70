//! Where a decoder layer's attention goes: its weights for chosen rows, from the rotated queries and keys of a pass.

use std::sync::Arc;

use crate::ops::attention::{AttentionPlan, Heads};

/// What the attention of one decoder layer is made of.
#[derive(Clone, Debug)]
pub struct LayerProbe {
    /// `[rows, query heads · head width]`, rotated.
    pub(crate) queries: Vec<f32>,
    /// `[rows, key heads · head width]`, rotated.
    pub(crate) keys: Vec<f32>,
    pub(crate) plan: Arc<AttentionPlan>,
    pub(crate) heads: Heads,
}

impl LayerProbe {
    /// Rows of the pass.
    pub fn rows(&self) -> usize {
        self.plan.rows()
    }

    /// Number of query heads.
    pub fn heads(&self) -> usize {
        self.heads.queries
    }

    /// `softmax(scale q kᵀ)` of row `row` in every head, `[heads, rows]`; 0 where it sees nothing. A row beyond the pass
    /// sees nothing.
    pub fn weights(&self, row: usize) -> Vec<f32> {
        let rows = self.rows();
        let mut out = vec![0.0; self.heads.queries * rows];
        let seen = self.seen(row);
        for (head, weights) in out.chunks_mut(rows.max(1)).enumerate() {
            self.head(head, row, &seen, weights);
        }
        out
    }

    /// The sum of [`Self::weights`] over the heads, `[rows]`.
    pub fn summed(&self, row: usize) -> Vec<f32> {
        let rows = self.rows();
        let weights = self.weights(row);
        (0..rows).map(|key| (0..self.heads.queries).map(|head| weights[head * rows + key]).sum()).collect()
    }

    /// The mean of [`Self::weights`] over the heads, `[rows]`: it sums to 1.
    pub fn mean(&self, row: usize) -> Vec<f32> {
        let heads = self.heads.queries.max(1) as f32;
        self.summed(row).into_iter().map(|sum| sum / heads).collect()
    }

    fn seen(&self, row: usize) -> Vec<usize> {
        let segment = self.plan.segments().iter().find(|segment| segment.queries.contains(&row));
        segment.map_or(Vec::new(), |segment| {
            let end = if segment.causal { row + 1 } else { segment.queries.end };
            segment.prefix.clone().chain(segment.queries.start..end).collect()
        })
    }

    fn head(&self, head: usize, row: usize, seen: &[usize], out: &mut [f32]) {
        if seen.is_empty() {
            return;
        }
        let width = self.queries.len() / self.rows() / self.heads.queries;
        let key_head = head / (self.heads.queries / self.heads.keys);
        let query = &self.queries[(row * self.heads.queries + head) * width..][..width];
        let score = |&key: &usize| {
            let key = &self.keys[(key * self.heads.keys + key_head) * width..][..width];
            self.heads.scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f32>()
        };
        let scores: Vec<f32> = seen.iter().map(score).collect();
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| (score - top).exp()).sum();
        seen.iter().zip(scores).for_each(|(&key, score)| out[key] = (score - top).exp() / sum);
    }
}
