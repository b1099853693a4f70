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
    /// Brown; this and the following are the second world's.
    Brown,
    /// Mint.
    Mint,
    /// Lime.
    Lime,
    /// Teal.
    Teal,
    /// Crimson.
    Crimson,
    /// Gold.
    Gold,
    /// Magenta.
    Magenta,
    /// Beige.
    Beige,
}

impl Colour {
    /// Every colour of the first world.
    pub const ALL: [Self; 8] =
        [Self::Red, Self::Green, Self::Blue, Self::Yellow, Self::Cyan, Self::Pink, Self::Orange, Self::Purple];
    /// Every colour of the second world.
    pub const SECOND: [Self; 8] =
        [Self::Brown, Self::Mint, Self::Lime, Self::Teal, Self::Crimson, Self::Gold, Self::Magenta, Self::Beige];

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
            Self::Brown => "brown",
            Self::Mint => "mint",
            Self::Lime => "lime",
            Self::Teal => "teal",
            Self::Crimson => "crimson",
            Self::Gold => "gold",
            Self::Magenta => "magenta",
            Self::Beige => "beige",
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
            Self::Brown => [185, 100, 20],
            Self::Mint => [150, 245, 190],
            Self::Lime => [150, 235, 60],
            Self::Teal => [0, 190, 170],
            Self::Crimson => [190, 0, 60],
            Self::Gold => [225, 185, 30],
            Self::Magenta => [225, 0, 190],
            Self::Beige => [225, 200, 150],
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
    /// Two triangles that make six points; this and the following are the second world's.
    Star,
    /// An upright cross of two bars.
    Cross,
    /// A hexagon with a corner to the left and one to the right.
    Hexagon,
    /// A lying rectangle.
    Bar,
}

impl Shape {
    /// Every shape of the first world.
    pub const ALL: [Self; 4] = [Self::Circle, Self::Square, Self::Triangle, Self::Diamond];
    /// Every shape of the second world.
    pub const SECOND: [Self; 4] = [Self::Star, Self::Cross, Self::Hexagon, Self::Bar];

    /// The word that questions use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Diamond => "diamond",
            Self::Star => "star",
            Self::Cross => "cross",
            Self::Hexagon => "hexagon",
            Self::Bar => "bar",
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
            Shape::Star => is_in_star(dx, dy, reach),
            Shape::Cross => dx.max(dy.abs()) <= reach && 20 * dx.min(dy.abs()) <= 11 * reach,
            Shape::Hexagon => 1000 * dy.abs() <= 866 * reach && 866 * dx + 500 * dy.abs() <= 866 * reach,
            Shape::Bar => dx <= reach && 20 * dy.abs() <= 13 * reach,
        }
    }

    /// "red circle".
    pub fn name(&self) -> String {
        format!("{} {}", self.colour.name(), self.shape.name())
    }
}

/// Whether a point at this distance (`dx` without sign) from the middle is in a star with a point upwards that reaches this far.
fn is_in_star(dx: i64, dy: i64, reach: i64) -> bool {
    let points_up = |dy: i64| 2 * dy <= reach && 1732 * dx <= 1000 * (dy + reach);
    points_up(dy) || points_up(-dy)
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
