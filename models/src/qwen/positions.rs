//! M-RoPE positions: text runs on all three axes, an image spreads over height and width.

/// Positions of a run of tokens on the axes time, height and width, and where the next token goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Time, height, width; one value a token.
    pub axes: [Vec<u32>; 3],
    /// Position of the token after the last, on all axes.
    pub next: u32,
}

/// An image's tokens: `start` (relative to the run), rows and columns of the merged grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridSpan {
    /// First image token.
    pub start: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Positions {
    /// Appends a run of `len` tokens with its images, in order of position.
    ///
    /// Extending a conversation run by run gives what the whole at once gives (transformers' `get_rope_index`):
    /// an image that starts at `p` has `t = p, h = p + row, w = p + column`, and text goes on at
    /// `p + max(rows, columns)`.
    pub fn extend(&mut self, len: usize, images: &[GridSpan]) {
        let mut at = 0;
        for image in images {
            self.text(image.start - at);
            let base = self.next;
            for row in 0..image.rows as u32 {
                for column in 0..image.columns as u32 {
                    self.push([base, base + row, base + column]);
                }
            }
            self.next = base + image.rows.max(image.columns) as u32;
            at = image.start + image.rows * image.columns;
        }
        self.text(len - at);
    }

    /// Number of tokens so far.
    pub fn len(&self) -> usize {
        self.axes[0].len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn text(&mut self, count: usize) {
        for _ in 0..count {
            self.push([self.next; 3]);
            self.next += 1;
        }
    }

    fn push(&mut self, position: [u32; 3]) {
        for (axis, value) in self.axes.iter_mut().zip(position) {
            axis.push(value);
        }
    }
}
