//! Boxes that a model gives, as whole pixels of an image; what is refused, and why. All tools that take a box read it here.

use image::{RgbImage, imageops};
use imagent_core::{BBox, BoxFrame, ImageSizes, Original, Shown, ToolError};
use serde::de::{Deserialize, Deserializer};

/// Qwen2.5-VL's processor refuses images longer than this many times their width.
pub(crate) const PROCESSOR_ASPECT: u32 = 200;
/// What a coordinate may be off by rounding in a change of frame; far below a pixel.
const ROUNDING: f64 = 1e-6;

/// What a tool asks of a box.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoxRules {
    /// The frame that it is given in.
    pub(crate) frame: BoxFrame,
    /// Least side, in shown pixels.
    pub(crate) min_side: u32,
    /// Largest ratio of its sides in whole pixels.
    pub(crate) max_aspect: Option<u32>,
}

impl BoxRules {
    /// The whole pixels of image `index` under a box: clamped to the image, rounded outwards. Or why it is refused.
    pub(crate) fn region(&self, corners: [f64; 4], index: usize, sizes: &ImageSizes) -> Result<Pixels, ToolError> {
        let [x1, y1, x2, y2] = corners;
        if x1 >= x2 || y1 >= y2 {
            return Err(ToolError::EmptyBox);
        }
        let (shown, original) = (self.frame.read::<Shown>(corners, sizes), self.frame.read::<Original>(corners, sizes));
        // No area after clamping, or an image without pixels (then this is not a number).
        if !(shown.area() > 0.0 && original.area() > 0.0) {
            return Err(ToolError::OutsideBox(index));
        }
        if shown.width().min(shown.height()) + ROUNDING < f64::from(self.min_side) {
            return Err(ToolError::TinyBox { min: self.min_side });
        }
        let cut = Pixels::covering(original, sizes);
        match self.max_aspect {
            Some(max) if cut.is_thinner_than(max) => Err(ToolError::ThinBox { max }),
            _ => Ok(cut),
        }
    }
}

/// A region in whole pixels of an image, at least one a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Pixels {
    /// The smallest whole-pixel region that covers `bbox`, at least one pixel a side.
    fn covering(bbox: BBox<Original>, sizes: &ImageSizes) -> Self {
        let (x, width) = cover(bbox.x1, bbox.x2, sizes.original.width);
        let (y, height) = cover(bbox.y1, bbox.y2, sizes.original.height);
        Self { x, y, width, height }
    }

    /// The region as a box.
    pub(crate) fn bbox(self) -> BBox<Original> {
        let (x, y) = (f64::from(self.x), f64::from(self.y));
        BBox::new(x, y, x + f64::from(self.width), y + f64::from(self.height))
    }

    /// The region's pixels.
    pub(crate) fn crop(self, pixels: &RgbImage) -> RgbImage {
        imageops::crop_imm(pixels, self.x, self.y, self.width, self.height).to_image()
    }

    fn is_thinner_than(self, max_aspect: u32) -> bool {
        let (short, long) = (self.width.min(self.height), self.width.max(self.height));
        u64::from(long) > u64::from(short) * u64::from(max_aspect)
    }
}

/// Start and length of the whole pixels of `0..size` that cover `from..to`; `size` is at least 1.
fn cover(from: f64, to: f64, size: u32) -> (u32, u32) {
    let start = ((from + ROUNDING).floor().max(0.0) as u32).min(size.saturating_sub(1));
    let end = ((to - ROUNDING).ceil().max(0.0) as u32).clamp(start + 1, size.max(start + 1));
    (start, end - start)
}

/// The field `max_aspect`.
pub(crate) fn max_aspect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(u32::deserialize(deserializer)?, "max_aspect", 1, PROCESSOR_ASPECT)
}

/// The field `min_output`.
pub(crate) fn min_output<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(u32::deserialize(deserializer)?, "min_output", 0, 2048)
}

/// A field from `low` to `high`.
pub(crate) fn in_range<E: serde::de::Error>(value: u32, name: &str, low: u32, high: u32) -> Result<u32, E> {
    let wrong = || E::custom(format_args!("{name} must be from {low} to {high}, got {value}"));
    (low..=high).contains(&value).then_some(value).ok_or_else(wrong)
}
