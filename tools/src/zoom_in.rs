//! `zoom_in`: cuts a region out of an image's original pixels and shows it on its own.

use std::sync::Arc;

use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, RgbImage, imageops};
use imagent_core::{
    Arguments, BBox, CropOrigin, Frame, ImageShelf, ImageSizes, Observation, ObservationImage, Original, Relative1000,
    Shown, Tool, ToolError, ToolSpec, Unit,
};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::arguments;

/// Qwen2.5-VL's processor refuses images longer than this many times their width.
const PROCESSOR_ASPECT: u32 = 200;
/// Most pixels that Qwen2.5-VL is shown of one image by default (16384 × 28 × 28): enlarging further is lost.
const MOST_PIXELS: f64 = 12_845_056.0;
/// What a coordinate may be off by rounding in a change of frame; far below a pixel.
const ROUNDING: f64 = 1e-6;

/// The frame in which the model gives `bbox_2d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxFrame {
    /// Pixels of the image as resized for the model: what Qwen2.5-VL is trained to give.
    #[default]
    Shown,
    /// Pixels of the image file, or of the crop.
    Original,
    /// Thousandths of width and height.
    Relative1000,
    /// Fractions of width and height.
    Unit,
}

impl BoxFrame {
    /// What the model is told of the frame.
    fn describe(self) -> &'static str {
        match self {
            Self::Shown => "in pixels of the image as shown",
            Self::Original => "in pixels of the original image",
            Self::Relative1000 => "in thousandths of the image's width and height",
            Self::Unit => "in fractions of the image's width and height",
        }
    }

    /// The part of the box that lies on the image; `None` where there is none.
    fn region(self, corners: [f64; 4], sizes: &ImageSizes) -> Option<Region> {
        match self {
            Self::Shown => Region::on_image::<Shown>(corners, sizes),
            Self::Original => Region::on_image::<Original>(corners, sizes),
            Self::Relative1000 => Region::on_image::<Relative1000>(corners, sizes),
            Self::Unit => Region::on_image::<Unit>(corners, sizes),
        }
    }
}

/// One region in the two frames that matter here.
struct Region {
    shown: BBox<Shown>,
    original: BBox<Original>,
}

impl Region {
    /// Clamps before it changes frames, so that all numbers stay finite.
    fn on_image<F: Frame>(corners: [f64; 4], sizes: &ImageSizes) -> Option<Self> {
        let bbox = BBox::<F>::from(corners).clamp(sizes);
        (bbox.area() > 0.0).then(|| Self { shown: bbox.to(sizes), original: bbox.to(sizes) })
    }
}

/// A region in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pixels {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Pixels {
    /// The smallest whole-pixel region that covers `bbox`, at least one pixel a side.
    fn covering(bbox: BBox<Original>, sizes: &ImageSizes) -> Self {
        let (x, width) = cover(bbox.x1, bbox.x2, sizes.original.width);
        let (y, height) = cover(bbox.y1, bbox.y2, sizes.original.height);
        Self { x, y, width, height }
    }

    fn bbox(self) -> BBox<Original> {
        let (x, y) = (f64::from(self.x), f64::from(self.y));
        BBox::new(x, y, x + f64::from(self.width), y + f64::from(self.height))
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
    #[serde(deserialize_with = "aspect")]
    pub max_aspect: u32,
    /// Least shorter side of the returned image in pixels, 0 to 2048; a smaller crop is enlarged (Catmull-Rom), as far as it
    /// stays within 12,845,056 pixels, Qwen2.5-VL's largest image. Default 0: the processor enlarges anyway.
    #[serde(deserialize_with = "output")]
    pub min_output: u32,
}

impl Default for ZoomIn {
    fn default() -> Self {
        Self { frame: BoxFrame::Shown, min_side: 4, max_aspect: 100, min_output: 0 }
    }
}

fn aspect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(u32::deserialize(deserializer)?, "max_aspect", 1, PROCESSOR_ASPECT)
}

fn output<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(u32::deserialize(deserializer)?, "min_output", 0, 2048)
}

fn in_range<E: serde::de::Error>(value: u32, name: &str, low: u32, high: u32) -> Result<u32, E> {
    let wrong = || E::custom(format_args!("{name} must be from {low} to {high}, got {value}"));
    (low..=high).contains(&value).then_some(value).ok_or_else(wrong)
}

impl ZoomIn {
    /// The whole pixels to cut, or why the box is refused.
    fn region(&self, corners: [f64; 4], index: usize, sizes: &ImageSizes) -> Result<Pixels, ToolError> {
        let [x1, y1, x2, y2] = corners;
        if x1 >= x2 || y1 >= y2 {
            return Err(ToolError::EmptyBox);
        }
        let region = self.frame.region(corners, sizes).ok_or(ToolError::OutsideBox(index))?;
        if region.shown.width().min(region.shown.height()) + ROUNDING < f64::from(self.min_side) {
            return Err(ToolError::TinyBox { min: self.min_side });
        }
        let cut = Pixels::covering(region.original, sizes);
        if cut.is_thinner_than(self.max_aspect) {
            return Err(ToolError::ThinBox { max: self.max_aspect });
        }
        Ok(cut)
    }

    /// Enlarges a crop whose shorter side is below `min_output`.
    fn enlarge(&self, crop: RgbImage) -> Result<RgbImage, ToolError> {
        let (width, height) = (f64::from(crop.width()), f64::from(crop.height()));
        let scale = (f64::from(self.min_output) / width.min(height)).min((MOST_PIXELS / (width * height)).sqrt());
        if scale <= 1.0 {
            return Ok(crop);
        }
        let mut enlarged =
            DynamicImage::ImageRgb8(RgbImage::new((width * scale).round() as u32, (height * scale).round() as u32));
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
        Resizer::new()
            .resize(&DynamicImage::ImageRgb8(crop), &mut enlarged, &options)
            .map_err(|error| ToolError::Other(error.to_string()))?;
        Ok(enlarged.into_rgb8())
    }
}

#[typetag::serde(name = "zoom_in")]
impl Tool for ZoomIn {
    fn spec(&self) -> ToolSpec {
        let bbox = format!("The region as [x1, y1, x2, y2], {}.", self.frame.describe());
        ToolSpec {
            name: "zoom_in".to_owned(),
            description: "Cuts out a region of an image and shows it enlarged.".to_owned(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "image": {"type": "integer", "minimum": 1, "description": "Number of the image, counted from 1."},
                    "bbox_2d": {
                        "type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4, "description": bbox,
                    },
                },
                "required": ["image", "bbox_2d"],
            }),
        }
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        arguments::only(arguments, &["image", "bbox_2d"])?;
        let (index, image) = arguments::image(arguments, images)?;
        let cut = self.region(arguments::bbox_2d(arguments)?, index, &image.sizes)?;
        let crop = imageops::crop_imm(image.pixels.as_ref(), cut.x, cut.y, cut.width, cut.height).to_image();
        let origin = Some(CropOrigin { image: index, bbox: cut.bbox() });
        let pixels = Arc::new(self.enlarge(crop)?);
        Ok(Observation { text: String::new(), images: vec![ObservationImage { pixels, origin }] })
    }
}
