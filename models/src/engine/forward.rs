//! Rows of many streams through the language model, each stream seeing its prompt and its own tokens.

use super::attention::{Shape, attention};
use super::cache::Cache;
use super::host::HostModel;
use crate::ops::{rms_norm, rotary, swiglu};
use crate::qwen::positions::Positions;
use crate::qwen::rotary as angles;

/// New tokens of one stream.
pub(crate) struct Run<'a> {
    /// Token ids.
    pub(crate) ids: &'a [u32],
    /// Features that stand in for image tokens: index into `ids`, row.
    pub(crate) features: Vec<(usize, &'a [f32])>,
    /// Their positions.
    pub(crate) positions: &'a Positions,
    /// First of them within `positions`.
    pub(crate) first_position: usize,
    /// Keys and values of the prompt that this stream continues.
    pub(crate) prefix: Option<&'a Cache>,
    /// The stream's own.
    pub(crate) own: &'a mut Cache,
}

/// Rows of a group of runs, at least.
const GROUP_ROWS: usize = 16;

/// Runs all rows, fills the caches, and returns the logits of each run's last token, `[runs, vocabulary]`.
///
/// A model of packed weights goes through its layers once a thread, each with runs of its own, so that threads wait for each
/// other once a step and not at every product. No row depends on which others go with it.
pub(crate) fn forward(model: &HostModel<'_>, runs: &mut [Run<'_>]) -> Vec<f32> {
    let rows: usize = runs.iter().map(|run| run.ids.len()).sum();
    let groups = if model.packed { (rows / GROUP_ROWS).clamp(1, rayon::current_num_threads()) } else { 1 };
    side_by_side(model, runs, groups)
}

/// Runs in `groups` groups of about as many rows, in parallel.
fn side_by_side(model: &HostModel<'_>, runs: &mut [Run<'_>], groups: usize) -> Vec<f32> {
    if groups < 2 || runs.len() < 2 {
        return layers(model, runs);
    }
    let share = runs.iter().map(|run| run.ids.len()).sum::<usize>() * (groups / 2) / groups;
    let mut rows = 0;
    let first = runs.iter().take_while(|run| {
        let middle = rows + run.ids.len() / 2;
        rows += run.ids.len();
        middle < share
    });
    let first = first.count().clamp(1, runs.len() - 1);
    let (first, second) = runs.split_at_mut(first);
    let (mut logits, others) =
        rayon::join(|| side_by_side(model, first, groups / 2), || side_by_side(model, second, groups - groups / 2));
    logits.extend(others);
    logits
}

/// Some runs through all layers.
fn layers(model: &HostModel<'_>, runs: &mut [Run<'_>]) -> Vec<f32> {
    let (d, eps) = (model.config.hidden_size, model.config.rms_norm_eps as f32);
    let mut x = embed(model, runs);
    let rows = x.len() / d;
    let angles = {
        let axis = |a: usize| -> Vec<u32> {
            let new = |run: &Run<'_>| run.positions.axes[a][run.first_position..][..run.ids.len()].to_vec();
            runs.iter().flat_map(new).collect()
        };
        let (t, h, w) = (axis(0), axis(1), axis(2));
        angles::text(model.config, [&t, &h, &w])
    };
    let mut h = vec![0.0; rows * d];
    for (index, layer) in model.layers.iter().enumerate() {
        rms_norm::cpu::forward(&mut h, &x, &layer.input_norm, eps);
        let qkv = layer.qkv.apply(&h, rows);
        let attended = attend(model, index, &qkv, &angles, runs);
        add(&mut x, &layer.o.apply(&attended, rows));
        rms_norm::cpu::forward(&mut h, &x, &layer.post_norm, eps);
        let gate_up = layer.gate_up.apply(&h, rows);
        let inner = layer.gate_up.outputs() / 2;
        let mut hidden = vec![0.0; rows * inner];
        swiglu::cpu::forward_packed(&mut hidden, &gate_up, inner);
        add(&mut x, &layer.down.apply(&hidden, rows));
    }
    for run in runs.iter_mut() {
        run.own.grow(run.ids.len());
    }
    logits(model, &x, runs)
}

fn embed(model: &HostModel<'_>, runs: &[Run<'_>]) -> Vec<f32> {
    let d = model.config.hidden_size;
    let table = model.embed.elements();
    let mut x = vec![0.0; runs.iter().map(|run| run.ids.len()).sum::<usize>() * d];
    let mut start = 0;
    for run in runs {
        let rows = x[start..].chunks_mut(d).zip(run.ids);
        rows.for_each(|(row, &id)| table.widen_into(id as usize * d, row));
        for &(at, row) in &run.features {
            x[start + at * d..][..d].copy_from_slice(row);
        }
        start += run.ids.len() * d;
    }
    x
}

fn logits(model: &HostModel<'_>, x: &[f32], runs: &[Run<'_>]) -> Vec<f32> {
    let d = model.config.hidden_size;
    let mut last = Vec::with_capacity(runs.len() * d);
    let mut row = 0;
    for run in runs {
        row += run.ids.len();
        last.extend_from_slice(&x[(row - 1) * d..row * d]);
    }
    let mut normed = vec![0.0; last.len()];
    rms_norm::cpu::forward(&mut normed, &last, &model.norm, model.config.rms_norm_eps as f32);
    model.head.apply(&normed, runs.len())
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Rotates queries and keys, appends keys and values to the caches, and attends.
fn attend(model: &HostModel<'_>, layer: usize, qkv: &[f32], angles: &angles::Angles, runs: &mut [Run<'_>]) -> Vec<f32> {
    let (heads, kv, hd) = (model.config.heads, model.config.kv_heads, model.config.head_dim());
    let width = (heads + 2 * kv) * hd;
    let part = |from: usize, to: usize| -> Vec<f32> {
        let mut out = Vec::with_capacity(qkv.len() / width * (to - from) * hd);
        qkv.chunks(width).for_each(|row| out.extend_from_slice(&row[from * hd..to * hd]));
        out
    };
    let turned = |x: Vec<f32>, heads: usize| {
        let mut y = vec![0.0; x.len()];
        rotary::cpu::forward(&mut y, &x, &angles.cos, &angles.sin, heads, heads * hd);
        y
    };
    let (q, k, v) =
        (turned(part(0, heads), heads), turned(part(heads, heads + kv), kv), part(heads + kv, heads + 2 * kv));
    let mut row = 0;
    for run in runs.iter_mut() {
        let rows = row * kv * hd..(row + run.ids.len()) * kv * hd;
        run.own.append(layer, &k[rows.clone()], &v[rows]);
        row += run.ids.len();
    }
    attention(&q, layer, runs, Shape { heads, kv, hd })
}
