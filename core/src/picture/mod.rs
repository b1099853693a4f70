//! The bytes of image files to RGB pixels, as Hugging Face transformers reads a path (Pillow's `load_image`): told by
//! content, upright, alpha dropped. The one way in for the pictures of datasets, chats and tools; opens no file.
//!
//! | file | becomes |
//! |---|---|
//! | JPEG, baseline or progressive | libjpeg-turbo's bytes; CMYK and YCCK by Pillow's formula, inverted as Adobe writes them |
//! | PNG, GIF, WebP, BMP | their colours; palettes looked up, grey repeated |
//! | 16 bits a channel | the high byte (Pillow as well; of 16-bit grey it makes white, which is not followed) |
//! | alpha, transparent colours | dropped; the colour below stays |
//! | EXIF orientation 1 to 8 | turned upright; a block that cannot be read is passed over |
//! | several frames | the first one |
//! | colour profiles, gamma | not applied |

mod jpeg;

use std::fmt;
use std::io::{Cursor, Read};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

/// Most pixels of a picture: where Pillow refuses too (twice its `MAX_IMAGE_PIXELS`).
pub const MAX_PIXELS: u64 = 178_956_970;
/// Most bytes of an image file.
pub const MAX_FILE_BYTES: u64 = 1 << 30;
/// Most bytes that a decoder may take besides the pixels.
const MAX_ALLOC: u64 = 1 << 30;

/// Formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Joint Photographic Experts Group, `.jpg`.
    Jpeg,
    /// Portable Network Graphics; of an animated one its still picture.
    Png,
    /// Graphics Interchange Format.
    Gif,
    /// WebP, lossy and lossless.
    WebP,
    /// Windows bitmap.
    Bmp,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
        })
    }
}

/// Why a picture is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// It could not be read.
    #[error("cannot read: {0}")]
    Read(#[from] std::io::Error),
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// No image format starts like this.
    #[error("not an image: its first bytes are those of no known format")]
    NotAnImage,
    /// An image format that is not built in.
    #[error("{0} images are not supported, convert it to PNG or JPEG")]
    OtherFormat(String),
    /// A kind of file that its format allows and nobody writes.
    #[error("{format} with {what} is not supported, convert it to PNG")]
    Unsupported {
        /// The file's format.
        format: Format,
        /// What is not read.
        what: String,
    },
    /// More than [`MAX_PIXELS`].
    #[error("{width}×{height} is more than {MAX_PIXELS} pixels")]
    Pixels {
        /// Pixels from left to right.
        width: u64,
        /// Pixels from top to bottom.
        height: u64,
    },
    /// More than [`MAX_FILE_BYTES`].
    #[error("the file has more than {MAX_FILE_BYTES} bytes")]
    Bytes,
    /// The content breaks its format's rules, or ends early.
    #[error("broken {format} image: {why}")]
    Broken {
        /// The file's format.
        format: Format,
        /// What the decoder met.
        why: String,
    },
}

/// Reads a whole image file and decodes it.
///
/// # Errors
/// Says why not, in one line that does not name the file.
pub fn read(source: impl Read) -> Result<RgbImage, PictureError> {
    let mut bytes = Vec::new();
    source.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    decode(&bytes)
}

/// Decodes the content of an image file.
///
/// # Errors
/// As [`read`].
///
/// ```
/// let error = imagent_core::picture::decode(b"hello").unwrap_err();
/// assert!(error.to_string().starts_with("not an image"));
/// ```
pub fn decode(bytes: &[u8]) -> Result<RgbImage, PictureError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(PictureError::Bytes);
    }
    let format = format_of(bytes)?;
    if format == Format::Jpeg {
        let decoded = jpeg::decode(bytes)?;
        let orientation = decoded.exif.and_then(Orientation::from_exif_chunk);
        return Ok(upright(DynamicImage::from(decoded.pixels), orientation).into_rgb8());
    }
    let broken = |error: ImageError| PictureError::Broken { format, why: error.to_string() };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), image_format(format));
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height))?;
    let orientation = decoder.orientation().ok();
    let image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    Ok(to_rgb(upright(image, orientation)))
}

/// Refuses empty pictures and those of more than [`MAX_PIXELS`].
fn check_size(width: u64, height: u64) -> Result<(), PictureError> {
    if width.saturating_mul(height) > MAX_PIXELS { Err(PictureError::Pixels { width, height }) } else { Ok(()) }
}

fn format_of(bytes: &[u8]) -> Result<Format, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => Ok(Format::Jpeg),
        Ok(ImageFormat::Png) => Ok(Format::Png),
        Ok(ImageFormat::Gif) => Ok(Format::Gif),
        Ok(ImageFormat::WebP) => Ok(Format::WebP),
        Ok(ImageFormat::Bmp) => Ok(Format::Bmp),
        Ok(other) => Err(PictureError::OtherFormat(format!("{other:?}"))),
        Err(_) => Err(PictureError::NotAnImage),
    }
}

fn image_format(format: Format) -> ImageFormat {
    match format {
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
        Format::Gif => ImageFormat::Gif,
        Format::WebP => ImageFormat::WebP,
        Format::Bmp => ImageFormat::Bmp,
    }
}

fn upright(mut image: DynamicImage, orientation: Option<Orientation>) -> DynamicImage {
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    image
}

/// To 8 bits a channel, without alpha.
fn to_rgb(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageLuma16(deep) => high_bytes(deep.width(), deep.height(), deep.as_raw(), 1),
        DynamicImage::ImageLumaA16(deep) => high_bytes(deep.width(), deep.height(), deep.as_raw(), 2),
        DynamicImage::ImageRgb16(deep) => high_bytes(deep.width(), deep.height(), deep.as_raw(), 3),
        DynamicImage::ImageRgba16(deep) => high_bytes(deep.width(), deep.height(), deep.as_raw(), 4),
        other => other.into_rgb8(),
    }
}

fn high_bytes(width: u32, height: u32, samples: &[u16], channels: usize) -> RgbImage {
    let places = if channels < 3 { [0; 3] } else { [0, 1, 2] };
    let mut out = RgbImage::new(width, height);
    for (pixel, deep) in out.pixels_mut().zip(samples.chunks_exact(channels)) {
        pixel.0 = places.map(|c| (deep[c] >> 8) as u8);
    }
    out
}
