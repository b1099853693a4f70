//! The loops of a product on one thread: tiles of the result, whose sums stay in registers over a block of `k`.

use super::BLOCK;
use super::lanes::{Element, LANES, Lanes};
use super::sets::{Loops, widest};
use crate::ops::gemm::MatMut;

/// `y[i, j] = b[j] + Σ x[i, k] w[j, k]` by the widest instruction set found at run time; rows of `x` and `w` lie together.
pub(super) fn product<E: Element>(y: &mut MatMut<'_>, x: &[f32], w: &[E], bias: Option<&[f32]>, k: usize) {
    widest(Job::new(y, x, w, bias, k));
}

/// A product to compute; the sizes are rows of `x`, rows of `w`, and `k`.
pub(super) struct Job<'a, 'y, E> {
    y: &'a mut MatMut<'y>,
    x: &'a [f32],
    w: &'a [E],
    bias: Option<&'a [f32]>,
    sizes: (usize, usize, usize),
}

/// A block of `k`.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
}

impl<'a, 'y, E: Element> Job<'a, 'y, E> {
    pub(super) fn new(y: &'a mut MatMut<'y>, x: &'a [f32], w: &'a [E], bias: Option<&'a [f32]>, k: usize) -> Self {
        let (m, n) = (y.row_count(), y.col_count());
        assert!(x.len() == m * k && w.len() == n * k && bias.is_none_or(|b| b.len() == n), "shapes do not fit");
        Self { y, x, w, bias, sizes: (m, n, k) }
    }

    /// # Safety
    /// The instruction set of `L` is there.
    #[inline(always)]
    unsafe fn blocks<L: Lanes, const R: usize, const C: usize>(&mut self) {
        let (m, n, k) = self.sizes;
        let mut start = 0;
        loop {
            let span = Span { start, len: BLOCK.min(k - start) };
            let mut j = 0;
            while j < n {
                let mut i = 0;
                while i < m {
                    // As few tiles as can be, of about one height.
                    let rows = (m - i).div_ceil((m - i).div_ceil(R));
                    // SAFETY: the caller's promise.
                    unsafe {
                        match rows {
                            1 => self.tile::<L, 1, C>(i, j, span),
                            2 => self.tile::<L, 2, C>(i, j, span),
                            3 => self.tile::<L, 3, C>(i, j, span),
                            4 => self.tile::<L, 4, C>(i, j, span),
                            5 => self.tile::<L, 5, C>(i, j, span),
                            _ => self.tile::<L, 6, C>(i, j, span),
                        }
                    }
                    i += rows;
                }
                j += C;
            }
            start += BLOCK;
            if start >= k {
                return;
            }
        }
    }

    /// Adds a block to the tile at `(i, j)`. A tile that stands over the right edge computes its last column again.
    ///
    /// # Safety
    /// The instruction set of `L` is there.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const C: usize>(&mut self, i: usize, j: usize, span: Span) {
        let (_, n, k) = self.sizes;
        let (mut x, mut w) = ([self.x.as_ptr(); R], [self.w.as_ptr(); C]);
        for (r, x) in x.iter_mut().enumerate() {
            *x = x.wrapping_add((i + r) * k + span.start);
        }
        for (c, w) in w.iter_mut().enumerate() {
            *w = w.wrapping_add((j + c).min(n - 1) * k + span.start);
        }
        // SAFETY: each pointer is at `span.start` of a row, and the rest of the row has `span.len` elements at least.
        let sums = unsafe { sums::<L, E, R, C>(x, w, span.len) };
        for (r, sums) in sums.iter().enumerate() {
            let row = &mut self.y.row(i + r)[j..];
            for (c, (y, sum)) in row.iter_mut().zip(sums).enumerate() {
                *y = match self.bias {
                    _ if span.start > 0 => *y + sum,
                    Some(bias) => bias[j + c] + sum,
                    None => *sum,
                };
            }
        }
    }
}

impl<E: Element> Loops for Job<'_, '_, E> {
    #[inline(always)]
    unsafe fn run<L: Lanes, const C1: usize, const R: usize, const C: usize>(mut self) {
        // SAFETY: the caller's promise.
        unsafe { if self.sizes.0 == 1 { self.blocks::<L, 1, C1>() } else { self.blocks::<L, R, C>() } }
    }
}

/// `Σ x[r][k] w[c][k]` over `len` terms.
///
/// # Safety
/// The instruction set of `L` is there, and the pointers are good for `len` elements.
#[inline(always)]
unsafe fn sums<L: Lanes, E: Element, const R: usize, const C: usize>(
    x: [*const f32; R],
    w: [*const E; C],
    len: usize,
) -> [[f32; C]; R] {
    let whole = len / LANES * LANES;
    // SAFETY: every load is of `LANES` elements below `len`, or from an array that holds as many.
    unsafe {
        let mut acc = [[L::zero(); C]; R];
        let mut k = 0;
        while k < whole {
            step::<L, E, R, C>(&mut acc, x, w, k);
            k += LANES;
        }
        if whole < len {
            let (mut x_rest, mut w_rest) = ([[0.0; LANES]; R], [[E::ZERO; LANES]; C]);
            for r in 0..R {
                std::ptr::copy_nonoverlapping(x[r].add(whole), x_rest[r].as_mut_ptr(), len - whole);
            }
            for c in 0..C {
                std::ptr::copy_nonoverlapping(w[c].add(whole), w_rest[c].as_mut_ptr(), len - whole);
            }
            let (mut x, mut w) = (x, w);
            for r in 0..R {
                x[r] = x_rest[r].as_ptr();
            }
            for c in 0..C {
                w[c] = w_rest[c].as_ptr();
            }
            step::<L, E, R, C>(&mut acc, x, w, 0);
        }
        let mut out = [[0.0; C]; R];
        for r in 0..R {
            out[r] = L::sums(acc[r]);
        }
        out
    }
}

/// # Safety
/// As [`sums`], for `LANES` elements from `k` on.
#[inline(always)]
unsafe fn step<L: Lanes, E: Element, const R: usize, const C: usize>(
    acc: &mut [[L::V; C]; R],
    x: [*const f32; R],
    w: [*const E; C],
    k: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut weights = [L::zero(); C];
        for c in 0..C {
            weights[c] = E::load::<L>(w[c].add(k));
        }
        for r in 0..R {
            let row = L::f32(x[r].add(k));
            for c in 0..C {
                acc[r][c] = L::fma(row, weights[c], acc[r][c]);
            }
        }
    }
}
