//! A frame: its components with their samples, and for progressive files the coefficients until all scans are read.

use super::entropy::Block;
use super::scan::Tables;
use super::{Problem, Result, idct};

/// Size and sampling, from a frame header.
pub(super) struct Shape {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Identifier, samples in x, samples in y, quantisation table.
    parts: Vec<(u8, usize, usize, usize)>,
}

impl Shape {
    /// Reads what follows the length of a frame header.
    pub(super) fn read(body: &[u8]) -> Result<Self> {
        let [bits, h1, h0, w1, w0, count, parts @ ..] = body else { return Err(BAD_HEADER) };
        if *bits != 8 {
            return Err(Problem::Unsupported("samples of more than 8 bits"));
        }
        let (width, height) = (u16::from_be_bytes([*w1, *w0]), u16::from_be_bytes([*h1, *h0]));
        let count = usize::from(*count);
        if height == 0 {
            return Err(Problem::Unsupported("a height that is told after the pixels"));
        }
        if width == 0 || parts.len() != 3 * count {
            return Err(BAD_HEADER);
        }
        if ![1, 3, 4].contains(&count) {
            return Err(Problem::Unsupported("colours of 2 components or of more than 4"));
        }
        let part = |part: &[u8; 3]| {
            let (x, y) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            let table = usize::from(part[2]);
            if (1..=4).contains(&x) && (1..=4).contains(&y) && table < 4 {
                Ok((part[0], x, y, table))
            } else {
                Err(BAD_HEADER)
            }
        };
        let parts = parts.as_chunks::<3>().0.iter().map(part).collect::<Result<_>>()?;
        Ok(Self { width: usize::from(width), height: usize::from(height), parts })
    }

    /// Blocks of 8×8 samples that the file has codes for, at least.
    pub(super) fn blocks(&self) -> usize {
        let (most_x, most_y) = self.sampling();
        let of = |&(_, x, y, _): &(u8, usize, usize, usize)| {
            (self.width * x).div_ceil(8 * most_x) * (self.height * y).div_ceil(8 * most_y)
        };
        self.parts.iter().map(of).sum()
    }

    /// Most samples of a component in x and y.
    fn sampling(&self) -> (usize, usize) {
        let most = |side: fn(&(u8, usize, usize, usize)) -> usize| self.parts.iter().map(side).max().unwrap_or(1);
        (most(|part| part.1), most(|part| part.2))
    }
}

const BAD_HEADER: Problem = Problem::Broken("its frame header contradicts itself");

/// One component.
pub(super) struct Component {
    pub(super) id: u8,
    /// Samples in x and y of an MCU, in blocks.
    pub(super) sampling: (usize, usize),
    /// Samples that belong to the picture.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks in a row and in a column, whole MCUs.
    pub(super) blocks: (usize, usize),
    /// Samples, [`Self::stride`] in a row.
    pub(super) samples: Vec<u8>,
    /// Coefficients of a progressive file.
    coefficients: Vec<i16>,
    table: usize,
    /// The table as it was when the component's first scan began.
    quantization: Option<[u16; 64]>,
}

impl Component {
    /// Samples from a row to the next.
    pub(super) fn stride(&self) -> usize {
        8 * self.blocks.0
    }

    /// Notes the quantisation table, at the component's first scan.
    pub(super) fn start_scan(&mut self, tables: &Tables) -> Result<()> {
        if self.quantization.is_none() {
            self.quantization = tables.quantization[self.table];
        }
        match self.quantization {
            Some(_) => Ok(()),
            None => Err(Problem::Broken("a quantisation table is missing")),
        }
    }

    /// Coefficients of a block of a progressive file.
    pub(super) fn block(&mut self, x: usize, y: usize) -> Option<&mut Block> {
        let index = y * self.blocks.0 + x;
        self.coefficients.as_chunks_mut::<64>().0.get_mut(index)
    }

    /// Writes a block's samples.
    pub(super) fn write(&mut self, x: usize, y: usize, block: &Block) {
        let stride = self.stride();
        let start = 8 * (y * stride + x);
        if let (Some(table), Some(out)) = (&self.quantization, self.samples.get_mut(start..)) {
            idct::inverse(block, table, out, stride);
        }
    }
}

/// A picture being read.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) progressive: bool,
    /// Most samples of a component in x and y.
    pub(super) sampling: (usize, usize),
    pub(super) components: Vec<Component>,
}

impl Frame {
    /// With room for the samples.
    pub(super) fn new(shape: Shape, progressive: bool) -> Self {
        let sampling = shape.sampling();
        let mcus = (shape.width.div_ceil(8 * sampling.0), shape.height.div_ceil(8 * sampling.1));
        let component = |&(id, x, y, table): &(u8, usize, usize, usize)| {
            let blocks = (mcus.0 * x, mcus.1 * y);
            let len = 64 * blocks.0 * blocks.1;
            Component {
                id,
                sampling: (x, y),
                width: (shape.width * x).div_ceil(sampling.0),
                height: (shape.height * y).div_ceil(sampling.1),
                blocks,
                samples: vec![0; if progressive { 0 } else { len }],
                coefficients: vec![0; if progressive { len } else { 0 }],
                table,
                quantization: None,
            }
        };
        let components = shape.parts.iter().map(component).collect();
        Self { width: shape.width, height: shape.height, progressive, sampling, components }
    }

    /// Turns the coefficients of a progressive file into samples. Every component must have had a scan.
    pub(super) fn finish(&mut self) -> Result<()> {
        for component in &mut self.components {
            if component.quantization.is_none() {
                return Err(Problem::Broken("a colour has no pixels"));
            }
            if !self.progressive {
                continue;
            }
            let coefficients = std::mem::take(&mut component.coefficients);
            component.samples = vec![0; coefficients.len()];
            for (i, block) in coefficients.as_chunks::<64>().0.iter().enumerate() {
                component.write(i % component.blocks.0, i / component.blocks.0, block);
            }
        }
        Ok(())
    }
}
