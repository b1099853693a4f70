//! From (config, seed, index) to scenes, question and answer: no pixels yet.

use imagent_core::{Gold, seed};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::config::{Aspect, WorldConfig};
use super::font;
use super::relations::box_words;
use super::scene::{Colour, Object, SIDE, Scene, Shape};

/// Half side of the largest object, in pixels, where it is asked for.
pub const LARGEST: u32 = 40;
/// Smallest and largest half side of the other objects there.
pub const SMALL: (u32, u32) = (29, 31);
/// The same of the objects of the second world.
pub const SECOND_HALF: (u32, u32) = (24, 28);
/// Least distance between the centres of two objects of an image, in pixels; more where objects are larger than by default.
const SPACING: u32 = 115;
/// How far a digit may stand from its place in the middle of its object, in pixels, along each axis.
const JITTER: u32 = 6;
/// The same on objects whose half side may be below [`LITTLE`].
const LITTLE_JITTER: u32 = 2;
const LITTLE: u32 = 32;
/// A triangle's middle is below that of its box.
const TRIANGLE_DROP: u32 = 6;
/// Names the generator's stream, so that other users of a seed draw other numbers.
const STREAM: u64 = 0x0077_6f72_6c64;

/// The kind of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The digit of one object.
    Read,
    /// The image that has an object.
    Which,
    /// Whether two objects of two images have the same digit.
    Same,
    /// The digits of two objects of two images.
    Two,
    /// Image and box of the object of a colour and shape.
    Find,
    /// Image and box of the largest object.
    Largest,
    /// Image and box of the object that is in another image too.
    Common,
    /// Image and box of the object that is not in another image.
    Differ,
}

impl Kind {
    /// Every kind, in the order of the config's weights.
    pub const ALL: [Self; 8] =
        [Self::Read, Self::Which, Self::Same, Self::Two, Self::Find, Self::Largest, Self::Common, Self::Differ];

    /// The name in configs, samples and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Which => "which",
            Self::Same => "same",
            Self::Two => "two",
            Self::Find => "find",
            Self::Largest => "largest",
            Self::Common => "common",
            Self::Differ => "differ",
        }
    }

    /// How many objects have to be looked at closely.
    pub const fn zooms_needed(self) -> u32 {
        match self {
            Self::Which | Self::Find | Self::Largest | Self::Common | Self::Differ => 0,
            Self::Read => 1,
            Self::Same | Self::Two => 2,
        }
    }

    const fn asks(self) -> usize {
        match self {
            Self::Same | Self::Two => 2,
            _ => 1,
        }
    }

    /// Whether the answer is an image and a box.
    pub const fn is_grounding(self) -> bool {
        matches!(self, Self::Find | Self::Largest | Self::Common | Self::Differ)
    }

    /// Whether the object asked for is the only one of its colour and shape by its name.
    const fn is_named_once(self) -> bool {
        matches!(self, Self::Which | Self::Find)
    }
}

/// What distracts from an object in the other images; ordered by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Across {
    /// Its colour stands in no other image.
    None,
    /// Its colour stands in another image, on another shape.
    Colour,
    /// Its colour and shape stand in another image, with another digit.
    Twin,
}

impl Across {
    /// The name in a sample's meta.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Colour => "colour",
            Self::Twin => "twin",
        }
    }
}

/// A sample without its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// One an image.
    pub scenes: Vec<Scene>,
    /// What is asked, in the words of the question's kind.
    pub question: String,
    /// The gold answer.
    pub answer: String,
    /// The kind of question.
    pub kind: Kind,
    /// The objects asked for: image, counted from 1, and position within its scene, counted from 0.
    pub asked: Vec<(usize, usize)>,
    /// Where to look: the digit's box of each object asked for; where no digit is asked for, the object's own box.
    pub gold: Vec<Gold>,
    /// The image that `common` and `differ` questions compare with.
    pub other: Option<usize>,
    /// The strongest distractor in another image, of all objects asked for.
    pub across: Across,
    /// Whether an object asked for shares its image with another of its colour.
    pub within: bool,
}

impl Layout {
    /// The objects asked for.
    pub fn asked_objects(&self) -> impl Iterator<Item = &Object> {
        self.asked.iter().filter_map(|&(image, object)| self.scenes.get(image - 1)?.objects.get(object))
    }
}

