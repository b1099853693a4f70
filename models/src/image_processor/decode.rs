//! Image files to RGB bytes, as transformers reads a path: EXIF orientation applied, alpha dropped.

use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use crate::error::{ModelError, Result};

/// Longest side of an image that is decoded, in pixels.
pub const MAX_SIDE: u32 = 32_768;
/// Most memory the decoder may take for an image, in bytes.
pub const MAX_DECODED_BYTES: u64 = 1 << 30;

/// Reads a PNG or JPEG file, told by its content, not its name.
///
/// Alpha is dropped, also that of a transparent palette colour (transformers' `load_image` followed by its processor puts
/// the latter over white). Colours are not converted between profiles. JPEG levels may differ from those of
/// libjpeg-turbo (Pillow): on our fixtures by less than half a level on average, and by up to 23 at edges of colour.
///
/// # Errors
/// `Io` if the file cannot be read; `Image` if it is no PNG or JPEG, is damaged, or is larger than [`MAX_SIDE`] or
/// [`MAX_DECODED_BYTES`] allow.
pub fn decode(path: &Path) -> Result<RgbImage> {
    let file = std::fs::File::open(path).map_err(ModelError::io(path))?;
    decode_from(BufReader::new(file), path)
}

/// Decodes the content of a PNG or JPEG file. `name` is what errors call it.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(bytes: &[u8], name: &Path) -> Result<RgbImage> {
    decode_from(Cursor::new(bytes), name)
}

fn decode_from<R: BufRead + Seek>(source: R, path: &Path) -> Result<RgbImage> {
    let bad = |message: String| ModelError::Image { path: path.to_path_buf(), message };
    let mut reader = ImageReader::new(source).with_guessed_format().map_err(ModelError::io(path))?;
    if reader.format().is_none() {
        return Err(bad("not an image: neither PNG nor JPEG".into()));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let undecodable = |e: image::ImageError| bad(format!("cannot be decoded as an image: {e}"));
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    // Unreadable EXIF data is no reason to refuse the pixels; Pillow ignores it too.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    image.apply_orientation(orientation);
    Ok(to_rgb(image))
}

/// To 8 bits a channel. Deep images keep the high byte of colours (as libpng's strip in Pillow), alpha is dropped.
fn to_rgb(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageRgb16(deep) => high_bytes(deep.width(), deep.height(), deep.as_raw(), 3),
        DynamicImage::ImageRgba16(deep) => high_bytes(deep.width(), deep.height(), deep.as_raw(), 4),
        other => other.into_rgb8(),
    }
}

fn high_bytes(width: u32, height: u32, samples: &[u16], channels: usize) -> RgbImage {
    let mut out = RgbImage::new(width, height);
    for (pixel, deep) in out.pixels_mut().zip(samples.chunks_exact(channels)) {
        pixel.0 = [0, 1, 2].map(|c| (deep[c] >> 8) as u8);
    }
    out
}
