//! What a nano world is made of: how many images and objects, which questions, how often distractors.

use serde::{Deserialize, Serialize};

use super::layout::SECOND_HALF;
use super::scene::{Colour, Shape};
use crate::error::DataError;

/// Most images a sample may have (a decoded image takes 0.6 MB).
pub const MAX_IMAGES: usize = 16;
/// Most objects an image may have: six colours are left when two are asked for.
pub const MAX_OBJECTS: usize = 6;
/// Smallest and largest width of an object where the config does not say.
const SIZES: [u32; 2] = [64, 80];
/// A digit fits on any shape from here on.
const MIN_SIZE: u32 = 48;
/// Six objects fit on an image up to here.
const MAX_SIZE: u32 = 112;

/// How often each kind of question is asked; weights, which need not add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuestionMix {
    /// `What digit is on the C S in image k ?` One zoom. Default 0.6.
    pub read: f64,
    /// `Which image contains the C S ?` No zoom. Default 0.2.
    pub which: f64,
    /// `Is the digit on the C S in image i the same as on the C S in image j ?` Two zooms. Default 0.2.
    pub same: f64,
    /// `What digits are on the C S in image i and on the C S in image j ?` Two zooms, answered `3 7`. Default 0.
    pub two: f64,
    /// `Where is the C S ?` Answered, like the kinds that follow, with an image and a box,
    /// `{"image": 2, "bbox_2d": [x1, y1, x2, y2]}` in pixels of the file; no zoom. Default 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub find: f64,
    /// `Where is the largest object ?` Default 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub largest: f64,
    /// `Where in image j is the object that is also in image i ?` The same colour and shape. Default 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub common: f64,
    /// `Where in image j is the object that is not in image i ?` All others are, in other places. Default 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub differ: f64,
}

fn is_zero(weight: &f64) -> bool {
    *weight == 0.0
}

impl Default for QuestionMix {
    fn default() -> Self {
        let (find, largest, common, differ) = (0.0, 0.0, 0.0, 0.0);
        Self { read: 0.6, which: 0.2, same: 0.2, two: 0.0, find, largest, common, differ }
    }
}

impl QuestionMix {
    /// The keys with their weights, in the order of [`super::Kind::ALL`].
    pub(crate) fn weights(&self) -> [(&'static str, f64); 8] {
        [
            ("read", self.read),
            ("which", self.which),
            ("same", self.same),
            ("two", self.two),
            ("find", self.find),
            ("largest", self.largest),
            ("common", self.common),
            ("differ", self.differ),
        ]
    }

    fn boxes(&self) -> bool {
        [self.find, self.largest, self.common, self.differ].into_iter().any(|weight| weight > 0.0)
    }

    fn pairs(&self) -> bool {
        self.same > 0.0 || self.two > 0.0
    }
}

/// What may be otherwise than in the world that models are taught in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// Star, cross, hexagon and bar for circle, square, triangle and diamond.
    Shapes,
    /// Eight other colours, with other names.
    Colours,
    /// Smaller objects: half sides of 24 to 28 pixels for 32 to 40. Digits keep their size.
    Sizes,
    /// A background that is blue, green growing with x and red with y, with stronger noise.
    Background,
    /// The same questions in other words.
    Wording,
}

impl Aspect {
    /// Every aspect.
    pub const ALL: [Self; 5] = [Self::Shapes, Self::Colours, Self::Sizes, Self::Background, Self::Wording];

    /// The name in configs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shapes => "shapes",
            Self::Colours => "colours",
            Self::Sizes => "sizes",
            Self::Background => "background",
            Self::Wording => "wording",
        }
    }
}

/// The nano world's settings. Defaults are those of the world measured in the feasibility studies.
///
/// ```
/// let world = imagent_data::WorldConfig { digits: 3, ..Default::default() };
/// world.validate()?;
/// # Ok::<(), imagent_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldConfig {
    /// Fewest and most images of a sample, uniform in between, 1 to 16. Default `[2, 4]`. Questions about several
    /// images (all but `read`) have at least 2 whatever the fewest.
    pub images: [usize; 2],
    /// Fewest and most objects of an image, 1 to 6, uniform in between, except that an image has at least the
    /// objects that the question and its distractors need. Default `[1, 4]`.
    pub objects: [usize; 2],
    /// Which questions are asked.
    pub questions: QuestionMix,
    /// Probability that the colour asked for also stands in another image, with a different digit: half of the time
    /// on an object of the same shape (never in `which` and `find` questions, whose object is unique). Otherwise the colour
    /// stands in no other image. For each of the two objects of a pair question. `largest`, `common` and `differ` have
    /// distractors of their own, and look neither at this nor at `within`. Default 0.5.
    pub across: f64,
    /// Probability that an object of the colour asked for, but of another shape and digit, stands in the same image.
    /// Otherwise colours are unique within an image. Default 0.
    pub within: f64,
    /// Number of digit classes: digits are 0 to `digits` − 1, 2 to 10. Fewer make guessing cheaper. Default 10.
    pub digits: u8,
    /// Smallest and largest width of an object in pixels of its image, 448 wide: even numbers between 48 and 112, uniform in steps of
    /// 2. The boxes of large objects are easier to give. Default `[64, 80]`.
    #[serde(skip_serializing_if = "is_default_sizes")]
    pub sizes: [u32; 2],
    /// What is that of a second world: any of `shapes`, `colours`, `sizes`, `background`, `wording`. Default none. To find out what a
    /// model taught in the first world makes of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub second: Vec<Aspect>,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            images: [2, 4],
            objects: [1, 4],
            questions: QuestionMix::default(),
            across: 0.5,
            within: 0.0,
            digits: 10,
            sizes: SIZES,
            second: Vec::new(),
        }
    }
}

