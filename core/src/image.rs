//! The image shelf: every image of one episode, addressed by one index as the model sees them numbered.

use std::sync::Arc;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::frame::{BBox, Frame, ImageSizes, Original, Shown, Size};

/// How a picture lies on the region that it shows: by quarter turns or mirrored, so that its sides stay parallel to the
/// source's. A picture turned by any other angle shows no axis-aligned region, and has no [`CropOrigin`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Orientation {
    /// As the source.
    #[default]
    Upright,
    /// Turned clockwise by 90°.
    QuarterRight,
    /// Turned by 180°.
    Half,
    /// Turned counter-clockwise by 90°.
    QuarterLeft,
    /// Left and right are swapped.
    MirroredX,
    /// Top and bottom are swapped.
    MirroredY,
}

impl Orientation {
    /// Whether a picture lies as its source.
    pub fn is_upright(&self) -> bool {
        *self == Self::Upright
    }

    /// A region of a picture of extent 1 × 1, on a source of extent 1 × 1.
    fn unturn<F: Frame>(self, b: BBox<F>) -> BBox<F> {
        match self {
            Self::Upright => b,
            Self::QuarterRight => BBox::new(b.y1, 1.0 - b.x2, b.y2, 1.0 - b.x1),
            Self::Half => BBox::new(1.0 - b.x2, 1.0 - b.y2, 1.0 - b.x1, 1.0 - b.y1),
            Self::QuarterLeft => BBox::new(1.0 - b.y2, b.x1, 1.0 - b.y1, b.x2),
            Self::MirroredX => BBox::new(1.0 - b.x2, b.y1, 1.0 - b.x1, b.y2),
            Self::MirroredY => BBox::new(b.x1, 1.0 - b.y2, b.x2, 1.0 - b.y1),
        }
    }
}

/// Where an observation's image was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropOrigin {
    /// Shelf index (from 1) of the source image.
    pub image: usize,
    /// The region of the source that was taken.
    pub bbox: BBox<Original>,
    /// How the image lies on that region.
    #[serde(default, skip_serializing_if = "Orientation::is_upright")]
    pub orientation: Orientation,
}

impl CropOrigin {
    /// A region of image `image` as it stands there.
    pub const fn new(image: usize, bbox: BBox<Original>) -> Self {
        Self { image, bbox, orientation: Orientation::Upright }
    }

    /// A region of the image with this origin, whose size is `size`, in pixels of the source.
    ///
    /// ```
    /// use imagent_core::{BBox, CropOrigin, Orientation, Size};
    /// // The left half of a 40 × 20 image, turned clockwise: 20 × 20 pixels, what was on the left is on top.
    /// let half = CropOrigin::new(1, BBox::new(0.0, 0.0, 20.0, 20.0));
    /// let turned = CropOrigin { orientation: Orientation::QuarterRight, ..half };
    /// let top = BBox::new(0.0, 0.0, 20.0, 5.0);
    /// assert_eq!(turned.to_source(Size::new(20, 20), top).to_array(), [0.0, 0.0, 5.0, 20.0]);
    /// ```
    pub fn to_source(&self, size: Size, region: BBox<Original>) -> BBox<Original> {
        let (w, h) = (f64::from(size.width), f64::from(size.height));
        let (bw, bh) = (self.bbox.width(), self.bbox.height());
        let (sx, sy, region) = match self.orientation {
            Orientation::Upright => (bw / w, bh / h, region),
            turned => (bw, bh, turned.unturn(BBox::new(region.x1 / w, region.y1 / h, region.x2 / w, region.y2 / h))),
        };
        BBox::new(
            self.bbox.x1 + region.x1 * sx,
            self.bbox.y1 + region.y1 * sy,
            self.bbox.x1 + region.x2 * sx,
            self.bbox.y1 + region.y2 * sy,
        )
    }
}

/// One image of a shelf. Pixels are shared, never copied.
#[derive(Clone, Debug)]
pub struct ShelfImage {
    /// The pixels as read or cropped, before the model's resize.
    pub pixels: Arc<RgbImage>,
    /// Its size as read and as the model sees it.
    pub sizes: ImageSizes,
    /// Where it was cut from, for images that tools returned and that show one region.
    pub origin: Option<CropOrigin>,
    /// Whether a tool returned it; else it is one of the sample's own.
    pub observed: bool,
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

    /// Puts an image at the end and returns its index, counted from 1. Without an origin it is one of the sample's own.
    pub fn push(&mut self, pixels: Arc<RgbImage>, shown: Size, origin: Option<CropOrigin>) -> usize {
        self.put(pixels, shown, origin, origin.is_some())
    }

    /// Puts an image that a tool returned at the end and returns its index, counted from 1. Without an origin it shows no
    /// one region of another: [`root_region`](Self::root_region) has none for it and for what is cut from it.
    pub fn observe(&mut self, pixels: Arc<RgbImage>, shown: Size, origin: Option<CropOrigin>) -> usize {
        self.put(pixels, shown, origin, true)
    }

    fn put(&mut self, pixels: Arc<RgbImage>, shown: Size, origin: Option<CropOrigin>, observed: bool) -> usize {
        let original = Size::new(pixels.width(), pixels.height());
        self.images.push(ShelfImage { pixels, sizes: ImageSizes { original, shown }, origin, observed });
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

    /// The region of original image `root` that image `index` shows, through any number of crops of crops, turned by
    /// quarters and mirrored or not.
    ///
    /// Returns the root's index and the region in its original pixels. `None` where there is no such image, where an
    /// origin names no earlier image, or where the image, or one that it was cut from, shows no axis-aligned region of
    /// one image: turned by an angle that is no quarter, or put together from several.
    pub fn root_region(&self, index: usize) -> Option<(usize, BBox<Original>)> {
        let mut image = self.get(index)?;
        let (w, h) = (f64::from(image.sizes.original.width), f64::from(image.sizes.original.height));
        let (mut at, mut region) = (index, BBox::new(0.0, 0.0, w, h));
        while let Some(origin) = image.origin {
            region = origin.to_source(image.sizes.original, region);
            // A tool of somebody else's may name any image; a cycle would never end.
            at = Some(origin.image).filter(|&source| source < at)?;
            image = self.get(at)?;
        }
        (!image.observed).then_some((at, region))
    }

    /// A box that the model gave on image `index`, in that image's original pixels.
    pub fn to_original(&self, index: usize, shown: BBox<Shown>) -> Option<BBox<Original>> {
        self.get(index).map(|image| shown.to(&image.sizes))
    }
}
