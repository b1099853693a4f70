//! Coordinate frames as types, so that a box in one frame cannot be used in another by mistake.
//!
//! Qwen2.5-VL speaks in pixels of the image *as resized for it* ([`Shown`]), datasets in pixels of the
//! file ([`Original`]), other models in thousandths ([`Relative1000`]) or fractions ([`Unit`]).

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

impl Size {
    /// A size of `width` × `height` pixels.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }
}

/// The two sizes of one image: what converting between frames needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSizes {
    /// The image as it was read or cropped.
    pub original: Size,
    /// The image as resized for the model.
    pub shown: Size,
}

mod sealed {
    /// Keeps the set of frames closed.
    pub trait Sealed {}
}

/// A coordinate frame: tells how far its axes reach on an image of given sizes.
pub trait Frame: sealed::Sealed + Copy + std::fmt::Debug + 'static {
    /// The frame's name in configs and messages.
    const NAME: &'static str;
    /// The coordinates of the image's bottom right corner.
    fn extent(sizes: &ImageSizes) -> (f64, f64);
}

macro_rules! frame {
    ($(#[$doc:meta])* $name:ident, $label:literal, $sizes:ident => $extent:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {}
        impl sealed::Sealed for $name {}
        impl Frame for $name {
            const NAME: &'static str = $label;
            fn extent($sizes: &ImageSizes) -> (f64, f64) {
                $extent
            }
        }
    };
}

fn pixels(size: Size) -> (f64, f64) {
    (f64::from(size.width), f64::from(size.height))
}

frame!(/** Pixels of the image as read from its file or cropped by a tool. */ Original, "original", s => pixels(s.original));
frame!(/** Pixels of the image as resized for the model: Qwen2.5-VL's own convention. */ Shown, "shown", s => pixels(s.shown));
frame!(/** Thousandths of the image's width and height: Qwen2-VL's convention. */ Relative1000, "relative1000", _s => (1000.0, 1000.0));
frame!(/** Fractions of the image's width and height, from 0 to 1. */ Unit, "unit", _s => (1.0, 1.0));

/// A frame as a setting: in which coordinates a model gives its boxes.
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
    pub fn describe(self) -> &'static str {
        match self {
            Self::Shown => "in pixels of the image as shown",
            Self::Original => "in pixels of the original image",
            Self::Relative1000 => "in thousandths of the image's width and height",
            Self::Unit => "in fractions of the image's width and height",
        }
    }

    /// Corners given in this frame, as a box in frame `G` of an image of these sizes; clamped to the image before the
    /// change of frames, so that finite corners stay finite.
    pub fn read<G: Frame>(self, corners: [f64; 4], sizes: &ImageSizes) -> BBox<G> {
        match self {
            Self::Shown => BBox::<Shown>::from(corners).clamp(sizes).to(sizes),
            Self::Original => BBox::<Original>::from(corners).clamp(sizes).to(sizes),
            Self::Relative1000 => BBox::<Relative1000>::from(corners).clamp(sizes).to(sizes),
            Self::Unit => BBox::<Unit>::from(corners).clamp(sizes).to(sizes),
        }
    }
}

/// An axis-aligned box in frame `F`: `x1 ≤ x < x2`, `y1 ≤ y < y2`.
#[derive(Serialize, Deserialize)]
#[serde(from = "[f64; 4]", into = "[f64; 4]")]
pub struct BBox<F: Frame> {
    /// Left edge.
    pub x1: f64,
    /// Top edge.
    pub y1: f64,
    /// Right edge.
    pub x2: f64,
    /// Bottom edge.
    pub y2: f64,
    frame: PhantomData<F>,
}

impl<F: Frame> Clone for BBox<F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: Frame> Copy for BBox<F> {}
impl<F: Frame> PartialEq for BBox<F> {
    fn eq(&self, other: &Self) -> bool {
        self.to_array() == other.to_array()
    }
}
impl<F: Frame> std::fmt::Debug for BBox<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}, {}, {}, {}]", F::NAME, self.x1, self.y1, self.x2, self.y2)
    }
}
impl<F: Frame> From<[f64; 4]> for BBox<F> {
    fn from([x1, y1, x2, y2]: [f64; 4]) -> Self {
        Self::new(x1, y1, x2, y2)
    }
}
impl<F: Frame> From<BBox<F>> for [f64; 4] {
    fn from(b: BBox<F>) -> Self {
        b.to_array()
    }
}

impl<F: Frame> BBox<F> {
    /// A box from its corners; nothing is checked or reordered.
    pub const fn new(x1: f64, y1: f64, x2: f64, y2: f64) -> Self {
        Self { x1, y1, x2, y2, frame: PhantomData }
    }

