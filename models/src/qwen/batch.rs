//! Sequences packed into one pass: no padding, a shared prompt once, every distinct image once.

use std::sync::Arc;

use image::RgbImage;
use imagent_core::derive;

use super::positions::{GridSpan, Positions};
use crate::error::Result;
use crate::ops::attention::{AttentionPlan, Segment};

/// An image of a [`Sequence`].
#[derive(Clone, Debug)]
pub struct SequenceImage {
    /// Its tokens.
    pub span: GridSpan,
    /// Its pixels; two images are the same when this is the same allocation.
    pub pixels: Arc<RgbImage>,
}

/// A token to score: its id, and the row whose hidden state predicts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Position within the sequence; a token at `p` is predicted at `p − 1`.
    pub row: usize,
    /// Token id.
    pub id: u32,
    /// Whether tokens that are never sampled are left out of the distribution.
    pub suppress: bool,
}

/// One sequence to run.
#[derive(Clone, Debug)]
pub struct Sequence<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// Images in order of position.
    pub images: Vec<SequenceImage>,
    /// Tokens that the sequence before may share; 0 shares nothing.
    pub prompt_len: usize,
    /// Tokens to score, in order.
    pub targets: Vec<Target>,
}

impl Sequence<'_> {
    /// Rows that matter: up to the last target, never ending inside an image.
    fn used(&self) -> usize {
        let last = self.targets.iter().map(|target| target.row + 1).max().unwrap_or(self.ids.len());
        let end_of = |image: &SequenceImage| image.span.start + image.span.rows * image.span.columns;
        let cut = self.images.iter().filter(|image| image.span.start < last).map(end_of).max();
        last.max(cut.unwrap_or(0)).max(self.prompt_len).min(self.ids.len())
    }

    fn shares_prompt(&self, other: &Self) -> bool {
        let len = self.prompt_len;
        let images = |s: &Self| -> Vec<*const RgbImage> {
            s.images.iter().take_while(|i| i.span.start < len).map(|i| Arc::as_ptr(&i.pixels)).collect()
        };
        len > 0 && len == other.prompt_len && self.ids[..len] == other.ids[..len] && images(self) == images(other)
    }
}

/// Sequences as one pass over `rows` tokens.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Token ids.
    pub ids: Vec<usize>,
    /// M-RoPE positions.
    pub axes: [Vec<u32>; 3],
    /// Who sees whom.
    pub plan: Arc<AttentionPlan>,
    /// A name for each row: a hash of its token and of those before it, whatever the pass it is in.
    pub row_keys: Vec<u64>,
    /// Distinct images.
    pub images: Vec<Arc<RgbImage>>,
    /// Rows that are image tokens.
    pub image_rows: Vec<usize>,
    /// For each of them, distinct image and its cell.
    pub image_cells: Vec<(usize, usize)>,
    /// For each target: row of the pass, id, whether to suppress.
    pub targets: Vec<Target>,
}

impl Packed {
    /// Packs sequences; neighbours that share their prompt compute it once, exactly.
    pub fn new(sequences: &[Sequence<'_>]) -> Result<Self> {
        let mut builder = Builder::default();
        for (i, sequence) in sequences.iter().enumerate() {
            if i == 0 || !sequence.shares_prompt(&sequences[i - 1]) {
                builder.prompt(sequence);
            }
            builder.branch(sequence);
        }
        let rows = builder.ids.len();
        Ok(Self {
            ids: builder.ids,
            axes: builder.axes,
            plan: Arc::new(AttentionPlan::new(builder.segments, rows)?),
            row_keys: builder.row_keys,
            images: builder.images,
            image_rows: builder.image_rows,
            image_cells: builder.image_cells,
            targets: builder.targets,
        })
    }
}

#[derive(Default)]
struct Builder {
    ids: Vec<usize>,
    axes: [Vec<u32>; 3],
    segments: Vec<Segment>,
    row_keys: Vec<u64>,
    images: Vec<Arc<RgbImage>>,
    image_rows: Vec<usize>,
    image_cells: Vec<(usize, usize)>,
    targets: Vec<Target>,
    prefix: std::ops::Range<usize>,
}

impl Builder {
    fn prompt(&mut self, sequence: &Sequence<'_>) {
        self.prefix = self.rows(sequence, 0..sequence.prompt_len);
        self.segment(self.prefix.clone(), 0..0);
    }

    fn branch(&mut self, sequence: &Sequence<'_>) {
        let prompt = sequence.prompt_len;
        let own = self.rows(sequence, prompt..sequence.used());
        self.segment(own.clone(), self.prefix.clone());
        let prefix = self.prefix.start;
        self.targets.extend(sequence.targets.iter().map(|target| {
            let row = if target.row < prompt { prefix + target.row } else { own.start + target.row - prompt };
            Target { row, ..*target }
        }));
    }

    fn segment(&mut self, queries: std::ops::Range<usize>, prefix: std::ops::Range<usize>) {
        if !queries.is_empty() {
            self.segments.push(Segment { queries, prefix, causal: true });
        }
    }

    /// Appends the tokens `range` of a sequence; returns their rows.
    fn rows(&mut self, sequence: &Sequence<'_>, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let start = self.ids.len();
        self.ids.extend(sequence.ids[range.clone()].iter().map(|&id| id as usize));
        let mut key = 0;
        for (i, &id) in sequence.ids[..range.end].iter().enumerate() {
            key = derive(key, &[u64::from(id)]);
            if i >= range.start {
                self.row_keys.push(key);
            }
        }
        let spans: Vec<GridSpan> = sequence.images.iter().map(|image| image.span).collect();
        let mut positions = Positions::default();
        positions.extend(sequence.ids.len(), &spans);
        for (all, axis) in self.axes.iter_mut().zip(&positions.axes) {
            all.extend_from_slice(&axis[range.clone()]);
        }
        for image in sequence.images.iter().filter(|image| range.contains(&image.span.start)) {
            let index = self.image(&image.pixels);
            for cell in 0..image.span.rows * image.span.columns {
                self.image_rows.push(start + image.span.start - range.start + cell);
                self.image_cells.push((index, cell));
            }
        }
        start..self.ids.len()
    }

    fn image(&mut self, pixels: &Arc<RgbImage>) -> usize {
        let known = self.images.iter().position(|image| Arc::ptr_eq(image, pixels));
        known.unwrap_or_else(|| {
            self.images.push(Arc::clone(pixels));
            self.images.len() - 1
        })
    }
}
