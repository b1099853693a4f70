//! Slice kernels of attention. Queries and outputs are `[t, heads.queries * hd]`, keys and values
//! `[t, heads.keys * hd]`, log-sum-exps `[heads.queries, t]`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;

use super::{AttentionPlan, Heads, Segment};
use crate::ops::gemm::{Mat, MatMut, SharedMut};
use crate::ops::product::panels::{LANES, Onto, Panels, multiply, put};
use crate::ops::simd::{Kernel, dispatch, exp, exp_sum, fma, max, sum_zip};

/// Queries of a tile.
const BLOCK: usize = 64;
/// Below this many multiply-adds attention runs on the calling thread.
const SERIAL_WORK: usize = 1 << 18;

thread_local! {
    /// Scores of the tile at hand, and their gradients; kept, so that memory is asked for once.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Keys and values of one head that queries see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// The keys, `[hd, count]`.
    pub(crate) keys: Panels<'a>,
    /// The values, `[count, hd]`.
    pub(crate) values: Panels<'a>,
}

impl Seen<'_> {
    fn count(&self) -> usize {
        self.keys.col_count()
    }
}

/// Queries that see keys besides those that all see.
#[derive(Clone, Debug)]
pub(crate) struct Member<'a> {
    /// The queries.
    pub(crate) rows: Range<usize>,
    /// What they see.
    pub(crate) own: Seen<'a>,
    /// Whether query `i` of `n` does not see the last `n - 1 - i` keys.
    pub(crate) causal: bool,
}

impl Member<'_> {
    /// How many of its own keys query `row` sees.
    fn seen(&self, row: usize) -> usize {
        self.own.count() - if self.causal { self.rows.end - 1 - row } else { 0 }
    }
}

