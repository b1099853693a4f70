//! The loops of a product on one thread whose right side gives sixteen columns at a time, so that a tile's sums are whole
//! vectors and nothing is folded: packed weights, packed keys, and any matrix whose rows lie together.

use super::BLOCK;
pub(crate) use super::lanes::LANES;
use super::lanes::Lanes;
use super::sets::{Loops, widest};
use crate::ops::gemm::{Mat, MatMut};

/// A right side `[k, columns]` in panels of sixteen columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    data: &'a [f32],
    k: usize,
    columns: usize,
    /// From a row of a panel to the next.
    row: usize,
    /// From a panel to the next.
    panel: usize,
    /// Panels that have all sixteen columns in memory.
    whole: usize,
}

impl<'a> Panels<'a> {
    /// A matrix as it lies.
    pub(crate) fn of(matrix: Mat<'a>) -> Self {
        let (data, row, column) = matrix.lying();
        assert!(column == 1, "columns lie together");
        let (k, columns) = (matrix.row_count(), matrix.col_count());
        Self { data, k, columns, row, panel: LANES, whole: columns / LANES }
    }

    /// Panels `panel` apart that hold `[k, 16]` each, what is missing in the last filled up with anything finite.
    ///
    /// # Panics
    /// If the last panel is outside `data`.
    pub(crate) fn packed(data: &'a [f32], k: usize, columns: usize, panel: usize) -> Self {
        let whole = columns.div_ceil(LANES);
        assert!(whole == 0 || (whole - 1) * panel + k * LANES <= data.len(), "panels outside their slice");
        Self { data, k, columns, row: LANES, panel, whole }
    }

    /// How many columns there are.
    pub(crate) fn col_count(&self) -> usize {
        self.columns
    }
}

/// Puts `row` into lane `lane` of a panel `[row.len(), 16]`.
pub(crate) fn put(panel: &mut [f32], lane: usize, row: &[f32]) {
    panel.iter_mut().skip(lane).step_by(LANES).zip(row).for_each(|(to, from)| *to = *from);
}

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Onto<'a> {
    /// Nothing.
    Zero,
    /// A row, filled up to a whole panel.
    Bias(&'a [f32]),
    /// What is there.
    Present,
}

/// `y = onto + x w` on the calling thread.
///
/// An element depends on its row of `x` and its column of `w` alone: its terms are added one by one in blocks of `BLOCK`, and
/// the blocks in turn.
///
/// # Panics
/// If the shapes do not fit.
pub(crate) fn multiply(y: &mut MatMut<'_>, x: Mat<'_>, w: Panels<'_>, onto: Onto<'_>) {
    widest(Job::new(y, x, w, onto));
}

/// A product to compute.
pub(super) struct Job<'a, 'y> {
    y: &'a mut MatMut<'y>,
    x: *const f32,
    /// From a row of `x` to the next, and from a term to the next.
    strides: (usize, usize),
    w: Panels<'a>,
    onto: Onto<'a>,
}

/// A block of `k`.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
}

impl<'a, 'y> Job<'a, 'y> {
    pub(super) fn new(y: &'a mut MatMut<'y>, x: Mat<'a>, w: Panels<'a>, onto: Onto<'a>) -> Self {
        let fits = x.row_count() == y.row_count() && x.col_count() == w.k && w.columns == y.col_count();
        let bias = !matches!(onto, Onto::Bias(bias) if bias.len() < w.columns.next_multiple_of(LANES));
        assert!(fits && bias, "shapes do not fit");
        let (data, row, term) = x.lying();
        Self { y, x: data.as_ptr(), strides: (row, term), w, onto }
    }
}

impl Loops for Job<'_, '_> {
    #[inline(always)]
    unsafe fn run<L: Lanes, const C1: usize, const R: usize, const C: usize>(mut self) {
        // SAFETY: the caller's promise.
        unsafe { if self.y.row_count() == 1 { self.blocks::<L, 1, C1>() } else { self.blocks::<L, R, C>() } }
    }
}

impl Job<'_, '_> {
    /// # Safety
    /// The instruction set of `L` is there.
    #[inline(always)]
    unsafe fn blocks<L: Lanes, const R: usize, const C: usize>(&mut self) {
        let mut start = 0;
        loop {
            let span = Span { start, len: BLOCK.min(self.w.k - start) };
            let mut panel = 0;
            while panel < self.w.whole {
                let left = self.w.whole - panel;
                // SAFETY: the caller's promise.
                panel += unsafe {
                    match left {
                        _ if left >= C => self.rows::<L, R, C, false>(panel, span),
                        4.. if C > 4 => self.rows::<L, R, 4, false>(panel, span),
                        2.. if C > 2 => self.rows::<L, R, 2, false>(panel, span),
                        _ => self.rows::<L, R, 1, false>(panel, span),
                    }
                };
            }
            if panel * LANES < self.w.columns {
                // SAFETY: the caller's promise.
                unsafe { self.rows::<L, R, 1, true>(panel, span) };
            }
            start += BLOCK;
            if start >= self.w.k {
                return;
            }
        }
    }

