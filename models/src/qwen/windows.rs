//! The order in which the vision tower sees image cells, and which cells attend to each other.

use std::ops::Range;

/// Cells (merged 2×2 patches) of some images in window order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// `index[i]` is the row-major cell, counted over all images, that comes `i`-th.
    pub index: Vec<usize>,
    /// Cells of each window, as ranges of `index`.
    pub windows: Vec<Range<usize>>,
    /// Cells of each image, as ranges of `index`.
    pub images: Vec<Range<usize>>,
}

impl Windows {
    /// Windows of `side × side` cells over images of these merged grids (rows, columns), cut at the border.
    pub fn new(grids: &[(usize, usize)], side: usize) -> Self {
        let mut out = Self::default();
        for &(rows, columns) in grids {
            let first = out.index.len();
            for top in (0..rows).step_by(side) {
                for left in (0..columns).step_by(side) {
                    let start = out.index.len();
                    for row in top..rows.min(top + side) {
                        out.index.extend((left..columns.min(left + side)).map(|c| first + row * columns + c));
                    }
                    out.windows.push(start..out.index.len());
                }
            }
            out.images.push(first..out.index.len());
        }
        out
    }

    /// Where each row-major cell comes in window order.
    pub fn inverse(&self) -> Vec<usize> {
        let mut inverse = vec![0; self.index.len()];
        self.index.iter().enumerate().for_each(|(at, &cell)| inverse[cell] = at);
        inverse
    }
}
