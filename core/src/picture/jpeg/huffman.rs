//! Huffman tables.

use super::{Problem, Result};

/// Bits looked up at once.
pub(super) const FAST: u32 = 9;

/// A table for decoding.
pub(super) struct Huffman {
    /// By the next [`FAST`] bits: length and symbol of the code they start with; length 0 where it is longer.
    pub(super) fast: Vec<(u8, u8)>,
    /// By length: one above the largest code of it, shifted to 16 bits.
    limit: [u32; 17],
    /// By length: what to add to a code for the place of its symbol.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// From the number of codes of each length, and the symbols in the order of their codes.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self> {
        let mut table =
            Self { fast: vec![(0, 0); 1 << FAST], limit: [0; 17], offset: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut at) = (0u32, 0usize);
        for len in 1..=16u32 {
            let count = u32::from(counts[len as usize - 1]);
            table.offset[len as usize] = at as i32 - code as i32;
            if code + count > 1 << len {
                return Err(Problem::Broken("a Huffman table has too many codes"));
            }
            if len <= FAST {
                for i in 0..count {
                    let start = ((code + i) << (FAST - len)) as usize;
                    let entry = (len as u8, symbols[at + i as usize]);
                    table.fast[start..start + (1 << (FAST - len))].fill(entry);
                }
            }
            code += count;
            at += count as usize;
            table.limit[len as usize] = code << (16 - len);
            code <<= 1;
        }
        Ok(table)
    }

    /// Length and symbol of the code that 16 bits start with, if it is longer than [`FAST`] bits.
    pub(super) fn slow(&self, bits: u32) -> Option<(u32, u8)> {
        let len = (FAST + 1..=16).find(|&len| bits < self.limit[len as usize])?;
        let code = (bits >> (16 - len)) as i32;
        let symbol = self.symbols.get(usize::try_from(code + self.offset[len as usize]).ok()?)?;
        Some((len, *symbol))
    }
}