    /// All rows against `C` panels; returns `C`.
    ///
    /// # Safety
    /// As [`Self::blocks`].
    #[inline(always)]
    unsafe fn rows<L: Lanes, const R: usize, const C: usize, const CUT: bool>(
        &mut self,
        panel: usize,
        span: Span,
    ) -> usize {
        let m = self.y.row_count();
        let mut i = 0;
        while i < m {
            // As few tiles as can be, of about one height.
            let rows = (m - i).div_ceil((m - i).div_ceil(R));
            // SAFETY: the caller's promise.
            unsafe {
                match rows {
                    6 if R >= 6 => self.tile::<L, 6, C, CUT>(i, panel, span),
                    5 if R >= 5 => self.tile::<L, 5, C, CUT>(i, panel, span),
                    4 if R >= 4 => self.tile::<L, 4, C, CUT>(i, panel, span),
                    3 if R >= 3 => self.tile::<L, 3, C, CUT>(i, panel, span),
                    2 if R >= 2 => self.tile::<L, 2, C, CUT>(i, panel, span),
                    _ => self.tile::<L, 1, C, CUT>(i, panel, span),
                }
            }
            i += rows;
        }
        C
    }

    /// Adds a block to `R` rows of `C` panels; of a panel that is `CUT`, only what counts is touched.
    ///
    /// # Safety
    /// As [`Self::blocks`].
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const C: usize, const CUT: bool>(
        &mut self,
        i: usize,
        panel: usize,
        span: Span,
    ) {
        let (w, (row, term)) = (self.w, self.strides);
        let cut = w.columns - panel * LANES;
        // SAFETY: views were checked against their slices when they were made, and the shapes by `new`: of `x`, rows up to
        // `i + R` have the terms of the block, and so have the panels up to `panel + C`.
        let sums = unsafe {
            let x = self.x.add(i * row + span.start * term);
            let w_start = w.data.as_ptr().add(panel * w.panel + span.start * w.row);
            sums::<L, R, C, CUT>((x, row, term), (w_start, w.row, w.panel), span.len, cut)
        };
        for (r, sums) in sums.into_iter().enumerate() {
            let out = self.y.row(i + r);
            for (c, sum) in sums.into_iter().enumerate() {
                let column = (panel + c) * LANES;
                let width = LANES.min(w.columns - column);
                let out = &mut out[column..column + width];
                // SAFETY: `out` holds `width` numbers, a bias whole panels.
                unsafe {
                    let present = |out: &[f32]| {
                        if width == LANES { L::f32(out.as_ptr()) } else { L::first(out.as_ptr(), width) }
                    };
                    let sum = match self.onto {
                        _ if span.start > 0 => L::add(present(out), sum),
                        Onto::Present => L::add(present(out), sum),
                        Onto::Bias(bias) => L::add(L::f32(bias.as_ptr().add(column)), sum),
                        Onto::Zero => sum,
                    };
                    if width == LANES {
                        L::store(sum, out.as_mut_ptr());
                    } else {
                        L::store_first(sum, out.as_mut_ptr(), width);
                    }
                }
            }
        }
    }
}

/// `Σ x[r][l] w[c][l]` over `len` terms, for [`LANES`] columns of each panel `c`; of a panel that is `CUT`, `cut` columns.
///
/// Both operands come with their strides: rows and terms of `x`, terms and panels of `w`.
///
/// # Safety
/// The instruction set of `L` is there. `x` is good for `R` rows of `len` terms, `w` for `C` panels of `len` terms.
#[inline(always)]
unsafe fn sums<L: Lanes, const R: usize, const C: usize, const CUT: bool>(
    (x, row, term): (*const f32, usize, usize),
    (w, next, panel): (*const f32, usize, usize),
    len: usize,
    cut: usize,
) -> [[L::V; C]; R] {
    // SAFETY: every load is of a term below `len`.
    unsafe {
        let mut acc = [[L::zero(); C]; R];
        for l in 0..len {
            let mut columns = [L::zero(); C];
            for (c, column) in columns.iter_mut().enumerate() {
                let from = w.add(c * panel + l * next);
                *column = if CUT { L::first(from, cut) } else { L::f32(from) };
            }
            for (r, sums) in acc.iter_mut().enumerate() {
                let x = L::splat(*x.add(r * row + l * term));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = L::fma(x, column, *sum);
                }
            }
        }
        acc
    }
}