/// An object that has no place yet.
#[derive(Clone, Copy)]
pub(super) struct Draft {
    pub(super) colour: Colour,
    pub(super) shape: Shape,
    pub(super) digit: u8,
    /// Which of the objects asked for it is.
    pub(super) asked: Option<usize>,
}

pub(super) struct Plan<'a> {
    pub(super) config: &'a WorldConfig,
    pub(super) rng: ChaCha8Rng,
    pub(super) images: Vec<Vec<Draft>>,
    /// Images that have all their objects, counted from 0.
    pub(super) closed: Vec<usize>,
    /// The image that is compared with, counted from 0.
    pub(super) other: Option<usize>,
    across: Across,
    within: bool,
}

/// The layout of sample `index` of the world that `seed` names. Depends on nothing else.
///
/// `config` should have passed [`WorldConfig::validate`]; of one that has not, values out of range are cut.
pub fn layout(config: &WorldConfig, seed: u64, index: u64) -> Layout {
    let mut rng = seed::rng(seed, &[STREAM, index]);
    let kind = draw_kind(config, &mut rng);
    let fewest = if kind == Kind::Read { 1 } else { 2 };
    let count = between(&mut rng, config.images).max(fewest);
    let (images, closed) = (vec![Vec::new(); count], Vec::new());
    let mut plan = Plan { config, rng, images, closed, other: None, across: Across::None, within: false };
    let asked = match kind {
        Kind::Common => plan.draw_common(),
        Kind::Differ => plan.draw_differing(),
        _ => plan.draw_asked(kind),
    };
    if !matches!(kind, Kind::Largest | Kind::Common | Kind::Differ) {
        plan.distract(kind, &asked);
    }
    plan.fill(&asked);
    plan.finish(kind, &asked)
}

fn draw_kind(config: &WorldConfig, rng: &mut ChaCha8Rng) -> Kind {
    let weights = config.questions.weights();
    let mut left = rng.random::<f64>() * weights.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut drawn = Kind::Read;
    for (kind, (_, weight)) in Kind::ALL.into_iter().zip(weights) {
        // The last kind with a weight takes what rounding leaves.
        if weight > 0.0 {
            drawn = kind;
            if left < weight {
                break;
            }
            left -= weight;
        }
    }
    drawn
}

pub(super) fn between(rng: &mut ChaCha8Rng, [low, high]: [usize; 2]) -> usize {
    rng.random_range(low.max(1)..=high.max(low).max(1))
}

pub(super) fn other_shape(rng: &mut ChaCha8Rng, shapes: [Shape; 4], shape: Shape) -> Shape {
    let others: Vec<Shape> = shapes.into_iter().filter(|&other| other != shape).collect();
    others.choose(rng).copied().unwrap_or(shape)
}

