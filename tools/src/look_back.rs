//! `look_back`: puts an image in front of the model again.

use std::sync::Arc;

use imagent_core::{Arguments, ImageShelf, Observation, ObservationImage, Orientation, Tool, ToolError, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{arguments, picture};

/// *Visual reflection* of IMAgent (arXiv 2512.08980): returns image `image` of the shelf once more, so that its tokens
/// stand close to what the model writes next.
///
/// The pixels are shared with the image looked back at ([`Arc::ptr_eq`]), so a model can reuse the features that it
/// has computed. The observation's origin is the whole image. The paper names the tool's purpose but prints no
/// schema; name and argument are ours.
///
/// Arguments: `image`, an index of the shelf counted from 1.
///
/// ```
/// use std::sync::Arc;
/// use imagent_core::{ImageShelf, Size, Tool};
/// use imagent_tools::LookBack;
///
/// let mut shelf = ImageShelf::new();
/// shelf.push(Arc::new(image::RgbImage::new(56, 56)), Size::new(56, 56), None);
/// let arguments = serde_json::json!({"image": 1}).as_object().cloned().unwrap();
/// let seen = LookBack::default().call(&arguments, &shelf)?;
/// assert!(Arc::ptr_eq(&seen.images[0].pixels, &shelf.get(1).unwrap().pixels));
/// # Ok::<(), imagent_core::ToolError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookBack {}

#[typetag::serde(name = "look_back")]
impl Tool for LookBack {
    fn spec(&self) -> ToolSpec {
        let properties = json!({"image": arguments::image_schema()});
        arguments::spec("look_back", "Shows an image again.", properties, json!(["image"]))
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        arguments::only(arguments, &["image"])?;
        let (index, image) = arguments::image(arguments, images)?;
        let origin = Some(picture::whole(index, image, Orientation::Upright));
        let pixels = Arc::clone(&image.pixels);
        Ok(Observation { text: String::new(), images: vec![ObservationImage { pixels, origin }] })
    }
}
