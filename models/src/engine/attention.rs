//! Attention of runs of new rows over the prompt's keys and values and their own.

use std::cell::RefCell;

use rayon::prelude::*;

use super::cache::LayerCache;
use super::forward::Run;
use crate::ops::attention::cpu::{Piece, attend};
use crate::ops::gemm::{Mat, SharedMut};
use crate::ops::product::scores;
use crate::ops::simd::{Kernel, dispatch, exp_sum, fma, max};

/// Query rows of a task.
const TILE: usize = 64;
/// Below this many multiply-adds attention runs on the calling thread.
const SERIAL_WORK: usize = 1 << 18;
/// Columns of an output whose sums are held in registers.
const COLUMNS: usize = 64;

thread_local! {
    /// Scores of the task at hand; kept, so that memory is asked for once.
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Heads of the queries, of the keys, and the width of one.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) heads: usize,
    pub(crate) kv: usize,
    pub(crate) hd: usize,
}

/// Some query rows of a run in one head; all heads of a group where the run is one row.
struct Task<'a> {
    prefix: Option<&'a LayerCache>,
    own: &'a LayerCache,
    /// Row of `q` where the run begins.
    first: usize,
    /// Rows of the run.
    len: usize,
    /// Rows of the task, counted within the run.
    rows: std::ops::Range<usize>,
    /// A query head, or a key head where the run is one row.
    head: usize,
}

/// `softmax(q kᵀ / √hd) v` of the rows `q[rows, heads · hd]` of all runs, whose new keys and values are in the caches.
pub(crate) fn attention(q: &[f32], layer: usize, runs: &[Run<'_>], shape: Shape) -> Vec<f32> {
    let Shape { heads, kv, hd } = shape;
    let mut out = vec![0.0; q.len()];
    let (mut tasks, mut first, mut work) = (Vec::new(), 0, 0);
    for run in runs {
        let len = run.ids.len();
        let (prefix, own) = (run.prefix.map(|cache| cache.layer(layer)), run.own.layer(layer));
        let task = |head, rows| Task { prefix, own, first, len, rows, head };
        if len == 1 {
            tasks.extend((0..kv).map(|head| task(head, 0..1)));
        } else {
            let tiles = || (0..len).step_by(TILE).map(|start| start..len.min(start + TILE));
            tasks.extend((0..heads).flat_map(|head| tiles().map(move |rows| (head, rows))).map(|(h, r)| task(h, r)));
        }
        let keys = prefix.map_or(0, |cache| cache.keys.len()) + own.keys.len();
        work += 2 * len * keys / kv * heads;
        first += len;
    }
    let shared = SharedMut::new(&mut out);
    if work < SERIAL_WORK {
        tasks.iter().for_each(|task| task.run(q, shared, shape));
    } else {
        tasks.par_iter().for_each(|task| task.run(q, shared, shape));
    }
    debug_assert_eq!(first * heads * hd, q.len());
    out
}

impl Task<'_> {
    fn run(&self, q: &[f32], out: SharedMut<'_>, shape: Shape) {
        if self.len == 1 { self.one_row(q, out, shape) } else { self.tile(q, out, shape) }
    }

    /// Keys and values of one key head in a cache.
    fn piece<'a>(cache: &'a LayerCache, rows: usize, kv_head: usize, shape: Shape) -> Piece<'a> {
        let (width, at) = (shape.kv * shape.hd, kv_head * shape.hd);
        Piece {
            keys: Mat::strided(&cache.keys[at..], rows, shape.hd, width),
            values: Mat::strided(&cache.values[at..], rows, shape.hd, width),
        }
    }

    /// What the task sees: the prompt, and its own rows up to the last of the task.
    fn pieces(&self, kv_head: usize, shape: Shape) -> Vec<Piece<'_>> {
        let width = shape.kv * shape.hd;
        let prefix = self.prefix.map(|cache| Self::piece(cache, cache.keys.len() / width, kv_head, shape));
        let own = self.own.keys.len() / width - self.len + self.rows.end;
        prefix.into_iter().chain([Self::piece(self.own, own, kv_head, shape)]).collect()
    }

    fn tile(&self, q: &[f32], out: SharedMut<'_>, shape: Shape) {
        let Shape { heads, kv, hd } = shape;
        let (width, rows) = (heads * hd, self.rows.len());
        let at = (self.first + self.rows.start) * width + self.head * hd;
        // SAFETY: tiles of one head are disjoint rows, heads are disjoint columns.
        let mut block = unsafe { out.block(at, rows, hd, width) };
        let pieces = self.pieces(self.head / (heads / kv), shape);
        let scale = (hd as f32).sqrt().recip();
        attend(&mut block, Mat::strided(&q[at..], rows, hd, width), &pieces, true, scale, |_, _| {});
    }

    /// A single row has the heads of a group next to each other, as rows of one small matrix.
    fn one_row(&self, q: &[f32], out: SharedMut<'_>, shape: Shape) {
        let Shape { heads, kv, hd } = shape;
        let group = heads / kv;
        let at = self.first * heads * hd + self.head * group * hd;
        // SAFETY: the groups of heads of different rows and key heads share no column of a row.
        let mut block = unsafe { out.block(at, 1, group * hd, group * hd) };
        let pieces = self.pieces(self.head, shape);
        let keys: usize = pieces.iter().map(|piece| piece.keys.row_count()).sum();
        let q = &q[at..at + group * hd];
        SCORES.with_borrow_mut(|buffer| {
            buffer.clear();
            buffer.resize(group * keys, 0.0);
            let mut start = 0;
            for piece in &pieces {
                scores(&mut buffer[start..], keys, q, piece.keys, hd);
                start += piece.keys.row_count();
            }
            let scale = (hd as f32).sqrt().recip();
            dispatch(Mix { out: block.row(0), scores: buffer, keys, pieces: &pieces, hd, scale });
        });
    }
}

