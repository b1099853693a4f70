//! `zoom_in`: cuts a region out of an image's original pixels and shows it on its own.

use image::RgbImage;
use imagent_core::{Arguments, BoxFrame, CropOrigin, ImageShelf, Observation, Tool, ToolError, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::arguments;
use crate::picture::{self, MOST_PIXELS, resized};
use crate::region::{self, BoxRules};

/// *Visual confirmation* of IMAgent (arXiv 2512.08980): crops a region of an image and shows it on its own, which the
/// model's processor enlarges.
///
/// The box is read in [`frame`](Self::frame), clamped to the image, and cut from the image's **original** pixels,
/// rounded outwards to whole pixels. The observation's origin is exactly the region that was cut; enlarging by
/// [`min_output`](Self::min_output) does not change it. Crops stand on the shelf like any other image, so a crop can
/// be cropped again.
///
/// Arguments: `image`, an index of the shelf counted from 1, and `bbox_2d`, `[x1, y1, x2, y2]`; both required, even
/// when there is one image, so that the model learns one form.
///
/// DeepEyes (arXiv 2505.14362), where the tool comes from, crops the first image only, takes sides above 30 px and
/// applies boxes given in shown pixels to the original image. The paper's own schema is not printed; ours is `zoom_in`
/// with Qwen2.5-VL's `bbox_2d`.
///
/// ```
/// use std::sync::Arc;
/// use imagent_core::{ImageShelf, Size, Tool};
/// use imagent_tools::ZoomIn;
///
/// let mut shelf = ImageShelf::new();
/// shelf.push(Arc::new(image::RgbImage::new(448, 448)), Size::new(112, 112), None);
/// let arguments = serde_json::json!({"image": 1, "bbox_2d": [10, 20, 30, 40]}).as_object().cloned().unwrap();
/// let seen = ZoomIn::default().call(&arguments, &shelf)?;
/// assert_eq!(seen.images[0].pixels.dimensions(), (80, 80));
/// assert_eq!(seen.images[0].origin.unwrap().bbox.to_array(), [40.0, 80.0, 120.0, 160.0]);
/// # Ok::<(), imagent_core::ToolError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZoomIn {
    /// Frame of `bbox_2d`: `shown` (default, Qwen2.5-VL's own convention), `original`, `relative1000` or `unit`.
    pub frame: BoxFrame,
    /// Least side of the box, in pixels of the image as shown; a smaller one is a `tiny_box` error. Default 4, a
    /// seventh of one of the model's 28-pixel cells: small enough for a digit of the nano world (2.5 × 3.5 shown
    /// pixels with any margin), large enough that a crop holds something. DeepEyes takes 30.
    pub min_side: u32,
    /// Largest ratio of the crop's sides, 1 to 200; a larger one is a `thin_box` error. Default 100, as in DeepEyes.
    /// Above 200 Qwen2.5-VL's processor refuses an image.
    #[serde(deserialize_with = "region::max_aspect")]
    pub max_aspect: u32,
    /// Least shorter side of the returned image in pixels, 0 to 2048; a smaller crop is enlarged (Catmull-Rom), as far as it
    /// stays within 12,845,056 pixels, Qwen2.5-VL's largest image. Default 0: the processor enlarges anyway.
    #[serde(deserialize_with = "region::min_output")]
    pub min_output: u32,
}

impl Default for ZoomIn {
    fn default() -> Self {
        Self { frame: BoxFrame::Shown, min_side: 4, max_aspect: 100, min_output: 0 }
    }
}

impl ZoomIn {
    fn rules(&self) -> BoxRules {
        BoxRules { frame: self.frame, min_side: self.min_side, max_aspect: Some(self.max_aspect) }
    }

    /// Enlarges a crop whose shorter side is below `min_output`.
    fn enlarge(&self, crop: RgbImage) -> Result<RgbImage, ToolError> {
        let (width, height) = (f64::from(crop.width()), f64::from(crop.height()));
        let scale = (f64::from(self.min_output) / width.min(height)).min((MOST_PIXELS / (width * height)).sqrt());
        if scale <= 1.0 {
            return Ok(crop);
        }
        resized(crop, (width * scale).round() as u32, (height * scale).round() as u32)
    }
}

#[typetag::serde(name = "zoom_in")]
impl Tool for ZoomIn {
    fn spec(&self) -> ToolSpec {
        let properties = json!({"image": arguments::image_schema(), "bbox_2d": arguments::bbox_schema(self.frame)});
        arguments::spec(
            "zoom_in",
            "Cuts out a region of an image and shows it enlarged.",
            properties,
            json!(["image", "bbox_2d"]),
        )
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        arguments::only(arguments, &["image", "bbox_2d"])?;
        let (index, image) = arguments::image(arguments, images)?;
        let cut = self.rules().region(arguments::bbox_2d(arguments)?, index, &image.sizes)?;
        let crop = self.enlarge(cut.crop(&image.pixels))?;
        Ok(picture::observation(crop, Some(CropOrigin::new(index, cut.bbox()))))
    }
}
