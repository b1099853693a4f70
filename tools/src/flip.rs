//! `flip`: shows an image mirrored.

use image::imageops;
use imagent_core::{Arguments, ImageShelf, Observation, Orientation, Tool, ToolError, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{arguments, picture};

const DIRECTIONS: [(&str, Orientation); 2] =
    [("horizontal", Orientation::MirroredX), ("vertical", Orientation::MirroredY)];

/// Shows image `image` of the shelf mirrored: `horizontal` swaps left and right (text seen in a mirror), `vertical` top and
/// bottom; Pillow's `FLIP_LEFT_RIGHT` and `FLIP_TOP_BOTTOM`. Pixels are moved, none is computed.
///
/// The observation's origin is the whole image, mirrored: a region cut from it is found again on its source.
///
/// Arguments: `image`, an index of the shelf counted from 1, and `direction`.
///
/// ```
/// use std::sync::Arc;
/// use imagent_core::{ImageShelf, Size, Tool};
/// use imagent_tools::Flip;
///
/// let mut shelf = ImageShelf::new();
/// let pixels = image::RgbImage::from_fn(2, 1, |x, _| image::Rgb([x as u8; 3]));
/// shelf.push(Arc::new(pixels), Size::new(28, 28), None);
/// let arguments = serde_json::json!({"image": 1, "direction": "horizontal"}).as_object().cloned().unwrap();
/// let seen = Flip::default().call(&arguments, &shelf)?;
/// assert_eq!(seen.images[0].pixels.as_raw(), &[1, 1, 1, 0, 0, 0]);
/// # Ok::<(), imagent_core::ToolError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flip {}

#[typetag::serde(name = "flip")]
impl Tool for Flip {
    fn spec(&self) -> ToolSpec {
        let about = "`horizontal` swaps left and right, `vertical` top and bottom.";
        let direction = json!({"type": "string", "enum": ["horizontal", "vertical"], "description": about});
        let properties = json!({"image": arguments::image_schema(), "direction": direction});
        arguments::spec("flip", "Shows an image mirrored.", properties, json!(["image", "direction"]))
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        arguments::only(arguments, &["image", "direction"])?;
        let (index, image) = arguments::image(arguments, images)?;
        let orientation = arguments::word("direction", arguments, &DIRECTIONS, "`horizontal` or `vertical`")?;
        let pixels = picture::seen(image)?;
        let flipped = match orientation {
            Orientation::MirroredX => imageops::flip_horizontal(pixels),
            _ => imageops::flip_vertical(pixels),
        };
        Ok(picture::observation(flipped, Some(picture::whole(index, image, orientation))))
    }
}
