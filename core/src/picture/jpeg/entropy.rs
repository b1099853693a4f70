//! Bits of a scan's coded data, and the coefficients of a block from them.

use super::huffman::{FAST, Huffman};
use super::{Problem, Result};

/// Place in a block, row by row, of each coefficient in the order of the file.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Coefficients of 8×8 samples, row by row.
pub(super) type Block = [i16; 64];

const CUT: Problem = Problem::Broken("the file ends before its last pixel");
const BAD_CODE: Problem = Problem::Broken("its coded pixels have a code that is in no table");

/// Reads bits, most significant first.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    /// Bits beyond the data that were made up; they may be looked at, not used.
    made_up: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, held: 0, count: 0, made_up: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match self.data.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([byte, ..]) if *byte != 0xff => {
                    self.at += 1;
                    *byte
                }
                _ => {
                    self.made_up += 8;
                    0
                }
            };
            self.held = (self.held << 8) | u64::from(byte);
            self.count += 8;
        }
    }

    fn peek(&mut self, bits: u32) -> u32 {
        if self.count < bits {
            self.fill();
        }
        ((self.held >> (self.count - bits)) & ((1 << bits) - 1)) as u32
    }

    fn take(&mut self, bits: u32) -> Result<()> {
        self.count -= bits;
        if self.count < self.made_up { Err(CUT) } else { Ok(()) }
    }

    fn bit(&mut self) -> Result<bool> {
        let bit = self.peek(1) == 1;
        self.take(1)?;
        Ok(bit)
    }

    fn bits(&mut self, count: u32) -> Result<u32> {
        let bits = self.peek(count);
        self.take(count)?;
        Ok(bits)
    }

    /// A value of `size` bits in JPEG's signed form.
    fn signed(&mut self, size: u32) -> Result<i32> {
        if size == 0 {
            return Ok(0);
        }
        let bits = self.bits(size)? as i32;
        Ok(if bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits })
    }

    fn symbol(&mut self, table: &Huffman) -> Result<u8> {
        let bits = self.peek(16);
        let (len, symbol) = table.fast[(bits >> (16 - FAST)) as usize];
        let (len, symbol) = if len > 0 { (u32::from(len), symbol) } else { table.slow(bits).ok_or(BAD_CODE)? };
        self.take(len)?;
        Ok(symbol)
    }

    /// Goes on behind the restart marker that comes next.
    pub(super) fn restart(&mut self) -> Result<()> {
        (self.held, self.count, self.made_up) = (0, 0, 0);
        let rest = self.data.get(self.at..).unwrap_or(&[]);
        match rest.windows(2).position(|pair| pair[0] == 0xff && pair[1] != 0 && pair[1] != 0xff) {
            Some(start) if (0xd0..=0xd7).contains(&rest[start + 1]) => {
                self.at += start + 2;
                Ok(())
            }
            _ => Err(Problem::Broken("a restart marker is missing between its coded pixels")),
        }
    }

    /// Bytes read; the segment that follows is searched from there.
    pub(super) fn used(&self) -> usize {
        // Whole bytes that were read ahead belong to the pixels too: no marker is read into `held`.
        self.at
    }

    /// The first coefficient's difference from the block before.
    fn difference(&mut self, table: &Huffman) -> Result<i32> {
        let size = u32::from(self.symbol(table)?);
        if size > 15 { Err(BAD_CODE) } else { self.signed(size) }
    }

    /// All coefficients of a block of a sequential file; `before` is the first coefficient of the block before.
    pub(super) fn sequential(
        &mut self,
        block: &mut Block,
        first: &Huffman,
        rest: &Huffman,
        before: &mut i32,
    ) -> Result<()> {
        *before = before.wrapping_add(self.difference(first)?);
        block[0] = *before as i16;
        let mut k = 1;
        while k < 64 {
            let symbol = self.symbol(rest)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            let value = self.signed(size)?;
            *block.get_mut(place(k)?).ok_or(BAD_CODE)? = value as i16;
            k += 1;
        }
        Ok(())
    }

    /// Progressive: the first coefficient's upper bits, or its next one.
    pub(super) fn progressive_first(
        &mut self,
        block: &mut Block,
        table: Option<&Huffman>,
        before: &mut i32,
        low: u32,
    ) -> Result<()> {
        match table {
            Some(table) => {
                *before = before.wrapping_add(self.difference(table)?);
                block[0] = (*before << low) as i16;
            }
            None => {
                if self.bit()? {
                    block[0] |= 1 << low;
                }
            }
        }
        Ok(())
    }

    /// Progressive: the upper bits of a band. `ended` counts the blocks that have nothing more.
    pub(super) fn progressive_band(
        &mut self,
        block: &mut Block,
        table: &Huffman,
        band: (usize, usize),
        low: u32,
        ended: &mut u32,
    ) -> Result<()> {
        if *ended > 0 {
            *ended -= 1;
            return Ok(());
        }
        let mut k = band.0;
        while k <= band.1 {
            let symbol = self.symbol(table)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size > 0 {
                k += run as usize;
                block[place(k)?] = (self.signed(size)? << low) as i16;
                k += 1;
            } else if run == 15 {
                k += 16;
            } else {
                *ended = (1 << run) - 1 + self.bits(run)?;
                break;
            }
        }
        Ok(())
    }

    /// Progressive: the next bit of a band.
    pub(super) fn progressive_refine(
        &mut self,
        block: &mut Block,
        table: &Huffman,
        band: (usize, usize),
        low: u32,
        ended: &mut u32,
    ) -> Result<()> {
        let mut k = band.0;
        while *ended == 0 && k <= band.1 {
            let symbol = self.symbol(table)?;
            let (mut run, size) = (u32::from(symbol >> 4), symbol & 15);
            let mut value = 0;
            if size != 0 {
                value = if self.bit()? { 1 << low } else { -1 << low };
            } else if run < 15 {
                *ended = (1 << run) + self.bits(run)?;
                break;
            }
            // Over coefficients that have bits already, each of which gets its next one, to the place after `run` zeros.
            while k <= band.1 {
                let coefficient = &mut block[place(k)?];
                if *coefficient != 0 {
                    self.refine(coefficient, low)?;
                } else if run == 0 {
                    *coefficient = value;
                    k += 1;
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
        }
        if *ended > 0 {
            for k in k..=band.1 {
                let coefficient = &mut block[place(k)?];
                if *coefficient != 0 {
                    self.refine(coefficient, low)?;
                }
            }
            *ended -= 1;
        }
        Ok(())
    }

    fn refine(&mut self, coefficient: &mut i16, low: u32) -> Result<()> {
        if self.bit()? && *coefficient & (1 << low) == 0 {
            let step = 1i16 << low;
            *coefficient = coefficient.wrapping_add(if *coefficient > 0 { step } else { -step });
        }
        Ok(())
    }
}

fn place(k: usize) -> Result<usize> {
    ZIGZAG.get(k).map(|&place| usize::from(place)).ok_or(BAD_CODE)
}
