//! Slice kernels of attention. Queries and outputs are `[t, heads.queries * hd]`, keys and values
//! `[t, heads.keys * hd]`, log-sum-exps `[heads.queries, t]`.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::{AttentionPlan, Heads, Segment};
use crate::ops::gemm::{Mat, MatMut, SharedMut, matmul_serial};
use crate::ops::simd::{Kernel, dispatch, exp, exp_sum, fma, max, sum_zip};

/// Queries of a tile.
const BLOCK: usize = 64;
/// Below this many multiply-adds attention runs on the calling thread.
const SERIAL_WORK: usize = 1 << 18;

thread_local! {
    /// Scores of the tile at hand, and their gradients; kept, so that memory is asked for once.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Some keys and values that a tile of queries sees.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The keys `[count, hd]`.
    pub keys: Mat<'a>,
    /// The values `[count, hd]`.
    pub values: Mat<'a>,
}

/// Attention of one head on the calling thread: the engine's kernel, and a tile of [`forward`].
///
/// `out[m, hd] = softmax(scale * q [k₁; k₂; …]ᵀ) [v₁; v₂; …]`, where query `i` of `m` does not see
/// the last `m - 1 - i` keys if `causal`. `lse(i, x)` is told the log-sum-exp of each row's scores.
///
/// # Panics
/// If shapes do not fit or a query sees no key.
pub fn attend(
    out: &mut MatMut<'_>,
    q: Mat<'_>,
    pieces: &[Piece<'_>],
    causal: bool,
    scale: f32,
    mut lse: impl FnMut(usize, f32),
) {
    let (m, keys) = (q.row_count(), pieces.iter().map(|p| p.keys.row_count()).sum());
    SCRATCH.with_borrow_mut(|[scores, _]| {
        let scores = sized(scores, m * keys);
        fill(scores, keys, q, pieces.iter().map(|p| p.keys));
        let hidden = if causal { m - 1 } else { 0 };
        let sums = dispatch(Softmax { scores, keys, hidden, scale });
        let mut start = 0;
        for piece in pieces {
            let weights = Mat::strided(&scores[start..], m, piece.values.row_count(), keys);
            matmul_serial(out, weights, piece.values, start > 0);
            start += piece.values.row_count();
        }
        for (i, (sum, top)) in sums.into_iter().enumerate() {
            let inverse = 1.0 / sum;
            out.row(i).iter_mut().for_each(|o| *o *= inverse);
            lse(i, top * scale + sum.ln());
        }
    });
}

fn sized(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    &mut scratch[..len]
}

/// `dst[m, keys] = a [b₁; b₂; …]ᵀ`.
fn fill<'a>(dst: &mut [f32], keys: usize, a: Mat<'_>, parts: impl Iterator<Item = Mat<'a>>) {
    let mut start = 0;
    for part in parts {
        let count = part.row_count();
        let mut block = MatMut::strided(&mut dst[start..], a.row_count(), count, keys);
        matmul_serial(&mut block, a, part.t(), false);
        start += count;
    }
}

/// Turns scores into `exp(scale * (score - max))`, 0 where hidden; returns sum and max of each row.
struct Softmax<'a> {
    scores: &'a mut [f32],
    keys: usize,
    hidden: usize,
    scale: f32,
}

impl Kernel for Softmax<'_> {
    type Output = Vec<(f32, f32)>;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Self::Output {
        let mut sums = vec![(0.0, 0.0); self.scores.len() / self.keys];
        // A plain loop: a closure given to `collect` would not be compiled for wide vectors.
        for (i, (row, sum)) in self.scores.chunks_exact_mut(self.keys).zip(&mut sums).enumerate() {
            let (seen, rest) = row.split_at_mut(self.keys - self.hidden.saturating_sub(i));
            rest.fill(0.0);
            let top = max(seen);
            *sum = (exp_sum::<FMA>(seen, top, self.scale), top);
        }
        sums
    }
}

/// A tile of queries: rows `rows` of the segment, counted from its start, in one head.
struct Tile<'a> {
    segment: &'a Segment,
    rows: Range<usize>,
}

impl Tile<'_> {
    fn first(&self) -> usize {
        self.segment.queries.start + self.rows.start
    }

    /// The rows of the keys seen, prefix first.
    fn keys(&self) -> [Range<usize>; 2] {
        let start = self.segment.queries.start;
        [self.segment.prefix.clone(), start..start + self.segment.own_keys(self.rows.end)]
    }
}

