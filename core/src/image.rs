//! The image shelf: every image of one episode, addressed by one index as the model sees them numbered.

use std::sync::Arc;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::frame::{BBox, ImageSizes, Original, Shown, Size};

/// Where an observation's image was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropOrigin {
    /// Shelf index (from 1) of the source image.
    pub image: usize,
    /// The region of the source that was taken.
    pub bbox: BBox<Original>,
}

/// One image of a shelf. Pixels are shared, never copied.
#[derive(Clone, Debug)]
pub struct ShelfImage {
    /// The pixels as read or cropped, before the model's resize.
    pub pixels: Arc<RgbImage>,
    /// Its size as read and as the model sees it.
    pub sizes: ImageSizes,
    /// Where it was cut from, for images that tools returned.
    pub origin: Option<CropOrigin>,
}

/// Original images 1..n, then each observation's images, all addressable by one index.
#[derive(Clone, Debug, Default)]
pub struct ImageShelf {
    images: Vec<ShelfImage>,
}

impl ImageShelf {
    /// An empty shelf.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an image at the end and returns its index, counted from 1.
    pub fn push(&mut self, pixels: Arc<RgbImage>, shown: Size, origin: Option<CropOrigin>) -> usize {
        let original = Size::new(pixels.width(), pixels.height());
        self.images.push(ShelfImage { pixels, sizes: ImageSizes { original, shown }, origin });
        self.images.len()
    }

    /// The image with this index, counted from 1.
    pub fn get(&self, index: usize) -> Option<&ShelfImage> {
        index.checked_sub(1).and_then(|i| self.images.get(i))
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// All images in order of their index.
    pub fn iter(&self) -> impl Iterator<Item = &ShelfImage> {
        self.images.iter()
    }

    /// The region of original image `root` that image `index` shows, through any number of crops of crops.
    ///
    /// Returns the root's index and the region in its original pixels; `None` where there is no such image, or where
    /// an origin names no earlier image.
    pub fn root_region(&self, index: usize) -> Option<(usize, BBox<Original>)> {
        let mut image = self.get(index)?;
        let (w, h) = (f64::from(image.sizes.original.width), f64::from(image.sizes.original.height));
        let (mut at, mut region) = (index, BBox::new(0.0, 0.0, w, h));
        while let Some(origin) = image.origin {
            let (ow, oh) = (f64::from(image.sizes.original.width), f64::from(image.sizes.original.height));
            let (sx, sy) = (origin.bbox.width() / ow, origin.bbox.height() / oh);
            region = BBox::new(
                origin.bbox.x1 + region.x1 * sx,
                origin.bbox.y1 + region.y1 * sy,
                origin.bbox.x1 + region.x2 * sx,
                origin.bbox.y1 + region.y2 * sy,
            );
            // A tool of somebody else's may name any image; a cycle would never end.
            at = Some(origin.image).filter(|&source| source < at)?;
            image = self.get(at)?;
        }
        Some((at, region))
    }

    /// A box that the model gave on image `index`, in that image's original pixels.
    pub fn to_original(&self, index: usize, shown: BBox<Shown>) -> Option<BBox<Original>> {
        self.get(index).map(|image| shown.to(&image.sizes))
    }
}
