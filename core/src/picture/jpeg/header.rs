//! Walks through a JPEG file's segments.

use super::{Problem, Result};

/// A marker segment that matters.
pub(super) enum Segment<'a> {
    /// The file's end.
    End,
    /// Quantisation tables.
    Quantization(&'a [u8]),
    /// Huffman tables.
    Huffman(&'a [u8]),
    /// MCUs between restart markers; 0 for none.
    Restart(u16),
    /// Application data `n`.
    App(u8, &'a [u8]),
    /// A frame header.
    Frame {
        /// Whether coefficients come in several scans.
        progressive: bool,
        /// What follows the length.
        body: &'a [u8],
    },
    /// A scan header; the coded data follow.
    Scan(&'a [u8]),
}

/// Where in the file reading is.
pub(super) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

const CUT: Problem = Problem::Broken("the file ends early");

impl<'a> Reader<'a> {
    /// Starts behind the marker that opens the file.
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 2 }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.data.get(self.at..).unwrap_or(&[])
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// The next segment that matters; bytes between segments are passed over, as libjpeg does.
    pub(super) fn next_segment(&mut self) -> Result<Segment<'a>> {
        loop {
            let marker = self.marker()?;
            match marker {
                0xd8 | 0x01 | 0xd0..=0xd7 => continue,
                0xd9 => return Ok(Segment::End),
                _ => {}
            }
            let body = self.body()?;
            return Ok(match marker {
                0xdb => Segment::Quantization(body),
                0xc4 => Segment::Huffman(body),
                0xdd => match body {
                    [high, low] => Segment::Restart(u16::from_be_bytes([*high, *low])),
                    _ => return Err(Problem::Broken("its restart interval has a wrong length")),
                },
                0xe0..=0xef => Segment::App(marker - 0xe0, body),
                0xc0..=0xc2 => Segment::Frame { progressive: marker == 0xc2, body },
                0xc3 => return Err(Problem::Unsupported("lossless coding")),
                0xc5..=0xc7 => return Err(Problem::Unsupported("hierarchical coding")),
                0xc9..=0xcf => return Err(Problem::Unsupported("arithmetic coding")),
                0xda => Segment::Scan(body),
                0xdc => return Err(Problem::Unsupported("a height that is told after the pixels")),
                _ => continue,
            });
        }
    }

    fn marker(&mut self) -> Result<u8> {
        loop {
            let rest = self.rest();
            let start = rest.iter().position(|&byte| byte == 0xff).ok_or(CUT)?;
            let fill = rest[start..].iter().take_while(|&&byte| byte == 0xff).count();
            let marker = *rest.get(start + fill).ok_or(CUT)?;
            self.at += start + fill + 1;
            if marker != 0 {
                return Ok(marker);
            }
        }
    }

    fn body(&mut self) -> Result<&'a [u8]> {
        let (len, rest) = self.rest().split_first_chunk::<2>().ok_or(CUT)?;
        let len = usize::from(u16::from_be_bytes(*len));
        let body = len.checked_sub(2).and_then(|len| rest.get(..len)).ok_or(CUT)?;
        self.at += len;
        Ok(body)
    }
}
