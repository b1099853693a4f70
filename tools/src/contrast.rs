//! `contrast`: shows an image with more or less contrast.

use image::{Rgb, RgbImage};
use imagent_core::{Arguments, ImageShelf, Observation, Orientation, Tool, ToolError, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{arguments, picture};

/// Least factor; below it nothing is left to see.
const LEAST: f64 = 0.1;
/// Largest factor; above it a picture is black and white.
const MOST: f64 = 10.0;

/// Shows image `image` of the shelf with its contrast times `factor`, 0.1 to 10; 1 changes nothing.
///
/// Each channel of each pixel becomes `m + factor · (value − m)`, cut off at 0 and 255, where `m` is the mean grey of
/// the image; the bytes are those of Pillow's `ImageEnhance.Contrast(image).enhance(factor)`.
///
/// The observation's origin is the whole image.
///
/// Arguments: `image`, an index of the shelf counted from 1, and `factor`.
///
/// ```
/// use std::sync::Arc;
/// use imagent_core::{ImageShelf, Size, Tool};
/// use imagent_tools::Contrast;
///
/// let mut shelf = ImageShelf::new();
/// let pixels = image::RgbImage::from_fn(2, 1, |x, _| image::Rgb([100 + 20 * x as u8; 3]));
/// shelf.push(Arc::new(pixels), Size::new(28, 28), None);
/// let arguments = serde_json::json!({"image": 1, "factor": 3}).as_object().cloned().unwrap();
/// let seen = Contrast::default().call(&arguments, &shelf)?;
/// assert_eq!(seen.images[0].pixels.as_raw(), &[80, 80, 80, 140, 140, 140]);
/// # Ok::<(), imagent_core::ToolError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {}

#[typetag::serde(name = "contrast")]
impl Tool for Contrast {
    fn spec(&self) -> ToolSpec {
        let about = "Above 1 for more contrast, below 1 for less.";
        let factor = json!({"type": "number", "minimum": LEAST, "maximum": MOST, "description": about});
        let properties = json!({"image": arguments::image_schema(), "factor": factor});
        let description = "Shows an image with more or less contrast.";
        arguments::spec("contrast", description, properties, json!(["image", "factor"]))
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        arguments::only(arguments, &["image", "factor"])?;
        let (index, image) = arguments::image(arguments, images)?;
        let factor = arguments::number("factor", arguments)?;
        if !(LEAST..=MOST).contains(&factor) {
            return Err(ToolError::OutOfRange { argument: "factor", low: LEAST, high: MOST });
        }
        let changed = stretched(picture::seen(image)?, factor as f32);
        Ok(picture::observation(changed, Some(picture::whole(index, image, Orientation::Upright))))
    }
}

fn stretched(pixels: &RgbImage, factor: f32) -> RgbImage {
    let middle = mean_grey(pixels);
    // In f32 and cut to whole numbers, as Pillow blends. A cast to u8 also cuts off at 0 and 255.
    let table: [u8; 256] = std::array::from_fn(|value| (middle + factor * (value as f32 - middle)) as u8);
    let mut changed = pixels.clone();
    changed.pixels_mut().for_each(|Rgb(channels)| *channels = channels.map(|value| table[usize::from(value)]));
    changed
}

/// The mean of the pixels' grey (ITU-R 601-2 in 16-bit fixed point, as Pillow's mode L), rounded to a whole level.
fn mean_grey(pixels: &RgbImage) -> f32 {
    let grey =
        |[r, g, b]: [u8; 3]| (u64::from(r) * 19_595 + u64::from(g) * 38_470 + u64::from(b) * 7_471 + 0x8000) >> 16;
    let sum: u64 = pixels.pixels().map(|pixel| grey(pixel.0)).sum();
    let count = u64::from(pixels.width()) * u64::from(pixels.height());
    (sum as f64 / count.max(1) as f64 + 0.5).floor() as f32
}