impl Plan<'_> {
    fn digits(&self) -> u8 {
        self.config.digits.clamp(2, 10)
    }

    pub(super) fn digit(&mut self) -> u8 {
        let digits = self.digits();
        self.rng.random_range(0..digits)
    }

    fn other_digit(&mut self, digit: u8) -> u8 {
        let digits = self.digits();
        (digit + self.rng.random_range(1..digits)) % digits
    }

    pub(super) fn shape(&mut self) -> Shape {
        self.config.shapes().choose(&mut self.rng).copied().unwrap_or(Shape::Circle)
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random::<f64>() < probability
    }

    /// Puts the objects asked for on images of their own, in different colours.
    fn draw_asked(&mut self, kind: Kind) -> Vec<(usize, Draft)> {
        let mut images: Vec<usize> = (0..self.images.len()).collect();
        images.shuffle(&mut self.rng);
        let mut colours = self.config.colours();
        colours.shuffle(&mut self.rng);
        let mut asked: Vec<(usize, Draft)> = Vec::new();
        for (nth, (&image, colour)) in images.iter().zip(colours).take(kind.asks()).enumerate() {
            let shape = self.shape();
            let digit = match asked.first() {
                // Half of the pairs are equal, or "no" would nearly always be right.
                Some((_, first)) if kind == Kind::Same && self.rng.random::<bool>() => first.digit,
                Some((_, first)) if kind == Kind::Same => self.other_digit(first.digit),
                _ => self.digit(),
            };
            let draft = Draft { colour, shape, digit, asked: Some(nth) };
            self.images[image].push(draft);
            asked.push((image, draft));
        }
        asked
    }

    /// Adds the distractors of the objects asked for: within their images first, then across.
    fn distract(&mut self, kind: Kind, asked: &[(usize, Draft)]) {
        for &(image, object) in asked {
            if self.chance(self.config.within) {
                self.within = true;
                self.plant(image, object, false);
            }
        }
        for &(image, object) in asked {
            if !self.chance(self.config.across) {
                continue;
            }
            let mut others: Vec<usize> = (0..self.images.len()).filter(|&other| other != image).collect();
            others.shuffle(&mut self.rng);
            others.retain(|&other| self.images[other].len() < self.config.objects[1]);
            for (nth, other) in others.into_iter().enumerate() {
                if nth == 0 || self.chance(0.5) {
                    let twin = !kind.is_named_once() && self.chance(0.5);
                    self.across = self.across.max(if twin { Across::Twin } else { Across::Colour });
                    self.plant(other, object, twin);
                }
            }
        }
    }

    /// Puts an object of the same colour and another digit on `image`; of the same shape when a `twin`.
    fn plant(&mut self, image: usize, object: Draft, twin: bool) {
        let shape = if twin { object.shape } else { other_shape(&mut self.rng, self.config.shapes(), object.shape) };
        let digit = self.other_digit(object.digit);
        self.images[image].push(Draft { shape, digit, asked: None, ..object });
    }

    /// Fills images up to their count of objects with colours that are not asked for and new to the image.
    fn fill(&mut self, asked: &[(usize, Draft)]) {
        for image in (0..self.images.len()).filter(|image| !self.closed.contains(image)).collect::<Vec<_>>() {
            let mut colours = self.config.colours().to_vec();
            colours.retain(|&colour| asked.iter().all(|(_, object)| object.colour != colour));
            colours.shuffle(&mut self.rng);
            let missing = between(&mut self.rng, self.config.objects).saturating_sub(self.images[image].len());
            for colour in colours.into_iter().take(missing) {
                let shape = self.shape();
                let digit = self.digit();
                self.images[image].push(Draft { colour, shape, digit, asked: None });
            }
        }
    }

    fn finish(mut self, kind: Kind, asked: &[(usize, Draft)]) -> Layout {
        let mut scenes = Vec::with_capacity(self.images.len());
        let mut places = vec![(0, 0); asked.len()];
        for (image, mut drafts) in std::mem::take(&mut self.images).into_iter().enumerate() {
            drafts.shuffle(&mut self.rng);
            for (position, draft) in drafts.iter().enumerate() {
                if let Some(nth) = draft.asked {
                    places[nth] = (image + 1, position);
                }
            }
            scenes.push(Scene { objects: place(self.config, &mut self.rng, &drafts, kind) });
        }
        let object = |&(image, position): &(usize, usize)| (image, scenes[image - 1].objects[position]);
        let objects: Vec<(usize, Object)> = places.iter().map(object).collect();
        let other = self.other.map(|image| image + 1);
        let second = self.config.is_second(Aspect::Wording);
        let (question, answer) =
            if kind.is_grounding() { box_words(kind, &objects, other, second) } else { words(kind, &objects) };
        let question = if second && !kind.is_grounding() { second_words(kind, &objects) } else { question };
        let region = |o: &Object| if kind.zooms_needed() == 0 { o.bbox() } else { o.digit_box() };
        let gold = objects.iter().map(|(image, o)| Gold { image: *image, bbox: region(o) }).collect();
        let (across, within) = (self.across, self.within);
        Layout { scenes, question, answer, kind, asked: places, gold, other, across, within }
    }
}

