//! `compare`: shows two regions side by side.

use image::{Rgb, RgbImage, imageops};
use imagent_core::{Arguments, BoxFrame, ImageShelf, Observation, Tool, ToolError, ToolSpec};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::arguments;
use crate::picture::{self, MOST_PIXELS, resized};
use crate::region::{self, BoxRules};

/// Largest `max_aspect`: two regions and the gap together stay within 200, where Qwen2.5-VL's processor ends.
const MOST_ASPECT: u32 = 99;
/// Colour of the gap.
const GAP: Rgb<u8> = Rgb([128; 3]);
/// Least shorter side, so that the gap is never longer than it.
const LEAST_SIDE: u32 = 28;

/// Shows two regions side by side in one picture, of any two images of the shelf or of one: what differs is seen at
/// once, and costs the tokens of one image.
///
/// Both boxes are read as [`ZoomIn`](crate::ZoomIn) reads its own and cut from original pixels. The first stands on the
/// left. Both get the height of the taller one (at least 28; Catmull-Rom, each keeps its proportions), and a grey gap stands
/// between them. A picture above 12,845,056 pixels, Qwen2.5-VL's largest image, is made smaller.
///
/// The observation has **no origin**: it shows two regions, so nothing that is cut from it maps to a source.
///
/// Arguments: `image` and `bbox_2d` of the first region, `other_image` and `other_bbox_2d` of the second.
///
/// ```
/// use std::sync::Arc;
/// use imagent_core::{ImageShelf, Size, Tool};
/// use imagent_tools::Compare;
///
/// let mut shelf = ImageShelf::new();
/// shelf.push(Arc::new(image::RgbImage::new(112, 112)), Size::new(112, 112), None);
/// let arguments = serde_json::json!({
///     "image": 1, "bbox_2d": [0, 0, 40, 40], "other_image": 1, "other_bbox_2d": [50, 50, 90, 70],
/// });
/// let seen = Compare::default().call(&arguments.as_object().cloned().unwrap(), &shelf)?;
/// assert_eq!(seen.images[0].pixels.dimensions(), (40 + 8 + 80, 40));
/// # Ok::<(), imagent_core::ToolError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compare {
    /// Frame of the boxes: `shown` (default, Qwen2.5-VL's own convention), `original`, `relative1000` or `unit`.
    pub frame: BoxFrame,
    /// Least side of a box, in pixels of the image as shown; a smaller one is a `tiny_box` error. Default 4, as for
    /// `zoom_in`.
    pub min_side: u32,
    /// Largest ratio of a region's sides, 1 to 99; a larger one is a `thin_box` error. Default 50.
    #[serde(deserialize_with = "aspect")]
    pub max_aspect: u32,
    /// Width of the gap in pixels, 0 to 28. Default 8.
    #[serde(deserialize_with = "gap")]
    pub gap: u32,
}

impl Default for Compare {
    fn default() -> Self {
        Self { frame: BoxFrame::Shown, min_side: 4, max_aspect: 50, gap: 8 }
    }
}

fn aspect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    region::in_range(u32::deserialize(deserializer)?, "max_aspect", 1, MOST_ASPECT)
}

fn gap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    region::in_range(u32::deserialize(deserializer)?, "gap", 0, LEAST_SIDE)
}

impl Compare {
    fn cut(
        &self,
        arguments: &Arguments,
        (image, bbox): (&'static str, &'static str),
        images: &ImageShelf,
    ) -> Result<Result<RgbImage, ToolError>, ToolError> {
        let (index, image) = arguments::image_named(image, arguments, images)?;
        let corners = arguments::bbox_named(bbox, arguments)?;
        let max_aspect = Some(self.max_aspect.min(MOST_ASPECT));
        let rules = BoxRules { frame: self.frame, min_side: self.min_side, max_aspect };
        Ok(rules.region(corners, index, &image.sizes).map(|region| region.crop(&image.pixels)))
    }

    /// Both at one height, with the gap between them.
    fn join(&self, left: RgbImage, right: RgbImage) -> Result<RgbImage, ToolError> {
        let width_at = |picture: &RgbImage, height: f64| {
            (f64::from(picture.width()) * height / f64::from(picture.height())).round().max(1.0)
        };
        let gap = self.gap.min(LEAST_SIDE);
        let mut height = f64::from(left.height().max(right.height()).max(LEAST_SIDE));
        let pixels = (width_at(&left, height) + width_at(&right, height) + f64::from(gap)) * height;
        if pixels > MOST_PIXELS {
            height = (height * (MOST_PIXELS / pixels).sqrt()).floor();
        }
        let (first, second) = (width_at(&left, height) as u32, width_at(&right, height) as u32);
        let (left, right) = (resized(left, first, height as u32)?, resized(right, second, height as u32)?);
        let mut joined = RgbImage::from_pixel(first + gap + second, height as u32, GAP);
        imageops::replace(&mut joined, &left, 0, 0);
        imageops::replace(&mut joined, &right, i64::from(first + gap), 0);
        Ok(joined)
    }
}

#[typetag::serde(name = "compare")]
impl Tool for Compare {
    fn spec(&self) -> ToolSpec {
        let (image, bbox) = (arguments::image_schema(), arguments::bbox_schema(self.frame));
        let properties = json!({"image": image, "bbox_2d": bbox, "other_image": image, "other_bbox_2d": bbox});
        let required = json!(["image", "bbox_2d", "other_image", "other_bbox_2d"]);
        arguments::spec("compare", "Shows two regions of images side by side.", properties, required)
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        arguments::only(arguments, &["image", "bbox_2d", "other_image", "other_bbox_2d"])?;
        let left = self.cut(arguments, ("image", "bbox_2d"), images)??;
        let right = self.cut(arguments, ("other_image", "other_bbox_2d"), images)?;
        let right = right.map_err(|error| ToolError::OtherBox(Box::new(error)))?;
        Ok(picture::observation(self.join(left, right)?, None))
    }
}
