//! Matrix products of slices, on the `gemm` crate: strided views, a fixed split of the output
//! over rayon's threads, and results that do not depend on the batch.
//!
//! What holds, bit for bit (tested):
//! * a product is the same at every number of threads: each tile is one single-threaded product over all of `k`. How
//!   many rows a tile has goes by the threads, where columns are cut goes by the sizes alone;
//! * a row of the result does not depend on the other rows, nor on how many there are, for
//!   `n >= 2`: `k` is cut every 512 terms whatever the other sizes, and the `gemm` crate's
//!   special paths for one row and for tiny outputs, which add in another order, are avoided.

use std::marker::PhantomData;

use rayon::prelude::*;

/// Length of the inner sums: `k` is cut here, always.
const K_BLOCK: usize = 512;
/// Below this many multiply-adds a product runs on the calling thread (about 8 us).
const SERIAL_WORK: usize = 1 << 20;
/// Multiply-adds of a tile of rows, at most (about 1 ms of one core). Each tile packs all of `b` anew, so few large ones
/// are best, as many for each thread.
const ROW_TILE_WORK: usize = 1 << 28;
/// Rows of such a tile, at least.
const TILE_ROWS: usize = 64;
/// Multiply-adds of a tile of columns, about (35 us of one core).
const COLUMN_TILE_WORK: usize = 1 << 22;
/// Tiles of columns, at most.
const MAX_TILES: usize = 32;
/// Outputs this small take a special path of the `gemm` crate.
const TINY_OUTPUT: usize = 256;

/// A matrix seen in a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A row-major matrix `[rows, cols]`.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows begin `row_stride` apart, such as one head of `[T, heads * hd]`.
    ///
    /// # Panics
    /// If the last element is outside `data`.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(extent(rows, cols, row_stride, 1) <= data.len(), "matrix view outside its slice");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, as a view.
    #[must_use]
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// `count` rows from `start` on, as a view.
    #[must_use]
    pub fn rows(self, start: usize, count: usize) -> Self {
        assert!(start + count <= self.rows, "rows outside the matrix");
        let offset = if count == 0 { 0 } else { start * self.row_stride };
        Self { data: &self.data[offset..], rows: count, ..self }
    }

    /// How many rows there are.
    pub fn row_count(self) -> usize {
        self.rows
    }

    /// How many columns there are.
    pub fn col_count(self) -> usize {
        self.cols
    }

    /// Row `i`, where rows lie together in memory.
    pub(crate) fn row(&self, i: usize) -> &'a [f32] {
        assert!(i < self.rows && self.col_stride == 1, "no such row");
        &self.data[i * self.row_stride..][..self.cols]
    }

    /// The elements from the first on, and how far rows and columns are apart.
    pub(crate) fn lying(&self) -> (&'a [f32], usize, usize) {
        (self.data, self.row_stride, self.col_stride)
    }

    fn cols(self, start: usize, count: usize) -> Self {
        self.t().rows(start, count).t()
    }
}

/// A matrix to write: like [`Mat`], but several may interleave in one slice.
#[derive(Debug)]
pub struct MatMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `MatMut` is the only way to its elements for its lifetime, like a `&mut [f32]`.
unsafe impl Send for MatMut<'_> {}

impl<'a> MatMut<'a> {
    /// A row-major matrix `[rows, cols]`.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * cols`.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows begin `row_stride` apart.
    ///
    /// # Panics
    /// If the last element is outside `data`.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(extent(rows, cols, row_stride, 1) <= data.len(), "matrix view outside its slice");
        assert!(row_stride >= cols || rows <= 1, "rows overlap");
        Self { data: data.as_mut_ptr(), rows, cols, row_stride, slice: PhantomData }
    }

    /// How many rows there are.
    pub(crate) fn row_count(&self) -> usize {
        self.rows
    }

    /// How many columns there are.
    pub(crate) fn col_count(&self) -> usize {
        self.cols
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn rows(&mut self, range: std::ops::Range<usize>) -> MatMut<'_> {
        assert!(range.start <= range.end && range.end <= self.rows, "rows outside the matrix");
        let data = self.data.wrapping_add(range.start * self.row_stride);
        MatMut { data, rows: range.len(), cols: self.cols, row_stride: self.row_stride, slice: PhantomData }
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows, "no such row");
        // SAFETY: the row lies inside the view, which is borrowed mutably for the slice's lifetime.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(i * self.row_stride), self.cols) }
    }
}

/// A slice that several threads write, each its own strided block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedMut<'a> {
    data: *mut f32,
    len: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: only `SharedMut::block` reaches the elements, and its contract forbids sharing one.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    pub(crate) fn new(data: &'a mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), slice: PhantomData }
    }

    /// The matrix `[rows, cols]` that begins at `offset`, rows `row_stride` apart.
    ///
    /// # Safety
    /// Blocks alive at the same time must not share an element.
    pub(crate) unsafe fn block(self, offset: usize, rows: usize, cols: usize, row_stride: usize) -> MatMut<'a> {
        assert!(offset + extent(rows, cols, row_stride, 1) <= self.len, "block outside the slice");
        MatMut { data: self.data.wrapping_add(offset), rows, cols, row_stride, slice: PhantomData }
    }
}

/// Elements from the first to the last of a strided matrix.
fn extent(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + (cols - 1) * col_stride + 1 }
}

