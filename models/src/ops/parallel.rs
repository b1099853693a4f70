//! Splits rows over rayon's threads in chunks that depend on the sizes alone.

use rayon::prelude::*;

/// Elements of a chunk, about; large enough to hide the hand-over, small enough for the L1 cache.
const CHUNK: usize = 8192;
/// Below this many elements a loop runs on the calling thread.
const SERIAL: usize = 32_768;

/// Rows of a chunk of a matrix `width` wide.
pub(crate) fn chunk_rows(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// Calls `f(first_row, rows)` for fixed chunks of the rows of `out`, in parallel.
pub(crate) fn for_rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = chunk_rows(width);
    let len = (rows * width).max(1);
    if out.len() < SERIAL {
        out.chunks_mut(len).enumerate().for_each(|(i, chunk)| f(i * rows, chunk));
    } else {
        out.par_chunks_mut(len).enumerate().for_each(|(i, chunk)| f(i * rows, chunk));
    }
}

/// Calls `f(i, a_i, b_i)` for the chunks of `rows` rows of two outputs, in parallel.
pub(crate) fn for_rows2(
    (a, width_a): (&mut [f32], usize),
    (b, width_b): (&mut [f32], usize),
    rows: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let (len_a, len_b) = ((rows * width_a).max(1), (rows * width_b).max(1));
    let call = |(i, (a, b)): (usize, (&mut [f32], &mut [f32]))| f(i, a, b);
    if a.len() < SERIAL {
        a.chunks_mut(len_a).zip(b.chunks_mut(len_b)).enumerate().for_each(call);
    } else {
        a.par_chunks_mut(len_a).zip(b.par_chunks_mut(len_b)).enumerate().for_each(call);
    }
}

/// `dst += src`, in parallel.
pub(crate) fn accumulate(dst: &mut [f32], src: &[f32]) {
    for_rows(dst, 1, |start, dst| {
        for (d, s) in dst.iter_mut().zip(&src[start..]) {
            *d += s;
        }
    });
}