fn tiles(segment: &Segment) -> impl DoubleEndedIterator<Item = Tile<'_>> {
    let len = segment.queries.len();
    (0..len.div_ceil(BLOCK)).map(move |i| Tile { segment, rows: i * BLOCK..len.min((i + 1) * BLOCK) })
}

/// One head of a matrix `[rows, width]`: columns `head * hd ..`, rows `range`.
fn head<'a>(x: &'a [f32], range: &Range<usize>, head: usize, hd: usize, width: usize) -> Mat<'a> {
    if range.is_empty() {
        return Mat::strided(&[], 0, hd, width);
    }
    Mat::strided(&x[range.start * width + head * hd..], range.len(), hd, width)
}

/// `out = softmax(scale q kᵀ) v` for each head, over the keys that `plan` shows each query.
///
/// `lse` receives the log-sum-exp of each row's scaled scores; it may be empty.
#[allow(clippy::too_many_arguments)] // three inputs, two outputs and their layout
pub fn forward(
    out: &mut [f32],
    lse: &mut [f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    plan: &AttentionPlan,
    heads: Heads,
    hd: usize,
) {
    let (t, width, kv_width) = (plan.rows(), heads.queries * hd, heads.keys * hd);
    let group = heads.queries / heads.keys;
    let keep = !lse.is_empty();
    let (out, lse) = (SharedMut::new(out), SharedMut::new(lse));
    let one = |(h, tile): (usize, Tile<'_>)| {
        let (first, m) = (tile.first(), tile.rows.len());
        let piece = |range: Range<usize>| Piece {
            keys: head(k, &range, h / group, hd, kv_width),
            values: head(v, &range, h / group, hd, kv_width),
        };
        let [prefix, own] = tile.keys();
        let pieces = [piece(prefix.clone()), piece(own)];
        let pieces = if prefix.is_empty() { &pieces[1..] } else { &pieces[..] };
        // SAFETY: tiles of one head are disjoint rows, heads are disjoint columns.
        let mut block = unsafe { out.block(first * width + h * hd, m, hd, width) };
        // SAFETY: as above; a head is a row of `lse`.
        let mut sums = keep.then(|| unsafe { lse.block(h * t + first, 1, m, m) });
        let q = head(q, &(first..first + m), h, hd, width);
        attend(&mut block, q, pieces, tile.segment.causal, heads.scale, |i, x| {
            if let Some(sums) = &mut sums {
                sums.row(0)[i] = x;
            }
        });
    };
    let tasks: Vec<_> =
        (0..heads.queries).flat_map(|h| plan.segments().iter().flat_map(tiles).map(move |tile| (h, tile))).collect();
    run(tasks, 2 * work(plan) * width, one);
}

/// Scores that a plan needs for one head.
fn work(plan: &AttentionPlan) -> usize {
    plan.segments().iter().map(|s| s.queries.len() * (s.prefix.len() + s.queries.len())).sum()
}

fn run<I: Send>(tasks: Vec<I>, work: usize, f: impl Fn(I) + Sync + Send) {
    if work < SERIAL_WORK {
        tasks.into_iter().for_each(f);
    } else {
        tasks.into_par_iter().for_each(f);
    }
}

/// What [`backward`] needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// The output.
    pub out: &'a [f32],
    /// Log-sum-exps of the scaled scores, `[heads, t]`.
    pub lse: &'a [f32],
}

/// Adds the gradients of queries, keys and values to `dq`, `dk`, `dv`.
///
/// With `p` the probabilities and `s = Σ dout out` of each row: `dv += pᵀ dout`,
/// `ds = p (dout vᵀ - s) scale`, `dq += ds k`, `dk += dsᵀ q`. A task owns a key head of an island
/// of the plan, and goes through its segments in order, so that sums have one order.
pub fn backward(
    [dq, dk, dv]: [&mut [f32]; 3],
    dout: &[f32],
    saved: Saved<'_>,
    plan: &AttentionPlan,
    heads: Heads,
    hd: usize,
) {
    let context = Backward {
        dq: SharedMut::new(dq),
        dk: SharedMut::new(dk),
        dv: SharedMut::new(dv),
        dout,
        saved,
        heads,
        hd,
        t: plan.rows(),
    };
    let tasks: Vec<_> = plan.islands().iter().flat_map(|i| (0..heads.keys).map(move |kv| (i.clone(), kv))).collect();
    run(tasks, 5 * work(plan) * heads.queries * hd, |(island, kv)| {
        let group = heads.queries / heads.keys;
        for segment in &plan.segments()[island] {
            for h in kv * group..(kv + 1) * group {
                tiles(segment).for_each(|tile| context.tile(&tile, h));
            }
        }
    });
}

