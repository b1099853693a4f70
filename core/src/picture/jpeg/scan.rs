//! Scans: which blocks of which components come in which order.

use super::entropy::{Bits, Block, ZIGZAG};
use super::frame::{Component, Frame};
use super::huffman::Huffman;
use super::{Problem, Result};

/// Tables that scans refer to, as far as the file has been read.
#[derive(Default)]
pub(super) struct Tables {
    /// Steps of the coefficients, row by row.
    pub(super) quantization: [Option<[u16; 64]>; 4],
    /// MCUs between restart markers; 0 for none.
    pub(super) restart_interval: usize,
    /// For first coefficients, then for the others.
    huffman: [[Option<Huffman>; 4]; 2],
}

const BAD_TABLE: Problem = Problem::Broken("a table has a wrong length");
const NO_TABLE: Problem = Problem::Broken("a Huffman table is missing");
const BAD_SCAN: Problem = Problem::Broken("a scan header contradicts the frame");

impl Tables {
    /// Reads a segment of quantisation tables.
    pub(super) fn read_quantization(&mut self, mut body: &[u8]) -> Result<()> {
        while let [head, rest @ ..] = body {
            let wide = head >> 4 > 0;
            let (steps, rest) = rest.split_at_checked(if wide { 128 } else { 64 }).ok_or(BAD_TABLE)?;
            let table = self.quantization.get_mut(usize::from(head & 15)).ok_or(BAD_TABLE)?.get_or_insert([0; 64]);
            for (k, &place) in ZIGZAG.iter().enumerate() {
                table[usize::from(place)] =
                    if wide { u16::from_be_bytes([steps[2 * k], steps[2 * k + 1]]) } else { u16::from(steps[k]) };
            }
            body = rest;
        }
        Ok(())
    }

    /// Reads a segment of Huffman tables.
    pub(super) fn read_huffman(&mut self, mut body: &[u8]) -> Result<()> {
        while let [head, rest @ ..] = body {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(BAD_TABLE)?;
            let symbols = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(symbols).ok_or(BAD_TABLE)?;
            let kind = self.huffman.get_mut(usize::from(head >> 4)).ok_or(BAD_TABLE)?;
            *kind.get_mut(usize::from(head & 15)).ok_or(BAD_TABLE)? = Some(Huffman::new(counts, symbols)?);
            body = rest;
        }
        Ok(())
    }
}

/// A component's part in a scan.
struct Part<'t> {
    component: usize,
    first: Option<&'t Huffman>,
    rest: Option<&'t Huffman>,
    /// First coefficient of the block before.
    before: i32,
}

/// Which coefficients and which of their bits a scan has.
struct Band {
    from: usize,
    to: usize,
    /// The bit before, 0 in the first scan of a band.
    high: u32,
    /// The lowest bit of this scan.
    low: u32,
}

struct Scan<'t> {
    parts: Vec<Part<'t>>,
    band: Band,
}

/// Decodes a scan from its header and the bytes behind it. Returns how many of those it took.
pub(super) fn decode(frame: &mut Frame, tables: &Tables, header: &[u8], data: &[u8]) -> Result<usize> {
    let mut scan = Scan::read(frame, tables, header)?;
    for part in &scan.parts {
        frame.components[part.component].start_scan(tables)?;
    }
    let mut bits = Bits::new(data);
    let single = match scan.parts.as_slice() {
        [part] => Some(part.component),
        _ => None,
    };
    let (columns, rows) = match single.map(|i| &frame.components[i]) {
        Some(component) => (component.width.div_ceil(8), component.height.div_ceil(8)),
        None => frame.components.first().map_or((0, 0), |c| (c.blocks.0 / c.sampling.0, c.blocks.1 / c.sampling.1)),
    };
    let mut ended = 0;
    for mcu in 0..columns * rows {
        if tables.restart_interval > 0 && mcu > 0 && mcu % tables.restart_interval == 0 {
            bits.restart()?;
            scan.parts.iter_mut().for_each(|part| part.before = 0);
            ended = 0;
        }
        let (x, y) = (mcu % columns, mcu / columns);
        for part in &mut scan.parts {
            let component = &mut frame.components[part.component];
            let (across, down) = if single.is_some() { (1, 1) } else { component.sampling };
            for (dy, dx) in (0..down).flat_map(|dy| (0..across).map(move |dx| (dy, dx))) {
                let at = (x * across + dx, y * down + dy);
                part.decode_block(&scan.band, &mut bits, component, at, &mut ended, frame.progressive)?;
            }
        }
    }
    Ok(bits.used())
}

impl<'t> Scan<'t> {
    fn read(frame: &Frame, tables: &'t Tables, header: &[u8]) -> Result<Self> {
        let (&count, rest) = header.split_first().ok_or(BAD_SCAN)?;
        let (parts, band) = rest.split_at_checked(2 * usize::from(count)).ok_or(BAD_SCAN)?;
        let [from, to, bits] = *band else { return Err(BAD_SCAN) };
        let mut found: Vec<Part<'_>> = Vec::new();
        for [id, which] in parts.as_chunks::<2>().0 {
            let component = frame.components.iter().position(|component| component.id == *id).ok_or(BAD_SCAN)?;
            if found.iter().any(|part| part.component == component) {
                return Err(BAD_SCAN);
            }
            let table = |kind: usize, index: u8| tables.huffman[kind].get(usize::from(index)).and_then(Option::as_ref);
            let (first, rest) = (table(0, which >> 4), table(1, which & 15));
            found.push(Part { component, first, rest, before: 0 });
        }
        let band = Band {
            from: usize::from(from),
            to: usize::from(to),
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        };
        let whole = Band { from: 0, to: 63, high: 0, low: 0 };
        let band = if frame.progressive { band } else { whole };
        let fits = if band.from == 0 { band.to == 0 } else { band.from <= band.to && found.len() == 1 };
        if found.is_empty() || band.to > 63 || band.low > 13 || frame.progressive && !fits {
            return Err(BAD_SCAN);
        }
        Ok(Self { parts: found, band })
    }
}

impl Part<'_> {
    fn decode_block(
        &mut self,
        band: &Band,
        bits: &mut Bits<'_>,
        component: &mut Component,
        (x, y): (usize, usize),
        ended: &mut u32,
        progressive: bool,
    ) -> Result<()> {
        if !progressive {
            let (first, rest) = (self.first.ok_or(NO_TABLE)?, self.rest.ok_or(NO_TABLE)?);
            let mut block: Block = [0; 64];
            bits.sequential(&mut block, first, rest, &mut self.before)?;
            component.write(x, y, &block);
            return Ok(());
        }
        let block = component.block(x, y).ok_or(BAD_SCAN)?;
        let range = (band.from, band.to);
        if band.from == 0 {
            let table = if band.high == 0 { Some(self.first.ok_or(NO_TABLE)?) } else { None };
            return bits.progressive_first(block, table, &mut self.before, band.low);
        }
        let table = self.rest.ok_or(NO_TABLE)?;
        if band.high == 0 {
            bits.progressive_band(block, table, range, band.low, ended)
        } else {
            bits.progressive_refine(block, table, range, band.low, ended)
        }
    }
}
