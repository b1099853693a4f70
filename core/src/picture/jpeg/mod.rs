//! JPEG files to the bytes that libjpeg-turbo (Pillow, torchvision) gives: integer inverse transform, "fancy" upsampling.
//!
//! Baseline, extended sequential and progressive Huffman files of 8 bits, with 1, 3 or 4 components. What a file may be
//! besides (arithmetic coding, 12 bits, lossless, hierarchical) is refused by name.

mod entropy;
mod frame;
mod header;
mod huffman;
mod idct;
mod scan;
mod upsample;

use image::RgbImage;

use super::{Format, PictureError, check_size};
use frame::Frame;
use header::{Reader, Segment};
use scan::Tables;

/// The picture as it lies in the file, and its EXIF block.
pub(super) struct Decoded<'a> {
    /// Colours; not yet turned upright.
    pub(super) pixels: RgbImage,
    /// The TIFF structure of the file's first EXIF block.
    pub(super) exif: Option<&'a [u8]>,
}

/// What is wrong with a file.
pub(super) enum Problem {
    /// The file breaks the format's rules, or ends early.
    Broken(&'static str),
    /// A kind of JPEG that is not read.
    Unsupported(&'static str),
    /// Refused by its size.
    Size(PictureError),
}

type Result<T> = std::result::Result<T, Problem>;

/// Most scans of a file. Real ones have about ten; each may go over the whole picture and cost the file a few bytes.
const MAX_SCANS: usize = 500;
const NO_FRAME: Problem = Problem::Broken("it has no frame header before its pixels");

/// Decodes a file.
pub(super) fn decode(data: &[u8]) -> std::result::Result<Decoded<'_>, PictureError> {
    read(data).map_err(|problem| match problem {
        Problem::Broken(why) => PictureError::Broken { format: Format::Jpeg, why: why.to_owned() },
        Problem::Unsupported(what) => PictureError::Unsupported { format: Format::Jpeg, what: what.to_owned() },
        Problem::Size(error) => error,
    })
}

fn read(data: &[u8]) -> Result<Decoded<'_>> {
    let mut reader = Reader::new(data);
    let mut tables = Tables::default();
    let mut frame: Option<Frame> = None;
    let mut colour = upsample::ColourHints::default();
    let mut exif = None;
    let mut scans = 0;
    loop {
        match reader.next_segment()? {
            Segment::End => break,
            Segment::Quantization(body) => tables.read_quantization(body)?,
            Segment::Huffman(body) => tables.read_huffman(body)?,
            Segment::Restart(interval) => tables.restart_interval = usize::from(interval),
            Segment::App(0, body) => colour.jfif |= body.starts_with(b"JFIF\0"),
            Segment::App(1, body) => exif = exif.or_else(|| body.strip_prefix(b"Exif\0\0")),
            Segment::App(14, body) => colour.see_adobe(body),
            Segment::App(..) => {}
            Segment::Frame { progressive, body } => {
                if frame.is_some() {
                    return Err(Problem::Broken("it has two frame headers"));
                }
                frame = Some(open_frame(progressive, body, data.len())?);
            }
            Segment::Scan(body) => {
                let frame = frame.as_mut().ok_or(NO_FRAME)?;
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(Problem::Broken("it has more than 500 scans"));
                }
                let used = scan::decode(frame, &tables, body, reader.rest())?;
                reader.skip(used);
            }
        }
    }
    let mut frame = frame.ok_or(NO_FRAME)?;
    frame.finish()?;
    Ok(Decoded { pixels: upsample::to_rgb(&frame, &colour)?, exif })
}

/// Reads a frame header; refuses what is too large, and what its file cannot hold, before anything is allocated.
fn open_frame(progressive: bool, body: &[u8], file_len: usize) -> Result<Frame> {
    let shape = frame::Shape::read(body)?;
    check_size(shape.width as u64, shape.height as u64).map_err(Problem::Size)?;
    // The first coefficient of a block takes a bit at least; the others of a progressive file may take none.
    if shape.blocks() / 8 > file_len {
        return Err(Problem::Broken("the file is too short for its size in pixels"));
    }
    Ok(Frame::new(shape, progressive))
}
