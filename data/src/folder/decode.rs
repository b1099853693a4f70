//! Image files to RGB pixels, within limits.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

/// Most pixels of an image: where Pillow refuses too (twice its `MAX_IMAGE_PIXELS`).
pub const MAX_PIXELS: u64 = 178_956_970;
/// Most bytes a decoder may take besides.
const MAX_ALLOC: u64 = 2 << 30;

/// The image as Hugging Face transformers loads a path: upright (EXIF orientation applied), alpha dropped.
///
/// The format is told by content, whatever the file's name.
///
/// # Errors
/// A text that says why not: not an image, a format that is not built in, broken, or too large.
pub fn decode(path: &Path) -> Result<RgbImage, String> {
    let file = File::open(path).map_err(|error| format!("cannot open: {error}"))?;
    let mut reader = ImageReader::new(BufReader::new(file));
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let reader = reader.with_guessed_format().map_err(|error| format!("cannot read: {error}"))?;
    let Some(format) = reader.format() else { return Err(not_an_image(path)) };
    let mut decoder = reader.into_decoder().map_err(|error| match error {
        ImageError::Unsupported(_) => format!("{format:?} images are not supported, convert it to PNG or JPEG"),
        other => format!("broken {format:?} image: {other}"),
    })?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width}×{height} is more than {MAX_PIXELS} pixels"));
    }
    // As Pillow does, an EXIF block that cannot be read is passed over.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| format!("broken {format:?} image: {error}"))?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

fn not_an_image(path: &Path) -> String {
    let mut start = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    match read {
        0 => "the file is empty".into(),
        _ => "not an image: its first bytes are those of no known format".into(),
    }
}
