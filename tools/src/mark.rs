//! `mark`: shows an image with a box drawn on it.

use image::{Rgb, RgbImage};
use imagent_core::{Arguments, BoxFrame, ImageShelf, ImageSizes, Observation, Orientation, Tool, ToolError, ToolSpec};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::region::{self, BoxRules, Pixels};
use crate::{arguments, picture};

const COLORS: [(&str, [u8; 3]); 8] = [
    ("red", [255, 0, 0]),
    ("green", [0, 255, 0]),
    ("blue", [0, 0, 255]),
    ("yellow", [255, 255, 0]),
    ("cyan", [0, 255, 255]),
    ("magenta", [255, 0, 255]),
    ("black", [0, 0, 0]),
    ("white", [255, 255, 255]),
];
const EXPECTED: &str = "one of red, green, blue, yellow, cyan, magenta, black, white";

/// Draws a box on image `image` of the shelf and shows the whole of it: what the model points at stays in its context.
///
/// The box is read as [`ZoomIn`](crate::ZoomIn) reads its own, without a limit to its sides' ratio. The line runs
/// around it on the outside, so that what is in the box stays as it is; where the image ends it moves inwards, so that
/// it is always whole. It is [`width`](Self::width) shown pixels wide, at least one of the image's own.
///
/// The observation's origin is the whole image: a region cut from the marked image is one of the image.
///
/// Arguments: `image`, an index of the shelf counted from 1; `bbox_2d`, `[x1, y1, x2, y2]`; `color`, a name, `red` where
/// it is left out.
///
/// ```
/// use std::sync::Arc;
/// use imagent_core::{ImageShelf, Size, Tool};
/// use imagent_tools::Mark;
///
/// let mut shelf = ImageShelf::new();
/// shelf.push(Arc::new(image::RgbImage::new(56, 56)), Size::new(56, 56), None);
/// let arguments = serde_json::json!({"image": 1, "bbox_2d": [10, 10, 20, 20]}).as_object().cloned().unwrap();
/// let seen = Mark { width: 1, ..Mark::default() }.call(&arguments, &shelf)?;
/// assert_eq!(seen.images[0].pixels.get_pixel(9, 9).0, [255, 0, 0]);
/// assert_eq!(seen.images[0].pixels.get_pixel(10, 10).0, [0, 0, 0]);
/// # Ok::<(), imagent_core::ToolError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mark {
    /// Frame of `bbox_2d`: `shown` (default, Qwen2.5-VL's own convention), `original`, `relative1000` or `unit`.
    pub frame: BoxFrame,
    /// Least side of the box, in pixels of the image as shown; a smaller one is a `tiny_box` error. Default 1.
    pub min_side: u32,
    /// Width of the line in pixels of the image as shown, 1 to 64. Default 2.
    #[serde(deserialize_with = "width")]
    pub width: u32,
}

impl Default for Mark {
    fn default() -> Self {
        Self { frame: BoxFrame::Shown, min_side: 1, width: 2 }
    }
}

fn width<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    region::in_range(u32::deserialize(deserializer)?, "width", 1, 64)
}

impl Mark {
    /// The line's width along each axis, in the image's own pixels.
    fn line(&self, sizes: &ImageSizes) -> (u32, u32) {
        let along = |original: u32, shown: u32| {
            let scale = f64::from(original) / f64::from(shown.max(1));
            (f64::from(self.width) * scale).round().max(1.0) as u32
        };
        (along(sizes.original.width, sizes.shown.width), along(sizes.original.height, sizes.shown.height))
    }
}

#[typetag::serde(name = "mark")]
impl Tool for Mark {
    fn spec(&self) -> ToolSpec {
        let names: Vec<&str> = COLORS.iter().map(|(name, _)| *name).collect();
        let color = json!({"type": "string", "enum": names, "description": "Color of the line, red by default."});
        let bbox = arguments::bbox_schema(self.frame);
        let properties = json!({"image": arguments::image_schema(), "bbox_2d": bbox, "color": color});
        arguments::spec("mark", "Shows an image with a box drawn on it.", properties, json!(["image", "bbox_2d"]))
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        arguments::only(arguments, &["image", "bbox_2d", "color"])?;
        let (index, image) = arguments::image(arguments, images)?;
        let rules = BoxRules { frame: self.frame, min_side: self.min_side, max_aspect: None };
        let region = rules.region(arguments::bbox_2d(arguments)?, index, &image.sizes)?;
        let color = match arguments.contains_key("color") {
            true => arguments::word("color", arguments, &COLORS, EXPECTED)?,
            false => COLORS[0].1,
        };
        let mut marked = picture::seen(image)?.clone();
        draw(&mut marked, region, self.line(&image.sizes), Rgb(color));
        Ok(picture::observation(marked, Some(picture::whole(index, image, Orientation::Upright))))
    }
}

/// Draws lines of this width around a region.
fn draw(picture: &mut RgbImage, region: Pixels, (across, down): (u32, u32), color: Rgb<u8>) {
    let (left, top) = (region.x.saturating_sub(across), region.y.saturating_sub(down));
    let right = region.x.saturating_add(region.width).saturating_add(across).min(picture.width());
    let bottom = region.y.saturating_add(region.height).saturating_add(down).min(picture.height());
    for y in top..bottom {
        let in_bar = y - top < down || bottom - 1 - y < down;
        for x in left..right {
            if in_bar || x - left < across || right - 1 - x < across {
                picture.put_pixel(x, y, color);
            }
        }
    }
}
