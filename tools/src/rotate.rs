//! `rotate`: shows an image turned by an angle.

use image::{Rgb, RgbImage, imageops};
use imagent_core::{Arguments, ImageShelf, Observation, Orientation, Tool, ToolError, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::arguments;
use crate::picture::{self, MOST_PIXELS, resized};

/// Shows image `image` of the shelf turned by `angle` degrees **counter-clockwise**, as Pillow's `rotate(angle,
/// expand=True)`; a negative angle turns clockwise. The canvas grows so that nothing is cut off; its corners are black.
///
/// A multiple of 90° moves pixels and computes none, and the observation's origin is the whole image in its new
/// [`Orientation`], so that a region cut from it is found again on its source. At any other angle pixels are
/// interpolated (bilinear, in f64), and there is **no origin**: the picture shows no axis-aligned region, so nothing that is
/// cut from it maps to the source. Where its canvas would have more than 12,845,056 pixels, Qwen2.5-VL's largest image, the
/// image is made smaller first.
///
/// DeepEyes' `image_rotate_tool` (arXiv 2505.14362) turns the same way, and keeps the canvas.
///
/// Arguments: `image`, an index of the shelf counted from 1, and `angle`, any finite number.
///
/// ```
/// use std::sync::Arc;
/// use imagent_core::{ImageShelf, Size, Tool};
/// use imagent_tools::Rotate;
///
/// let mut shelf = ImageShelf::new();
/// let pixels = image::RgbImage::from_fn(2, 1, |x, _| image::Rgb([x as u8; 3]));
/// shelf.push(Arc::new(pixels), Size::new(28, 28), None);
/// let arguments = serde_json::json!({"image": 1, "angle": 90}).as_object().cloned().unwrap();
/// let seen = Rotate::default().call(&arguments, &shelf)?;
/// // What was on the right is on top.
/// assert_eq!((seen.images[0].pixels.dimensions(), seen.images[0].pixels.as_raw()[0]), ((1, 2), 1));
/// # Ok::<(), imagent_core::ToolError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {}

#[typetag::serde(name = "rotate")]
impl Tool for Rotate {
    fn spec(&self) -> ToolSpec {
        let angle = json!({"type": "number", "description": "Degrees, counter-clockwise."});
        let properties = json!({"image": arguments::image_schema(), "angle": angle});
        arguments::spec("rotate", "Shows an image turned by an angle.", properties, json!(["image", "angle"]))
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        arguments::only(arguments, &["image", "angle"])?;
        let (index, image) = arguments::image(arguments, images)?;
        let angle = arguments::number("angle", arguments)?.rem_euclid(360.0);
        let pixels = picture::seen(image)?;
        let (turned, orientation) = if angle == 0.0 || angle == 360.0 {
            (pixels.clone(), Orientation::Upright)
        } else if angle == 90.0 {
            (imageops::rotate270(pixels), Orientation::QuarterLeft)
        } else if angle == 180.0 {
            (imageops::rotate180(pixels), Orientation::Half)
        } else if angle == 270.0 {
            (imageops::rotate90(pixels), Orientation::QuarterRight)
        } else {
            return Ok(picture::observation(slanted(pixels, angle)?, None));
        };
        Ok(picture::observation(turned, Some(picture::whole(index, image, orientation))))
    }
}

/// A turn by any angle: where the middle of each pixel of the canvas comes from.
struct Turn {
    cos: f64,
    sin: f64,
    width: u32,
    height: u32,
}

impl Turn {
    /// The turn of an image of this size, with its canvas.
    fn new(angle: f64, (width, height): (u32, u32)) -> Self {
        let (sin, cos) = angle.to_radians().sin_cos();
        let (w, h) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
        // The corners about the middle, in whole pixels of the source's grid.
        let reach = |x: f64, y: f64, middle: f64| {
            let ends = [x * w + y * h, x * w - y * h, -x * w + y * h, -x * w - y * h].map(|end| end + middle);
            let (low, high) =
                (ends.iter().copied().fold(f64::MAX, f64::min), ends.iter().copied().fold(f64::MIN, f64::max));
            (high.ceil() - low.floor()).max(1.0) as u32
        };
        Self { cos, sin, width: reach(cos, sin, w), height: reach(sin, cos, h) }
    }

    fn pixels(&self) -> f64 {
        f64::from(self.width) * f64::from(self.height)
    }

    fn apply(&self, source: &RgbImage) -> RgbImage {
        let (w, h) = (f64::from(source.width()), f64::from(source.height()));
        let (cx, cy) = (f64::from(self.width) / 2.0, f64::from(self.height) / 2.0);
        RgbImage::from_fn(self.width, self.height, |x, y| {
            let (dx, dy) = (f64::from(x) + 0.5 - cx, f64::from(y) + 0.5 - cy);
            let (sx, sy) = (self.cos * dx - self.sin * dy + w / 2.0, self.sin * dx + self.cos * dy + h / 2.0);
            let inside = (0.0..w).contains(&sx) && (0.0..h).contains(&sy);
            if inside { bilinear(source, sx - 0.5, sy - 0.5) } else { Rgb([0; 3]) }
        })
    }
}

fn slanted(pixels: &RgbImage, angle: f64) -> Result<RgbImage, ToolError> {
    let turn = Turn::new(angle, pixels.dimensions());
    if turn.pixels() <= MOST_PIXELS {
        return Ok(turn.apply(pixels));
    }
    // The corners' rounding outwards may bring a row and a column more than the scale says.
    let scale = (MOST_PIXELS / turn.pixels()).sqrt() * 0.999;
    let side = |side: u32| (f64::from(side) * scale).max(1.0) as u32;
    let small = resized(pixels.clone(), side(pixels.width()), side(pixels.height()))?;
    Ok(Turn::new(angle, small.dimensions()).apply(&small))
}

/// The colour at a place counted from the middle of the first pixel; beyond the edge that of the edge.
fn bilinear(source: &RgbImage, x: f64, y: f64) -> Rgb<u8> {
    let (left, top) = (x.floor(), y.floor());
    let (u, v) = (x - left, y - top);
    let column = |x: f64| (x.max(0.0) as u32).min(source.width() - 1);
    let row = |y: f64| (y.max(0.0) as u32).min(source.height() - 1);
    let at = |x: f64, y: f64| source.get_pixel(column(x), row(y)).0.map(f64::from);
    let corners = [at(left, top), at(left + 1.0, top), at(left, top + 1.0), at(left + 1.0, top + 1.0)];
    Rgb(std::array::from_fn(|c| {
        let above = corners[0][c] + (corners[1][c] - corners[0][c]) * u;
        let below = corners[2][c] + (corners[3][c] - corners[2][c]) * u;
        (above + (below - above) * v).round() as u8
    }))
}
