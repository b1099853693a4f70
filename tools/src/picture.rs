//! What tools do with pixels alike: resizing, and putting a picture into an observation.

use std::sync::Arc;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use imagent_core::{BBox, CropOrigin, Observation, ObservationImage, Orientation, ShelfImage, ToolError};

/// Most pixels that Qwen2.5-VL is shown of one image by default (16384 × 28 × 28): more is lost.
pub(crate) const MOST_PIXELS: f64 = 12_845_056.0;

/// An observation of one picture.
pub(crate) fn observation(pixels: RgbImage, origin: Option<CropOrigin>) -> Observation {
    Observation { text: String::new(), images: vec![ObservationImage { pixels: Arc::new(pixels), origin }] }
}

/// The whole of an image, as an origin.
pub(crate) fn whole(index: usize, image: &ShelfImage, orientation: Orientation) -> CropOrigin {
    let size = image.sizes.original;
    let bbox = BBox::new(0.0, 0.0, f64::from(size.width), f64::from(size.height));
    CropOrigin { orientation, ..CropOrigin::new(index, bbox) }
}

/// Refuses an image without pixels; a shelf of a program's own may hold one.
pub(crate) fn seen(image: &ShelfImage) -> Result<&RgbImage, ToolError> {
    let size = image.sizes.original;
    let wrong = || ToolError::Other("the image has no pixels".to_owned());
    (size.width > 0 && size.height > 0).then_some(image.pixels.as_ref()).ok_or_else(wrong)
}

/// The picture in another size (Catmull-Rom); at least one pixel a side.
pub(crate) fn resized(picture: RgbImage, width: u32, height: u32) -> Result<RgbImage, ToolError> {
    if picture.dimensions() == (width, height) {
        return Ok(picture);
    }
    let (width, height) = (width.max(1), height.max(1));
    let mut other = RgbImage::new(width, height);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let failed = |error: &dyn std::error::Error| ToolError::Other(error.to_string());
    // Of one type of pixels: for those that an image may have at run time, all types are compiled, for over a minute.
    let from = TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), &picture);
    let to = TypedImage::<U8x3>::from_buffer(width, height, &mut other);
    let (from, mut to) = (from.map_err(|error| failed(&error))?, to.map_err(|error| failed(&error))?);
    Resizer::new().resize_typed(&from, &mut to, &options).map_err(|error| failed(&error))?;
    Ok(other)
}