    /// `[x1, y1, x2, y2]`.
    pub const fn to_array(self) -> [f64; 4] {
        [self.x1, self.y1, self.x2, self.y2]
    }

    /// Width; negative when the box is inverted.
    pub fn width(self) -> f64 {
        self.x2 - self.x1
    }

    /// Height; negative when the box is inverted.
    pub fn height(self) -> f64 {
        self.y2 - self.y1
    }

    /// Area, 0 for an empty or inverted box.
    pub fn area(self) -> f64 {
        self.width().max(0.0) * self.height().max(0.0)
    }

    /// The same region in frame `G` of an image of these sizes.
    ///
    /// ```
    /// use imagent_core::{BBox, ImageSizes, Original, Shown, Size};
    /// let sizes = ImageSizes { original: Size::new(448, 448), shown: Size::new(112, 112) };
    /// let shown = BBox::<Shown>::new(10.0, 20.0, 30.0, 40.0);
    /// assert_eq!(shown.to::<Original>(&sizes).to_array(), [40.0, 80.0, 120.0, 160.0]);
    /// ```
    pub fn to<G: Frame>(self, sizes: &ImageSizes) -> BBox<G> {
        let ((fw, fh), (gw, gh)) = (F::extent(sizes), G::extent(sizes));
        let (sx, sy) = (gw / fw, gh / fh);
        BBox::new(self.x1 * sx, self.y1 * sy, self.x2 * sx, self.y2 * sy)
    }

    /// The part of the box that lies on the image.
    pub fn clamp(self, sizes: &ImageSizes) -> Self {
        let (w, h) = F::extent(sizes);
        Self::new(self.x1.clamp(0.0, w), self.y1.clamp(0.0, h), self.x2.clamp(0.0, w), self.y2.clamp(0.0, h))
    }

    /// The common part of two boxes (empty or inverted when there is none).
    pub fn intersect(self, other: Self) -> Self {
        Self::new(self.x1.max(other.x1), self.y1.max(other.y1), self.x2.min(other.x2), self.y2.min(other.y2))
    }

    /// Whether `other` lies wholly inside this box.
    pub fn contains(self, other: Self) -> bool {
        self.x1 <= other.x1 && self.y1 <= other.y1 && self.x2 >= other.x2 && self.y2 >= other.y2
    }

    /// Intersection over union in `[0, 1]`; 0 when either box has no area.
    ///
    /// ```
    /// use imagent_core::{BBox, Shown};
    /// let (left, right) = (BBox::<Shown>::new(0.0, 0.0, 2.0, 1.0), BBox::<Shown>::new(1.0, 0.0, 3.0, 1.0));
    /// assert_eq!(left.iou(right), 1.0 / 3.0);
    /// ```
    ///
    /// Boxes in different frames have no common region until one is converted; mixing them does not compile:
    ///
    /// ```compile_fail,E0308
    /// use imagent_core::{BBox, Original, Shown};
    /// let (left, right) = (BBox::<Shown>::new(0.0, 0.0, 2.0, 1.0), BBox::<Original>::new(1.0, 0.0, 3.0, 1.0));
    /// left.iou(right);
    /// ```
    pub fn iou(self, other: Self) -> f64 {
        let shared = self.intersect(other).area();
        let all = self.area() + other.area() - shared;
        if all > 0.0 && self.area() > 0.0 && other.area() > 0.0 { shared / all } else { 0.0 }
    }

    /// Generalised intersection over union (Rezatofighi et al., arXiv 1902.09630): `IoU − (hull − union) / hull`, where the hull
    /// is the smallest box around both. In `[−1, 1]`: 1 for equal boxes, below 0 where they are far apart; −1 when neither
    /// has an area.
    ///
    /// ```
    /// use imagent_core::{BBox, Shown};
    /// let (left, right) = (BBox::<Shown>::new(0.0, 0.0, 1.0, 1.0), BBox::<Shown>::new(3.0, 0.0, 4.0, 1.0));
    /// assert_eq!((left.giou(left), left.giou(right)), (1.0, -0.5));
    /// ```
    pub fn giou(self, other: Self) -> f64 {
        let union = self.area() + other.area() - self.intersect(other).area();
        let hull =
            Self::new(self.x1.min(other.x1), self.y1.min(other.y1), self.x2.max(other.x2), self.y2.max(other.y2));
        if union > 0.0 { self.iou(other) - (hull.area() - union).max(0.0) / hull.area() } else { -1.0 }
    }
}
