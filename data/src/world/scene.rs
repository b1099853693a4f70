//! What stands on an image of the nano world, and where.

use imagent_core::{BBox, Original};
use serde::{Deserialize, Serialize};

use super::font;

/// Width and height of every image, in pixels.
pub const SIDE: u32 = 448;

/// The colour of an object. White is left to the digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red.
    Red,
    /// Green.
    Green,
    /// Blue.
    Blue,
    /// Yellow.
    Yellow,
    /// Cyan.
    Cyan,
    /// Pink.
    Pink,
    /// Orange.
    Orange,
    /// Purple.
    Purple,
}

impl Colour {
    /// Every colour.
    pub const ALL: [Self; 8] =
        [Self::Red, Self::Green, Self::Blue, Self::Yellow, Self::Cyan, Self::Pink, Self::Orange, Self::Purple];

    /// The word that questions use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Cyan => "cyan",
            Self::Pink => "pink",
            Self::Orange => "orange",
            Self::Purple => "purple",
        }
    }

    /// The colour drawn: red, green and blue.
    pub const fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [215, 25, 30],
            Self::Green => [25, 165, 45],
            Self::Blue => [30, 80, 240],
            Self::Yellow => [230, 215, 20],
            Self::Cyan => [15, 200, 215],
            Self::Pink => [250, 100, 195],
            Self::Orange => [245, 130, 10],
            Self::Purple => [145, 45, 225],
        }
    }
}

/// The shape of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A disc.
    Circle,
    /// An upright square.
    Square,
    /// An isosceles triangle that points up.
    Triangle,
    /// A square on its corner.
    Diamond,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 4] = [Self::Circle, Self::Square, Self::Triangle, Self::Diamond];

    /// The word that questions use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Diamond => "diamond",
        }
    }
}

/// A coloured shape with one white digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its colour.
    pub colour: Colour,
    /// Its shape.
    pub shape: Shape,
    /// The digit on it, from 0 to 9.
    pub digit: u8,
    /// Centre of its bounding box, in pixels.
    pub centre: (u32, u32),
    /// Half the side of its bounding box, in pixels.
    pub half: u32,
    /// Top left corner of the digit, in pixels.
    pub digit_at: (u32, u32),
}

impl Object {
    /// The object's bounding box.
    pub fn bbox(&self) -> BBox<Original> {
        let (x, y, h) = (f64::from(self.centre.0), f64::from(self.centre.1), f64::from(self.half));
        BBox::new(x - h, y - h, x + h, y + h)
    }

    /// The box of the digit's bitmap: 10×14 pixels.
    pub fn digit_box(&self) -> BBox<Original> {
        let (x, y) = (f64::from(self.digit_at.0), f64::from(self.digit_at.1));
        BBox::new(x, y, x + f64::from(font::WIDTH), y + f64::from(font::HEIGHT))
    }

    /// Whether the shape covers the middle of pixel (x, y).
    pub fn covers(&self, x: u32, y: u32) -> bool {
        // In half pixels, so that pixel centres are whole numbers.
        let (dx, dy) = (offset(x, self.centre.0).abs(), offset(y, self.centre.1));
        let reach = 2 * i64::from(self.half);
        match self.shape {
            Shape::Circle => dx * dx + dy * dy <= reach * reach,
            Shape::Square => dx <= reach && dy.abs() <= reach,
            Shape::Triangle => dy <= reach && 2 * dx <= dy + reach,
            Shape::Diamond => dx + dy.abs() <= reach,
        }
    }

    /// "red circle".
    pub fn name(&self) -> String {
        format!("{} {}", self.colour.name(), self.shape.name())
    }
}

fn offset(pixel: u32, centre: u32) -> i64 {
    2 * i64::from(pixel) + 1 - 2 * i64::from(centre)
}

/// The objects of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// In no particular order; they do not touch.
    pub objects: Vec<Object>,
}

impl Scene {
    /// The objects of this colour and shape (in a generated scene never more than one).
    pub fn find(&self, colour: Colour, shape: Shape) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |o| o.colour == colour && o.shape == shape)
    }
}