/// Attention of one head on the calling thread: the engine's kernel, and a tile of [`forward`].
///
/// `out[i] = softmax(scale * q[i] kᵀ) v` over the keys and values that are common to all queries, and those of the query's member;
/// the members partition the queries. A row of the result depends on its query and what that sees alone. `lse(i, x)` is told
/// the log-sum-exp of each row's scores.
///
/// # Panics
/// If shapes do not fit or a query sees no key.
pub(crate) fn attend(
    out: &mut MatMut<'_>,
    q: Mat<'_>,
    common: Option<Seen<'_>>,
    members: &[Member<'_>],
    scale: f32,
    mut lse: impl FnMut(usize, f32),
) {
    let (m, shared) = (q.row_count(), common.map_or(0, |seen| seen.count()));
    let width = shared + members.iter().map(|member| member.own.count()).max().unwrap_or(0);
    SCRATCH.with_borrow_mut(|[scores, _]| {
        let scores = sized(scores, m * width);
        score(scores, width, q, common.map(|seen| seen.keys), members.iter().map(|m| (m.rows.clone(), m.own.keys)));
        let sums = dispatch(Softmax { scores, width, rows: m, shared, members, scale });
        if let Some(seen) = common {
            multiply(out, Mat::strided(scores, m, shared, width), seen.values, Onto::Zero);
        }
        let onto = if common.is_some() { Onto::Present } else { Onto::Zero };
        for Member { rows, own, .. } in members {
            let weights = Mat::strided(&scores[rows.start * width + shared..], rows.len(), own.count(), width);
            multiply(&mut out.rows(rows.clone()), weights, own.values, onto);
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

/// Rows `width` wide of products with what is common, and beside them of some rows with what is theirs.
fn score<'a>(
    to: &mut [f32],
    width: usize,
    x: Mat<'_>,
    common: Option<Panels<'a>>,
    own: impl Iterator<Item = (Range<usize>, Panels<'a>)>,
) {
    let shared = common.map_or(0, |common| common.col_count());
    if let Some(common) = common {
        multiply(&mut MatMut::strided(to, x.row_count(), shared, width), x, common, Onto::Zero);
    }
    for (rows, own) in own {
        let to = &mut to[rows.start * width + shared..];
        let mut block = MatMut::strided(to, rows.len(), own.col_count(), width);
        multiply(&mut block, x.rows(rows.start, rows.len()), own, Onto::Zero);
    }
}

/// Turns scores into `exp(scale * (score - max))`, 0 where hidden; returns sum and max of each row.
struct Softmax<'a, 'b> {
    scores: &'a mut [f32],
    width: usize,
    rows: usize,
    shared: usize,
    members: &'a [Member<'b>],
    scale: f32,
}

impl Kernel for Softmax<'_, '_> {
    type Output = Vec<(f32, f32)>;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Self::Output {
        let mut sums = vec![(0.0, 0.0); self.rows];
        // Plain loops: a closure given to `collect` would not be compiled for wide vectors.
        for member in self.members {
            for row in member.rows.clone() {
                let scores = &mut self.scores[row * self.width..][..self.shared + member.own.count()];
                let (seen, rest) = scores.split_at_mut(self.shared + member.seen(row));
                rest.fill(0.0);
                let top = max(seen);
                sums[row] = (exp_sum::<FMA>(seen, top, self.scale), top);
            }
        }
        sums
    }
}

/// Rows of keys or values `[t, width]` by the ranges that a plan's queries see, each in panels `[width, 16]` of its own.
struct Packs {
    data: Vec<f32>,
    width: usize,
    /// Where each range begins.
    starts: HashMap<(usize, usize), usize>,
}

impl Packs {
    fn new(x: &[f32], plan: &AttentionPlan, width: usize) -> Self {
        let (mut starts, mut panels) = (HashMap::new(), Vec::new());
        for range in plan.segments().iter().flat_map(|s| [&s.prefix, &s.queries]).filter(|range| !range.is_empty()) {
            starts.entry((range.start, range.end)).or_insert_with(|| {
                let start = panels.len() * LANES * width;
                panels.extend(range.clone().step_by(LANES).map(|first| first..range.end.min(first + LANES)));
                start
            });
        }
        let mut data = vec![0.0; panels.len() * LANES * width];
        let fill = |(panel, rows): (&mut [f32], &Range<usize>)| {
            rows.clone().enumerate().for_each(|(lane, row)| put(panel, lane, &x[row * width..][..width]));
        };
        data.par_chunks_mut(LANES * width).zip(&panels).with_min_len(4).for_each(fill);
        Self { data, width, starts }
    }

    /// Columns `head * hd ..` of the first `count` rows of a range, `[hd, count]`.
    fn head(&self, range: &Range<usize>, count: usize, head: usize, hd: usize) -> Panels<'_> {
        let start = self.starts.get(&(range.start, range.end)).copied().unwrap_or(self.data.len());
        Panels::packed(&self.data[start + head * hd * LANES..], hd, count, self.width * LANES)
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

    /// The rows that every query of the segment sees, and how many these are.
    fn common(&self) -> Option<(&Range<usize>, usize)> {
        let prefix = &self.segment.prefix;
        (!prefix.is_empty()).then(|| (prefix, prefix.len()))
    }

    /// The segment's rows, and how many of them the tile sees.
    fn own(&self) -> (&Range<usize>, usize) {
        (&self.segment.queries, self.segment.own_keys(self.rows.end))
    }
}

fn tiles(segment: &Segment) -> impl DoubleEndedIterator<Item = Tile<'_>> {
    let len = segment.queries.len();
    (0..len.div_ceil(BLOCK)).map(move |i| Tile { segment, rows: i * BLOCK..len.min((i + 1) * BLOCK) })
}

/// One head of a matrix `[rows, width]`: columns `head * hd ..`, `count` rows from `start` on.
fn head(x: &[f32], start: usize, count: usize, head: usize, hd: usize, width: usize) -> Mat<'_> {
    Mat::strided(&x[start * width + head * hd..], count, hd, width)
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
    let packs = Packs::new(k, plan, kv_width);
    let (out, lse) = (SharedMut::new(out), SharedMut::new(lse));
    let one = |(h, tile): (usize, Tile<'_>)| {
        let (first, m, kv) = (tile.first(), tile.rows.len(), h / group);
        let seen = |(range, count): (&Range<usize>, usize)| Seen {
            keys: packs.head(range, count, kv, hd),
            values: Panels::of(head(v, range.start, count, kv, hd, kv_width)),
        };
        let member = Member { rows: 0..m, own: seen(tile.own()), causal: tile.segment.causal };
        // SAFETY: tiles of one head are disjoint rows, heads are disjoint columns.
        let mut block = unsafe { out.block(first * width + h * hd, m, hd, width) };
        // SAFETY: as above; a head is a row of `lse`.
        let mut sums = keep.then(|| unsafe { lse.block(h * t + first, 1, m, m) });
        let q = head(q, first, m, h, hd, width);
        attend(&mut block, q, tile.common().map(seen), &[member], heads.scale, |i, x| {
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
    let packs = [saved.k, saved.v].map(|x| Packs::new(x, plan, heads.keys * hd));
    let context = Backward {
        packs: &packs,
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
    /// Keys and values.
    packs: &'a [Packs; 2],
    dq: SharedMut<'a>,
    dk: SharedMut<'a>,
    dv: SharedMut<'a>,
    dout: &'a [f32],
    saved: Saved<'a>,
    heads: Heads,
    hd: usize,
    t: usize,
}

impl<'a> Backward<'a> {
    fn tile(&self, tile: &Tile<'_>, h: usize) {
        let (hd, width, kv_width) = (self.hd, self.heads.queries * self.hd, self.heads.keys * self.hd);
        let kv = h / (self.heads.queries / self.heads.keys);
        let (first, m) = (tile.first(), tile.rows.len());
        let (common, own) = (tile.common(), tile.own());
        let keys = common.map_or(0, |(_, count)| count) + own.1;
        let q = head(self.saved.q, first, m, h, hd, width);
        let dout = head(self.dout, first, m, h, hd, width);
        SCRATCH.with_borrow_mut(|[p, ds]| {
            let (p, ds) = (sized(p, m * keys), sized(ds, m * keys));
            for (to, x, packs) in [(&mut *p, q, &self.packs[0]), (&mut *ds, dout, &self.packs[1])] {
                let panels = |(range, count): (&Range<usize>, usize)| packs.head(range, count, kv, hd);
                score(to, keys, x, common.map(panels), std::iter::once((0..m, panels(own))));
            }
            dispatch(ScoreGradient {
                p,
                ds,
                out: head(self.saved.out, first, m, h, hd, width),
                dout,
                lse: &self.saved.lse[h * self.t + first..][..m],
                hidden: if tile.segment.causal { m - 1 } else { 0 },
                scale: self.heads.scale,
            });
            let mut start = 0;
            for (range, count) in common.into_iter().chain([own]) {
                let p = Mat::strided(&p[start..], m, count, keys);
                let ds = Mat::strided(&ds[start..], m, count, keys);
                let offset = range.start * kv_width + kv * hd;
                let k = Panels::of(head(self.saved.k, range.start, count, kv, hd, kv_width));
                // SAFETY: this task alone touches these rows in this key head and its query heads.
                let [mut dv, mut dk, mut dq] = unsafe {
                    let block = |to: SharedMut<'a>, offset, rows, width| to.block(offset, rows, hd, width);
                    let rows = |to| block(to, offset, count, kv_width);
                    [rows(self.dv), rows(self.dk), block(self.dq, first * width + h * hd, m, width)]
                };
                multiply(&mut dv, p.t(), Panels::of(dout), Onto::Present);
                multiply(&mut dk, ds.t(), Panels::of(q), Onto::Present);
                multiply(&mut dq, ds, k, Onto::Present);
                start += count;
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
