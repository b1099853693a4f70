//! Images of a record: in a file of the run folder, or embedded as a data URL.

use std::io::Cursor;
use std::path::{Component, Path};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{ImageFormat, ImageResult, RgbImage};
use serde::{Deserialize, Serialize};

use crate::error::AnalysisError;

/// Where the pixels of a recorded image are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// A file, relative to the run folder, with `/` between its parts.
    File(String),
    /// A data URL (`data:image/png;base64,…`).
    Embedded(String),
}

impl ImageSource {
    /// The data URL, reading the file from `run` where need be.
    ///
    /// # Errors
    /// When the file cannot be read or lies outside `run`.
    pub fn embed(&self, run: &Path) -> Result<Self, AnalysisError> {
        let Self::File(file) = self else { return Ok(self.clone()) };
        let relative = Path::new(file);
        if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(AnalysisError::Outside { file: file.clone() });
        }
        let path = run.join(relative);
        let bytes = std::fs::read(&path).map_err(AnalysisError::io(&path))?;
        let jpeg = bytes.starts_with(&[0xff, 0xd8]);
        Ok(Self::Embedded(data_url(if jpeg { "jpeg" } else { "png" }, &bytes)))
    }
}

/// How images are stored. Pixels are for reading by people: the training never reads them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageCodec {
    /// Lossless; small for drawn images.
    Png,
    /// Lossy with a quality of 1 to 100; small for photographs.
    Jpeg(u8),
}

impl ImageCodec {
    /// The name in a file's end and in a media type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg(_) => "jpeg",
        }
    }

    /// Encodes an image, made smaller first when a side is longer than `max_side`.
    pub(crate) fn encode(self, pixels: &RgbImage, max_side: u32) -> ImageResult<Vec<u8>> {
        let longest = pixels.width().max(pixels.height());
        if longest <= max_side {
            return self.encode_as_is(pixels);
        }
        let scaled = |side: u32| (f64::from(side) * f64::from(max_side) / f64::from(longest)).round().max(1.0) as u32;
        let (width, height) = (scaled(pixels.width()), scaled(pixels.height()));
        self.encode_as_is(&image::imageops::resize(pixels, width, height, FilterType::Triangle))
    }

    fn encode_as_is(self, pixels: &RgbImage) -> ImageResult<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Png => pixels.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?,
            Self::Jpeg(quality) => {
                pixels.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100)))?;
            }
        }
        Ok(bytes)
    }
}

/// The data URL of an encoded image.
pub(crate) fn data_url(kind: &str, bytes: &[u8]) -> String {
    format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_keeps_its_pixels_and_a_long_side_is_cut_down() {
        let pixels = RgbImage::from_fn(40, 10, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let whole = image::load_from_memory(&ImageCodec::Png.encode(&pixels, 40).unwrap()).unwrap();
        assert_eq!(whole.to_rgb8(), pixels);
        let small = image::load_from_memory(&ImageCodec::Jpeg(90).encode(&pixels, 20).unwrap()).unwrap();
        assert_eq!((small.width(), small.height()), (20, 5));
    }

    #[test]
    fn a_file_is_embedded_and_one_outside_the_run_refused() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = ImageCodec::Jpeg(80).encode(&RgbImage::new(4, 4), 4).unwrap();
        std::fs::write(folder.path().join("a.jpeg"), bytes).unwrap();
        let embedded = ImageSource::File("a.jpeg".into()).embed(folder.path()).unwrap();
        assert!(matches!(&embedded, ImageSource::Embedded(url) if url.starts_with("data:image/jpeg;base64,/9j/")));
        assert_eq!(embedded.embed(Path::new("nowhere")).unwrap(), embedded);
        for file in ["../a.jpeg", "/etc/passwd", "b/../../a.jpeg"] {
            let error = ImageSource::File(file.into()).embed(folder.path()).unwrap_err();
            assert!(matches!(error, AnalysisError::Outside { .. }), "{error}");
        }
    }
}
