//! `withheld`: another tool, of which only the call counts: what comes back shows nothing.

use std::sync::Arc;

use image::{Rgb, RgbImage};
use imagent_core::{Arguments, ImageShelf, Observation, Tool, ToolError, ToolSpec};
use serde::{Deserialize, Serialize};

use crate::ZoomIn;

/// What an image without content is filled with.
const GREY: Rgb<u8> = Rgb([128; 3]);

/// The control *call without result*: the model is told of [`tool`](Self::tool) and calls it by its name, the call is checked and
/// carried out, but each image that comes back is replaced by a plain grey one of the same size, and a text is left out. So the
/// episode has as many turns and, as tools answer with images alone, as many tokens as with the tool; what differs is what is seen.
///
/// Errors are the tool's own. An image keeps the origin of what it stands for, so that figures of where the model looked mean
/// what they mean with the tool.
///
/// ```
/// use std::sync::Arc;
/// use imagent_core::{ImageShelf, Size, Tool};
/// use imagent_tools::{Withheld, ZoomIn};
///
/// let mut shelf = ImageShelf::new();
/// shelf.push(Arc::new(image::RgbImage::new(448, 448)), Size::new(112, 112), None);
/// let arguments = serde_json::json!({"image": 1, "bbox_2d": [10, 20, 30, 40]}).as_object().cloned().unwrap();
/// let (seen, withheld) = (ZoomIn::default().call(&arguments, &shelf)?, Withheld::default().call(&arguments, &shelf)?);
/// assert_eq!(withheld.images[0].pixels.dimensions(), seen.images[0].pixels.dimensions());
/// assert_eq!(withheld.images[0].origin, seen.images[0].origin);
/// assert!(withheld.images[0].pixels.pixels().all(|pixel| pixel.0 == [128; 3]));
/// # Ok::<(), imagent_core::ToolError>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Withheld {
    /// The tool whose results are withheld. Default `zoom_in`.
    pub tool: Box<dyn Tool>,
}

impl Default for Withheld {
    fn default() -> Self {
        Self { tool: Box::new(ZoomIn::default()) }
    }
}

#[typetag::serde(name = "withheld")]
impl Tool for Withheld {
    fn spec(&self) -> ToolSpec {
        self.tool.spec()
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        let mut seen = self.tool.call(arguments, images)?;
        seen.text.clear();
        for image in &mut seen.images {
            let (width, height) = image.pixels.dimensions();
            image.pixels = Arc::new(RgbImage::from_pixel(width, height, GREY));
        }
        Ok(seen)
    }
}