/// Question and answer. The spaces are part of the wording: the nano tokenizer counts on them.
fn words(kind: Kind, objects: &[(usize, Object)]) -> (String, String) {
    match (kind, objects) {
        (Kind::Read, [(i, a), ..]) => {
            (format!("What digit is on the {} in image {i} ?", a.name()), a.digit.to_string())
        }
        (Kind::Which, [(i, a), ..]) => (format!("Which image contains the {} ?", a.name()), i.to_string()),
        (Kind::Same, [(i, a), (j, b)]) => (
            format!("Is the digit on the {} in image {i} the same as on the {} in image {j} ?", a.name(), b.name()),
            if a.digit == b.digit { "yes" } else { "no" }.to_owned(),
        ),
        (Kind::Two, [(i, a), (j, b)]) => (
            format!("What digits are on the {} in image {i} and on the {} in image {j} ?", a.name(), b.name()),
            format!("{} {}", a.digit, b.digit),
        ),
        // `asks` gives each kind its objects.
        _ => (String::new(), String::new()),
    }
}

/// The same questions as the second world asks them.
fn second_words(kind: Kind, objects: &[(usize, Object)]) -> String {
    match (kind, objects) {
        (Kind::Read, [(i, a), ..]) => format!("In image {i} there is a {} : what digit is on it ?", a.name()),
        (Kind::Which, [(_, a), ..]) => format!("In which image is there a {} ?", a.name()),
        (Kind::Same, [(i, a), (j, b)]) => {
            format!("Are the digits on the {} in image {i} and on the {} in image {j} the same ?", a.name(), b.name())
        }
        (Kind::Two, [(i, a), (j, b)]) => {
            format!("On the {} in image {i} and on the {} in image {j} , what digits are there ?", a.name(), b.name())
        }
        // `asks` gives each kind its objects.
        _ => String::new(),
    }
}

/// Least distance between the centres of two objects whose half sides are at most `half`: their boxes do not overlap.
pub(super) const fn spacing(half: u32) -> u32 {
    let diagonal = 2 * half * 142 / 100 + 1;
    if diagonal > SPACING { diagonal } else { SPACING }
}

/// Finds places at least [`spacing`] apart.
fn place(config: &WorldConfig, rng: &mut ChaCha8Rng, drafts: &[Draft], kind: Kind) -> Vec<Object> {
    let range = config.halves();
    let jitter = if range.0 < LITTLE { LITTLE_JITTER } else { JITTER };
    let mut half = |draft: &Draft| match (kind, draft.asked) {
        (Kind::Largest, Some(_)) => LARGEST,
        (Kind::Largest, None) => rng.random_range(SMALL.0..=SMALL.1),
        _ => rng.random_range(range.0..=range.1),
    };
    let halves: Vec<u32> = drafts.iter().map(&mut half).collect();
    let centres =
        (0..100).find_map(|_| try_centres(rng, &halves, spacing(range.1))).unwrap_or_else(|| grid(halves.len()));
    let mut objects = Vec::with_capacity(drafts.len());
    for ((draft, &half), centre) in drafts.iter().zip(&halves).zip(centres) {
        let drop = if draft.shape == Shape::Triangle { TRIANGLE_DROP } else { 0 };
        let mut corner = |middle: u32, size: u32| middle - size / 2 - jitter + rng.random_range(0..=2 * jitter);
        let digit_at = (corner(centre.0, font::WIDTH), corner(centre.1 + drop, font::HEIGHT));
        let Draft { colour, shape, digit, .. } = *draft;
        objects.push(Object { colour, shape, digit, centre, half, digit_at });
    }
    objects
}

fn try_centres(rng: &mut ChaCha8Rng, halves: &[u32], spacing: u32) -> Option<Vec<(u32, u32)>> {
    let mut centres: Vec<(u32, u32)> = Vec::with_capacity(halves.len());
    for &half in halves {
        let mut draw = || rng.random_range(half..=SIDE - half);
        let free = |&(x, y): &(u32, u32)| {
            let apart = |&(a, b): &(u32, u32)| x.abs_diff(a).pow(2) + y.abs_diff(b).pow(2) >= spacing.pow(2);
            centres.iter().all(apart)
        };
        let found = (0..30).map(|_| (draw(), draw())).find(free)?;
        centres.push(found);
    }
    Some(centres)
}

/// Nine places that always fit, for when a hundred random tries did not.
fn grid(count: usize) -> Vec<(u32, u32)> {
    let at = |cell: usize| 60 + 164 * cell as u32;
    (0..count).map(|nth| (at(nth % 3), at(nth / 3 % 3))).collect()
}
