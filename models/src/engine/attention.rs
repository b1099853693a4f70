//! Attention of runs of new rows over the prompt's keys and values and their own.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::cache::LayerCache;
use super::forward::Run;
use crate::ops::attention::cpu::{Member, attend};
use crate::ops::gemm::{Mat, MatMut, SharedMut};

/// Query rows of a task.
const TILE: usize = 64;
/// Streams of a task whose runs are one row.
const STREAMS: usize = 8;
/// Below this many multiply-adds attention runs on the calling thread.
const SERIAL_WORK: usize = 1 << 18;

thread_local! {
    /// Queries and results of the task at hand; kept, so that memory is asked for once.
    static ROWS: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Heads of the queries, of the keys, and the width of one.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) heads: usize,
    pub(crate) kv: usize,
    pub(crate) hd: usize,
}

/// A run in one layer: its first row in `q`, how many rows it has, and what these see.
#[derive(Clone, Copy)]
struct LayerRun<'a> {
    first: usize,
    len: usize,
    prefix: Option<&'a LayerCache>,
    own: &'a LayerCache,
}

enum Task<'a, 'b> {
    /// Some rows of a run, counted within it, in a query head.
    Tile { run: LayerRun<'a>, rows: Range<usize>, head: usize },
    /// Runs of one row with one prompt, in the query heads of a key head.
    Streams { runs: &'b [LayerRun<'a>], head: usize },
}

/// `softmax(q kᵀ / √hd) v` of the rows `q[rows, heads · hd]` of all runs, whose new keys and values are in the caches.
///
/// Streams that share a prompt go through its keys and values together. No row depends on which others go with it.
pub(crate) fn attention(q: &[f32], layer: usize, runs: &[Run<'_>], shape: Shape) -> Vec<f32> {
    let mut out = vec![0.0; q.len()];
    let (mut streams, mut others, mut first) = (Vec::new(), Vec::new(), 0);
    for run in runs {
        let (prefix, own) = (run.prefix.map(|cache| cache.layer(layer)), run.own.layer(layer));
        let len = run.ids.len();
        if len == 1 { &mut streams } else { &mut others }.push(LayerRun { first, len, prefix, own });
        first += len;
    }
    let mut tasks = Vec::new();
    for run in others {
        let rows = (0..run.len).step_by(TILE).map(|start| start..run.len.min(start + TILE));
        tasks.extend(
            rows.flat_map(|rows| (0..shape.heads).map(move |head| Task::Tile { run, rows: rows.clone(), head })),
        );
    }
    let address = |run: &LayerRun<'_>| run.prefix.map(std::ptr::from_ref);
    for runs in streams.chunk_by(|a, b| address(a) == address(b)).flat_map(|runs| runs.chunks(STREAMS)) {
        tasks.extend((0..shape.kv).map(|head| Task::Streams { runs, head }));
    }
    let shared = SharedMut::new(&mut out);
    let work: usize = tasks.iter().map(|task| task.work(shape)).sum();
    if work < SERIAL_WORK {
        tasks.iter().for_each(|task| task.run(q, shared, shape));
    } else {
        tasks.par_iter().for_each(|task| task.run(q, shared, shape));
    }
    out
}

impl LayerRun<'_> {
    fn keys(&self) -> usize {
        self.prefix.map_or(0, LayerCache::len) + self.own.len()
    }
}

impl Task<'_, '_> {
    /// Multiply-adds.
    fn work(&self, shape: Shape) -> usize {
        let rows = match self {
            Self::Tile { run, rows, .. } => rows.len() * run.keys(),
            Self::Streams { runs, .. } => runs.iter().map(LayerRun::keys).sum::<usize>() * (shape.heads / shape.kv),
        };
        2 * rows * shape.hd
    }

    fn run(&self, q: &[f32], out: SharedMut<'_>, shape: Shape) {
        match self {
            Self::Tile { run, rows, head } => tile(run, rows.clone(), *head, q, out, shape),
            Self::Streams { runs, head } => streams(runs, *head, q, out, shape),
        }
    }
}

fn tile(run: &LayerRun<'_>, rows: Range<usize>, head: usize, q: &[f32], out: SharedMut<'_>, shape: Shape) {
    let Shape { heads, kv, hd } = shape;
    let (width, count, kv_head) = (heads * hd, rows.len(), head / (heads / kv));
    let at = (run.first + rows.start) * width + head * hd;
    // SAFETY: tiles of one head are disjoint rows, heads are disjoint columns.
    let mut block = unsafe { out.block(at, count, hd, width) };
    let seen = run.own.len() - run.len + rows.end;
    let member = Member { rows: 0..count, own: run.own.seen(seen, kv_head, shape), causal: true };
    let common = run.prefix.map(|prefix| prefix.seen(prefix.len(), kv_head, shape));
    let q = Mat::strided(&q[at..], count, hd, width);
    attend(&mut block, q, common, &[member], scale(hd), |_, _| {});
}

fn streams(runs: &[LayerRun<'_>], kv_head: usize, q: &[f32], out: SharedMut<'_>, shape: Shape) {
    let Shape { heads, kv, hd } = shape;
    let (group, rows) = (heads / kv, runs.len() * (heads / kv));
    let at = |run: &LayerRun<'_>| run.first * heads * hd + kv_head * group * hd;
    let own = runs.iter().map(|run| run.own.seen(run.own.len(), kv_head, shape)).enumerate();
    let members: Vec<Member<'_>> =
        own.map(|(i, own)| Member { rows: i * group..(i + 1) * group, own, causal: false }).collect();
    let common = runs.first().and_then(|run| run.prefix).map(|prefix| prefix.seen(prefix.len(), kv_head, shape));
    ROWS.with_borrow_mut(|[queries, results]| {
        queries.clear();
        runs.iter().for_each(|run| queries.extend_from_slice(&q[at(run)..][..group * hd]));
        results.clear();
        results.resize(rows * hd, 0.0);
        let queries = Mat::new(queries, rows, hd);
        attend(&mut MatMut::new(results, rows, hd), queries, common, &members, scale(hd), |_, _| {});
        for (run, result) in runs.iter().zip(results.chunks_exact(group * hd)) {
            // SAFETY: the groups of heads of different rows and key heads share no element.
            unsafe { out.block(at(run), 1, group * hd, group * hd) }.row(0).copy_from_slice(result);
        }
    });
}

fn scale(hd: usize) -> f32 {
    (hd as f32).sqrt().recip()
}