/// Turns the scores of some heads into weights, and adds up the values they give weight to, key by key.
struct Mix<'a> {
    /// `[heads, hd]`, all zero.
    out: &'a mut [f32],
    /// `[heads, keys]`.
    scores: &'a mut [f32],
    keys: usize,
    pieces: &'a [Piece<'a>],
    hd: usize,
    scale: f32,
}

impl Kernel for Mix<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (out, weights) in self.out.chunks_exact_mut(self.hd).zip(self.scores.chunks_exact_mut(self.keys)) {
            let top = max(weights);
            let inverse = exp_sum::<FMA>(weights, top, self.scale).recip();
            let mut start = 0;
            while start + COLUMNS <= self.hd {
                columns::<FMA, COLUMNS>(out, weights, self.pieces, start, inverse);
                start += COLUMNS;
            }
            while start + 16 <= self.hd {
                columns::<FMA, 16>(out, weights, self.pieces, start, inverse);
                start += 16;
            }
            while start < self.hd {
                columns::<FMA, 1>(out, weights, self.pieces, start, inverse);
                start += 1;
            }
        }
    }
}

/// Columns `start..start + N` of one head's output.
#[inline(always)]
fn columns<const FMA: bool, const N: usize>(
    out: &mut [f32],
    weights: &[f32],
    pieces: &[Piece<'_>],
    start: usize,
    inverse: f32,
) {
    let mut sums = [0.0f32; N];
    let mut rest = weights;
    for piece in pieces {
        let (mine, others) = rest.split_at(piece.values.row_count());
        rest = others;
        for (i, &weight) in mine.iter().enumerate() {
            let Some(values) = piece.values.row(i)[start..].first_chunk::<N>() else { return };
            for c in 0..N {
                sums[c] = fma::<FMA>(weight, values[c], sums[c]);
            }
        }
    }
    for (out, sum) in out[start..start + N].iter_mut().zip(sums) {
        *out = sum * inverse;
    }
}