struct Backward<'a> {
    dq: SharedMut<'a>,
    dk: SharedMut<'a>,
    dv: SharedMut<'a>,
    dout: &'a [f32],
    saved: Saved<'a>,
    heads: Heads,
    hd: usize,
    t: usize,
}

impl Backward<'_> {
    fn tile(&self, tile: &Tile<'_>, h: usize) {
        let (hd, width, kv_width) = (self.hd, self.heads.queries * self.hd, self.heads.keys * self.hd);
        let kv = h / (self.heads.queries / self.heads.keys);
        let (first, m) = (tile.first(), tile.rows.len());
        let range = first..first + m;
        let pieces: Vec<_> = tile.keys().into_iter().filter(|r| !r.is_empty()).collect();
        let keys = pieces.iter().map(Range::len).sum();
        let q = head(self.saved.q, &range, h, hd, width);
        let dout = head(self.dout, &range, h, hd, width);
        SCRATCH.with_borrow_mut(|[p, ds]| {
            let (p, ds) = (sized(p, m * keys), sized(ds, m * keys));
            fill(p, keys, q, pieces.iter().map(|r| head(self.saved.k, r, kv, hd, kv_width)));
            fill(ds, keys, dout, pieces.iter().map(|r| head(self.saved.v, r, kv, hd, kv_width)));
            dispatch(ScoreGradient {
                p,
                ds,
                out: head(self.saved.out, &range, h, hd, width),
                dout,
                lse: &self.saved.lse[h * self.t + first..][..m],
                hidden: if tile.segment.causal { m - 1 } else { 0 },
                scale: self.heads.scale,
            });
            let mut start = 0;
            for piece in &pieces {
                let p = Mat::strided(&p[start..], m, piece.len(), keys);
                let ds = Mat::strided(&ds[start..], m, piece.len(), keys);
                let offset = piece.start * kv_width + kv * hd;
                // SAFETY: this task alone touches these rows in this key head and its query heads.
                unsafe {
                    matmul_serial(&mut self.dv.block(offset, piece.len(), hd, kv_width), p.t(), dout, true);
                    matmul_serial(&mut self.dk.block(offset, piece.len(), hd, kv_width), ds.t(), q, true);
                    let k = head(self.saved.k, piece, kv, hd, kv_width);
                    matmul_serial(&mut self.dq.block(first * width + h * hd, m, hd, width), ds, k, true);
                }
                start += piece.len();
            }
        });
    }
}

/// Turns scores `p` into probabilities and `ds = dout vᵀ` into gradients of the unscaled scores.
struct ScoreGradient<'a> {
    p: &'a mut [f32],
    ds: &'a mut [f32],
    out: Mat<'a>,
    dout: Mat<'a>,
    lse: &'a [f32],
    hidden: usize,
    scale: f32,
}

impl Kernel for ScoreGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let keys = self.p.len() / self.lse.len();
        let rows = self.p.chunks_exact_mut(keys).zip(self.ds.chunks_exact_mut(keys)).zip(self.lse);
        for (i, ((p, ds), &lse)) in rows.enumerate() {
            let dot = sum_zip(self.dout.row(i), self.out.row(i), |s, a, b| fma::<FMA>(a, b, s));
            let seen = keys - self.hidden.saturating_sub(i);
            let (p, p_rest) = p.split_at_mut(seen);
            let (ds, ds_rest) = ds.split_at_mut(seen);
            p_rest.fill(0.0);
            ds_rest.fill(0.0);
            for (p, ds) in p.iter_mut().zip(ds) {
                *p = exp::<FMA>(fma::<FMA>(*p, self.scale, -lse));
                *ds = *p * (*ds - dot) * self.scale;
            }
        }
    }
}
