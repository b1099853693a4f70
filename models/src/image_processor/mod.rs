//! From a picture to the numbers the vision tower reads: decode, smart resize, bicubic resize, normalise, cut in patches.
//!
//! Follows Hugging Face's `Qwen2VLImageProcessor` with the Pillow backend, to the bit (see `resize` for which Pillow).

mod config;
mod decode;
mod patchify;
mod resize;
mod smart_resize;

use std::path::Path;

use image::RgbImage;

pub use config::ImageProcessor;
pub use decode::{decode, decode_bytes};
pub use resize::resize_bicubic;
pub use smart_resize::{MAX_ASPECT_RATIO, smart_resize};

use crate::error::{ModelError, Result};

/// Size of an image in patches, before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Frames divided by the temporal patch size; 1 for a still image.
    pub t: usize,
    /// Rows of patches.
    pub h: usize,
    /// Columns of patches.
    pub w: usize,
}

impl Grid {
    /// Number of patches, `t · h · w`.
    pub fn patches(&self) -> usize {
        self.t * self.h * self.w
    }

    /// Number of image tokens after merging squares of `merge × merge` patches.
    pub fn tokens(&self, merge: usize) -> usize {
        self.patches() / (merge * merge)
    }
}

/// An image as the vision tower reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    /// Patch grid.
    pub grid: Grid,
    /// `[grid.patches(), channels · frames · patch · patch]`, row-major. Patches are in merge-block order (block row,
    /// block column, row within, column within); within a patch: channel, frame, row, column.
    pub values: Vec<f32>,
}

impl ImageProcessor {
    /// Reads `preprocessor_config.json` (or `processor_config.json`, where transformers 5 puts it) from a folder.
    ///
    /// # Errors
    /// `Io` or `Json` naming the file; `Config` naming a field this processor cannot honour.
    pub fn open(dir: &Path) -> Result<Self> {
        config::open(dir)
    }

    /// Side of the square of pixels that becomes one image token, 28 as published.
    pub fn factor(&self) -> u32 {
        self.patch_size * self.merge_size
    }

    /// Numbers in a patch, 1176 as published.
    pub fn patch_len(&self) -> usize {
        3 * (self.temporal_patch_size * self.patch_size * self.patch_size) as usize
    }

    /// Size `(width, height)` in pixels at which the model is shown an image of `width × height` pixels.
    ///
    /// # Errors
    /// `AspectRatio` above 200, or if a side is 0.
    pub fn shown_size(&self, width: u32, height: u32) -> Result<(u32, u32)> {
        let (h, w) = smart_resize(height, width, self.factor(), self.min_pixels, self.max_pixels)?;
        Ok((w, h))
    }

    /// Patch grid of an image of `width × height` pixels, before it is resized.
    ///
    /// # Errors
    /// As [`Self::shown_size`].
    pub fn grid(&self, width: u32, height: u32) -> Result<Grid> {
        let (w, h) = self.shown_size(width, height)?;
        Ok(Grid { t: 1, h: (h / self.patch_size) as usize, w: (w / self.patch_size) as usize })
    }

    /// The image as the model is shown it: bicubic with antialias to [`Self::shown_size`]; unchanged if it has that size.
    ///
    /// # Errors
    /// As [`Self::shown_size`].
    pub fn resize(&self, image: &RgbImage) -> Result<RgbImage> {
        let (w, h) = self.shown_size(image.width(), image.height())?;
        Ok(resize_bicubic(image, w, h))
    }

    /// Resizes, normalises and cuts an image.
    ///
    /// # Errors
    /// As [`Self::shown_size`].
    pub fn patches(&self, image: &RgbImage) -> Result<Patches> {
        self.patchify(&self.resize(image)?)
    }

    /// Normalises and cuts an image that has its shown size already.
    ///
    /// # Errors
    /// `Shape` if a side is not a positive multiple of [`Self::factor`].
    pub fn patchify(&self, resized: &RgbImage) -> Result<Patches> {
        let (w, h, f) = (resized.width(), resized.height(), self.factor());
        if w == 0 || h == 0 || w % f != 0 || h % f != 0 {
            let expected = format!("sides that are multiples of {f}");
            return Err(ModelError::Shape { op: "patchify", expected, got: format!("{w}x{h}") });
        }
        Ok(patchify::patchify(self, resized))
    }
}
