//! Rows of many streams through the language model, each stream seeing its prompt and its own tokens.

use rayon::prelude::*;

use super::cache::{Cache, LayerCache};
use super::host::{HostLinear, HostModel};
use crate::ops::gemm::{Mat, MatMut, matmul_serial};
use crate::ops::simd::{Kernel, dispatch, exp_sum, max};
use crate::ops::{linear, rms_norm, rotary, swiglu};
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

/// Runs all rows, fills the caches, and returns the logits of each run's last token, `[runs, vocabulary]`.
pub(crate) fn forward(model: &HostModel, runs: &mut [Run<'_>]) -> Vec<f32> {
    let (d, eps) = (model.config.hidden_size, model.config.rms_norm_eps as f32);
    let mut x = embed(model, runs);
    let rows = x.len() / d;
    let angles = {
        let axis = |a: usize| -> Vec<u32> {
            let new = |run: &Run<'_>| run.positions.axes[a][run.first_position..][..run.ids.len()].to_vec();
            runs.iter().flat_map(new).collect()
        };
        let (t, h, w) = (axis(0), axis(1), axis(2));
        angles::text(&model.config, [&t, &h, &w])
    };
    let mut h = vec![0.0; rows * d];
    for (index, layer) in model.layers.iter().enumerate() {
        rms_norm::cpu::forward(&mut h, &x, &layer.input_norm, eps);
        let qkv = apply(&layer.qkv, &h, rows);
        let attended = attention(model, index, &qkv, &angles, runs);
        add(&mut x, &apply(&layer.o, &attended, rows));
        rms_norm::cpu::forward(&mut h, &x, &layer.post_norm, eps);
        let gate_up = apply(&layer.gate_up, &h, rows);
        let inner = layer.gate_up.out / 2;
        let mut hidden = vec![0.0; rows * inner];
        swiglu::cpu::forward_packed(&mut hidden, &gate_up, inner);
        add(&mut x, &apply(&layer.down, &hidden, rows));
    }
    for run in runs.iter_mut() {
        run.own.grow(run.ids.len());
    }
    logits(model, &x, runs)
}

fn embed(model: &HostModel, runs: &[Run<'_>]) -> Vec<f32> {
    let d = model.config.hidden_size;
    let mut x = Vec::new();
    for run in runs {
        let start = x.len();
        run.ids.iter().for_each(|&id| x.extend_from_slice(&model.embed[id as usize * d..][..d]));
        for &(at, row) in &run.features {
            x[start + at * d..][..d].copy_from_slice(row);
        }
    }
    x
}

fn logits(model: &HostModel, x: &[f32], runs: &[Run<'_>]) -> Vec<f32> {
    let (d, vocabulary) = (model.config.hidden_size, model.config.vocab_size);
    let mut last = Vec::with_capacity(runs.len() * d);
    let mut row = 0;
    for run in runs {
        row += run.ids.len();
        last.extend_from_slice(&x[(row - 1) * d..row * d]);
    }
    let mut normed = vec![0.0; last.len()];
    rms_norm::cpu::forward(&mut normed, &last, &model.norm, model.config.rms_norm_eps as f32);
    let mut out = vec![0.0; runs.len() * vocabulary];
    linear::cpu::forward(&mut out, &normed, model.head(), None, (runs.len(), vocabulary, d));
    out
}

fn apply(map: &HostLinear, x: &[f32], rows: usize) -> Vec<f32> {
    let mut y = vec![0.0; rows * map.out];
    linear::cpu::forward(&mut y, x, &map.weight, map.bias.as_deref(), (rows, map.out, x.len() / rows));
    y
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Rotates queries and keys, appends keys and values to the caches, and attends.
fn attention(model: &HostModel, layer: usize, qkv: &[f32], angles: &angles::Angles, runs: &mut [Run<'_>]) -> Vec<f32> {
    let config = &model.config;
    let (heads, kv, hd) = (config.heads, config.kv_heads, config.head_dim());
    let width = (heads + 2 * kv) * hd;
    let rows = qkv.len() / width;
    let part = |from: usize, to: usize| -> Vec<f32> {
        qkv.chunks(width).flat_map(|row| row[from * hd..to * hd].iter().copied()).collect()
    };
    let turned = |x: Vec<f32>, heads: usize| {
        let mut y = vec![0.0; x.len()];
        rotary::cpu::forward(&mut y, &x, &angles.cos, &angles.sin, heads, heads * hd);
        y
    };
    let (q, k, v) =
        (turned(part(0, heads), heads), turned(part(heads, heads + kv), kv), part(heads + kv, heads + 2 * kv));
    let mut out = vec![0.0; rows * heads * hd];
    let mut jobs = Vec::with_capacity(runs.len());
    let (mut row, mut rest) = (0, out.as_mut_slice());
    for run in runs.iter_mut() {
        let n = run.ids.len();
        let kv_rows = row * kv * hd..(row + n) * kv * hd;
        run.own.append(layer, &k[kv_rows.clone()], &v[kv_rows]);
        let (mine, others) = rest.split_at_mut(n * heads * hd);
        rest = others;
        jobs.push(Job {
            q: &q[row * heads * hd..(row + n) * heads * hd],
            out: mine,
            prefix: run.prefix.map(|cache| cache.layer(layer)),
            own: run.own.layer(layer),
            rows: n,
            shape: Shape { heads, kv, hd },
        });
        row += n;
    }
    jobs.into_par_iter().for_each(Job::attend);
    out
}

#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv: usize,
    hd: usize,
}

/// The attention of one run in one layer.
struct Job<'a> {
    q: &'a [f32],
    out: &'a mut [f32],
    prefix: Option<&'a LayerCache>,
    own: &'a LayerCache,
    rows: usize,
    shape: Shape,
}

impl Job<'_> {
    fn attend(mut self) {
        let Shape { heads, kv, hd } = self.shape;
        let group = heads / kv;
        // A single row has the heads of a group next to each other, as rows of one small matrix.
        let (blocks, rows, stride) = if self.rows == 1 { (kv, group, hd) } else { (heads, self.rows, heads * hd) };
        for block in 0..blocks {
            let kv_head = if self.rows == 1 { block } else { block / group };
            let first = if self.rows == 1 { block * group * hd } else { block * hd };
            self.block(kv_head, first, rows, stride);
        }
    }

    /// Attention of `rows` query rows that begin at `first` and are `stride` apart, over one key head.
    fn block(&mut self, kv_head: usize, first: usize, rows: usize, stride: usize) {
        let Shape { kv, hd, .. } = self.shape;
        let (width, at) = (kv * hd, kv_head * hd);
        let total = self.own.keys.len() / width;
        let before = total - self.rows;
        let prefix = self.prefix.map_or(0, |cache| cache.keys.len() / width);
        let all = prefix + total;
        let mut scores = vec![0.0; rows * all];
        let q = Mat::strided(&self.q[first..], rows, hd, stride);
        if let Some(cache) = self.prefix {
            let keys = Mat::strided(&cache.keys[at..], prefix, hd, width);
            matmul_serial(&mut MatMut::strided(&mut scores, rows, prefix, all), q, keys.t(), false);
        }
        let keys = Mat::strided(&self.own.keys[at..], total, hd, width);
        matmul_serial(&mut MatMut::strided(&mut scores[prefix..], rows, total, all), q, keys.t(), false);
        let scale = (hd as f32).sqrt().recip();
        for (i, row) in scores.chunks_mut(all).enumerate() {
            let seen = prefix + if self.rows == 1 { total } else { before + i + 1 };
            row[seen..].fill(0.0);
            dispatch(Softmax { row: &mut row[..seen], scale });
        }
        let mut out = MatMut::strided(&mut self.out[first..], rows, hd, stride);
        if let Some(cache) = self.prefix {
            let values = Mat::strided(&cache.values[at..], prefix, hd, width);
            matmul_serial(&mut out, Mat::strided(&scores, rows, prefix, all), values, false);
        }
        let values = Mat::strided(&self.own.values[at..], total, hd, width);
        let weights = Mat::strided(&scores[prefix..], rows, total, all);
        matmul_serial(&mut out, weights, values, self.prefix.is_some());
    }
}

/// Softmax of `scale · row` in place.
struct Softmax<'a> {
    row: &'a mut [f32],
    scale: f32,
}

impl Kernel for Softmax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let top = max(self.row);
        let sum = exp_sum::<FMA>(self.row, top, self.scale);
        let inverse = sum.recip();
        self.row.iter_mut().for_each(|x| *x *= inverse);
    }
}