impl WorldConfig {
    /// Whether this is the second world's.
    pub fn is_second(&self, aspect: Aspect) -> bool {
        self.second.contains(&aspect)
    }

    /// Smallest and largest half width of an object.
    pub(crate) fn halves(&self) -> (u32, u32) {
        if self.is_second(Aspect::Sizes) { SECOND_HALF } else { (self.sizes[0] / 2, self.sizes[1] / 2) }
    }

    /// The colours of objects.
    pub(crate) fn colours(&self) -> [Colour; 8] {
        if self.is_second(Aspect::Colours) { Colour::SECOND } else { Colour::ALL }
    }

    /// The shapes of objects.
    pub(crate) fn shapes(&self) -> [Shape; 4] {
        if self.is_second(Aspect::Shapes) { Shape::SECOND } else { Shape::ALL }
    }

    /// Whether every value is in range and they fit together.
    ///
    /// # Errors
    /// [`DataError::Config`] names the key.
    pub fn validate(&self) -> Result<(), DataError> {
        range("images", self.images, MAX_IMAGES)?;
        range("objects", self.objects, MAX_OBJECTS)?;
        for (key, weight) in self.questions.weights() {
            if !(weight.is_finite() && weight >= 0.0) {
                return bad(&format!("questions.{key}"), format!("a weight is a number of at least 0, not {weight}"));
            }
        }
        let total: f64 = self.questions.weights().iter().map(|(_, weight)| weight).sum();
        if !(total.is_finite() && total > 0.0) {
            return bad("questions", format!("the weights must have a positive sum, not {total}"));
        }
        for (key, value) in [("across", self.across), ("within", self.within)] {
            if !(0.0..=1.0).contains(&value) {
                return bad(key, format!("a probability is between 0 and 1, not {value}"));
            }
        }
        if !(2..=10).contains(&self.digits) {
            return bad("digits", format!("there are between 2 and 10 digit classes, not {}", self.digits));
        }
        let [low, high] = self.sizes;
        if low < MIN_SIZE || high < low || high > MAX_SIZE || low % 2 + high % 2 > 0 {
            let wanted = format!("[smallest, largest] are even and lie between {MIN_SIZE} and {MAX_SIZE}");
            return bad("sizes", format!("{wanted}, not [{low}, {high}]"));
        }
        if let Some((_, aspect)) = (1..).zip(&self.second).find(|&(rest, aspect)| self.second[rest..].contains(aspect))
        {
            return bad("second", format!("`{}` is there twice", aspect.name()));
        }
        self.fits()
    }

    fn fits(&self) -> Result<(), DataError> {
        let several = self.questions.which > 0.0 || self.questions.pairs() || self.questions.boxes();
        if several && self.images[1] < 2 {
            return bad("images", "questions other than `read` need at least 2 images".into());
        }
        let (largest, second) = (self.questions.largest > 0.0, self.is_second(Aspect::Sizes));
        if largest && second {
            return bad("second", "questions `largest` have sizes of their own, so `sizes` cannot be second".into());
        }
        if (largest || second) && !is_default_sizes(&self.sizes) {
            let whose = if largest { "questions `largest`" } else { "objects of the second world" };
            return bad("sizes", format!("{whose} have sizes of their own, so none can be set"));
        }
        if self.questions.differ > 0.0 && self.objects[0] == self.objects[1] {
            return bad("objects", "questions `differ` need images with more objects than others".into());
        }
        let crossed = self.questions.pairs() && self.across > 0.0;
        let needed = 1 + usize::from(self.within > 0.0) + usize::from(crossed);
        if self.objects[1] < needed {
            let most = self.objects[1];
            return bad("objects", format!("an object and its distractors need room for {needed}, but at most {most}"));
        }
        Ok(())
    }
}

fn is_default_sizes(sizes: &[u32; 2]) -> bool {
    *sizes == SIZES
}

fn range(key: &str, [low, high]: [usize; 2], most: usize) -> Result<(), DataError> {
    if low < 1 || high < low || high > most {
        return bad(key, format!("[fewest, most] lies between 1 and {most}, not [{low}, {high}]"));
    }
    Ok(())
}

fn bad(key: &str, problem: String) -> Result<(), DataError> {
    Err(DataError::Config { key: key.into(), problem })
}