/// `dst = a b`, or `dst += a b` when `accumulate`, on rayon's threads: `[m, n] = [m, k] [k, n]`.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul(mut dst: MatMut<'_>, a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    let (m, n, k) = (dst.rows, dst.cols, a.cols);
    let (tile_m, tile_n) = tile(m, n, k);
    if tile_m >= m && tile_n >= n {
        return matmul_serial(&mut dst, a, b, accumulate);
    }
    check(&dst, a, b);
    let tiles_n = n.div_ceil(tile_n);
    let shared = SharedMut { data: dst.data, len: extent(m, n, dst.row_stride, 1), slice: PhantomData };
    (0..m.div_ceil(tile_m) * tiles_n).into_par_iter().with_max_len(1).for_each(|i| {
        let (row, col) = (i / tiles_n * tile_m, i % tiles_n * tile_n);
        let (rows, cols) = (tile_m.min(m - row), tile_n.min(n - col));
        // SAFETY: the tiles partition the output, so no two blocks share an element.
        let mut block = unsafe { shared.block(row * dst.row_stride + col, rows, cols, dst.row_stride) };
        matmul_serial(&mut block, a.rows(row, rows), b.cols(col, cols), accumulate);
    });
}

/// Appends the rows of `a b` to `out`, where they are written once and not cleared before.
///
/// # Panics
/// If the shapes do not fit.
pub fn append_product(out: &mut Vec<f32>, a: Mat<'_>, b: Mat<'_>) {
    let (m, n, start) = (a.rows, b.cols, out.len());
    if m * n == 0 || a.cols == 0 {
        return out.resize(start + m * n, 0.0);
    }
    out.reserve(m * n);
    let data = out.spare_capacity_mut().as_mut_ptr().cast();
    matmul(MatMut { data, rows: m, cols: n, row_stride: n, slice: PhantomData }, a, b, false);
    // SAFETY: the memory was reserved, and a product that does not accumulate writes every element and reads none before.
    unsafe { out.set_len(start + m * n) };
}

/// Rows and columns of a tile.
fn tile(m: usize, n: usize, k: usize) -> (usize, usize) {
    let work = m * n * k;
    if work < SERIAL_WORK {
        return (m, n);
    }
    if m >= n || n < 128 {
        let threads = rayon::current_num_threads();
        let tiles = threads * work.div_ceil(threads * ROW_TILE_WORK);
        return (m.div_ceil(tiles).max(TILE_ROWS), n);
    }
    let tiles = (work / COLUMN_TILE_WORK).next_multiple_of(2).clamp(2, MAX_TILES);
    (m, (n.div_ceil(tiles) / 64 * 64).max(64))
}

fn check(dst: &MatMut<'_>, a: Mat<'_>, b: Mat<'_>) {
    assert!(
        dst.rows == a.rows && dst.cols == b.cols && a.cols == b.rows,
        "product of {}x{} and {}x{} into {}x{}",
        a.rows,
        a.cols,
        b.rows,
        b.cols,
        dst.rows,
        dst.cols
    );
}

/// [`matmul`] on the calling thread, with the same results.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul_serial(dst: &mut MatMut<'_>, a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    check(dst, a, b);
    let tiny = dst.rows * dst.cols <= TINY_OUTPUT && a.col_stride == 1 && b.row_stride == 1;
    if dst.rows == 1 || tiny { few_rows(dst, a, b, accumulate) } else { blocks(dst, a, b, accumulate) }
}

/// The product over blocks of `k`, each one call of the `gemm` crate.
fn blocks(dst: &mut MatMut<'_>, a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    let (m, n, k) = (dst.rows, dst.cols, a.cols);
    let mut start = 0;
    loop {
        let len = K_BLOCK.min(k - start);
        let (a, b) = (a.cols(start, len), b.rows(start, len));
        // SAFETY: `check` compared the shapes and every view was checked against its slice; the
        // output is borrowed mutably, so it does not overlap the inputs.
        unsafe {
            gemm::gemm(
                m,
                n,
                len,
                dst.data,
                1,
                dst.row_stride as isize,
                accumulate || start > 0,
                a.data.as_ptr(),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr(),
                b.col_stride as isize,
                b.row_stride as isize,
                1.0f32,
                1.0f32,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
        start += len;
        if start >= k {
            return;
        }
    }
}

/// The product of few rows, laid out so that the `gemm` crate takes its usual path: `a` goes
/// in column-major and is at least two rows.
fn few_rows(dst: &mut MatMut<'_>, a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    let (m, n, k) = (dst.rows, dst.cols, a.cols);
    let padded = m.max(2);
    let mut columns = vec![0.0; padded * k];
    for j in 0..k {
        for i in 0..m {
            columns[j * padded + i] = a.data[i * a.row_stride + j * a.col_stride];
        }
    }
    let a = Mat::new(&columns, k, padded).t();
    if padded == m {
        return blocks(dst, a, b, accumulate);
    }
    let mut out = vec![0.0; padded * n];
    if accumulate && m > 0 {
        out[..n].copy_from_slice(dst.row(0));
    }
    blocks(&mut MatMut::new(&mut out, padded, n), a, b, accumulate);
    for (i, row) in out.chunks_exact(n).take(m).enumerate() {
        // SAFETY: the row lies inside the view; it may be memory that was never written, so no slice is made of it.
        unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), dst.data.add(i * dst.row_stride), n) };
    }
}
