//! A sample to the text of a trajectory, in the frame that the model speaks in, checked to give the annotated answer.

use imagent_core::{
    Action, BBox, BoxFrame, ImageSizes, Original, Relative1000, Sample, Shown, Size, Unit, WrittenBox, parse_turn, seed,
};
use serde::Deserialize;

use super::wording::About;
use super::{OBJECTS, Reject, Relation, Thing, Wording};

/// Names the stream of choices among templates.
const STREAM: u64 = 0x7465_6c6c;
/// Least overlap of an annotated object with the answer's box, and of the box as it is written with the annotated one: rounding to
/// the model's pixels may move the corners.
const OVERLAP: f64 = 0.5;
/// What an object without a name is called.
const OBJECT: &str = "object";

/// Writes trajectories.
pub struct Teller<'a> {
    /// The templates.
    pub wording: &'a Wording,
    /// The frame in which boxes are written.
    pub frame: BoxFrame,
    /// The size at which the model sees an image of a size; `None` where it cannot be shown.
    pub shown: &'a (dyn Fn(Size) -> Option<Size> + Sync),
    /// Seed of the choices among templates.
    pub seed: u64,
}

/// A trajectory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What the assistant says: `<think>…</think><answer>{"image": k, "bbox_2d": […]}</answer>`.
    pub text: String,
    /// The sizes of the images as the model sees them, which boxes in pixels as shown depend on.
    pub shown: Vec<Size>,
}

/// The box asked for, and the sizes of the images.
struct Asked {
    image: usize,
    bbox: BBox<Original>,
    sizes: Vec<ImageSizes>,
}

impl Teller<'_> {
    /// The trajectory of a sample: a function of the sample, its id and the teller's settings.
    ///
    /// # Errors
    /// Why there is none.
    pub fn tell(&self, sample: &Sample) -> Result<Told, Reject> {
        let asked = self.asked(sample)?;
        let things = things(sample)?;
        let relation = Relation::of(sample);
        let name = match &things {
            Some(things) => check(things, &asked, relation)?.name.clone(),
            None => reference(&sample.question).unwrap_or_else(|| OBJECT.to_owned()),
        };
        let other = match relation {
            Relation::Common { other } | Relation::Differ { other } => other,
            _ => 0,
        };
        // What cannot be checked is not claimed.
        let relation = if things.is_some() { relation } else { Relation::Given };
        let found = About { image: asked.image, name: &name, other, ..About::default() };
        let mut rng = seed::rng(self.seed, &[STREAM, seed::text(&sample.id)]);
        let known = things.as_deref().map(|things| self.observed(things, &asked.sizes)).transpose()?;
        let thought = self.wording.tell(sample.images.len(), known.as_deref(), found, relation, &mut rng);
        let text = format!("<think>{thought}</think><answer>{}</answer>", self.answer(&asked)?);
        if !self.gives(&text, &asked) {
            return Err(Reject::OtherAnswer);
        }
        Ok(Told { text, shown: asked.sizes.iter().map(|sizes| sizes.shown).collect() })
    }

    /// Whether a text, whoever wrote it, gives the annotated answer of a sample: the same image, and the box as it would be written.
    pub fn is_answered_by(&self, sample: &Sample, text: &str) -> bool {
        let same = |asked: &Asked| {
            let written = self.answer(asked).ok().and_then(|answer| WrittenBox::read(&answer));
            written.is_some() && said(text) == written
        };
        self.asked(sample).is_ok_and(|asked| same(&asked))
    }

    fn asked(&self, sample: &Sample) -> Result<Asked, Reject> {
        let WrittenBox { image, corners } = WrittenBox::read(&sample.answer).ok_or(Reject::NoBox)?;
        let image = image.or((sample.images.len() == 1).then_some(1)).ok_or(Reject::NoImage)?;
        let sizes = |(width, height): (u32, u32)| {
            let original = Size::new(width, height);
            Some(ImageSizes { original, shown: (self.shown)(original)? })
        };
        let sizes: Option<Vec<ImageSizes>> = sample.images.iter().map(|image| sizes(image.dimensions())).collect();
        let sizes = sizes.ok_or(Reject::NotShown)?;
        let own = image.checked_sub(1).and_then(|at| sizes.get(at)).ok_or(Reject::NoImage)?;
        let bbox = BBox::<Original>::from(corners).clamp(own);
        if bbox.area() > 0.0 { Ok(Asked { image, bbox, sizes }) } else { Err(Reject::NoImage) }
    }

    /// What is annotated, with the corners of each box where boxes are told.
    fn observed<'t>(&self, things: &'t [Thing], sizes: &[ImageSizes]) -> Result<Vec<(&'t Thing, String)>, Reject> {
        let corners = |thing: &Thing| match &sizes[thing.image - 1] {
            own if self.wording.tells_boxes() => self.corners(thing.bbox.clamp(own), own),
            _ => Ok(String::new()),
        };
        things.iter().map(|thing| Ok((thing, corners(thing)?))).collect()
    }

    /// The answer as it is written.
    fn answer(&self, asked: &Asked) -> Result<String, Reject> {
        let corners = self.corners(asked.bbox, &asked.sizes[asked.image - 1])?;
        Ok(format!("{{\"image\": {}, \"bbox_2d\": {corners}}}", asked.image))
    }

    /// A box as it is written: whole numbers, but thousandths in fractions of the image.
    fn corners(&self, bbox: BBox<Original>, sizes: &ImageSizes) -> Result<String, Reject> {
        let corners = match self.frame {
            BoxFrame::Shown => bbox.to::<Shown>(sizes).to_array(),
            BoxFrame::Original => bbox.to_array(),
            BoxFrame::Relative1000 => bbox.to::<Relative1000>(sizes).to_array(),
            BoxFrame::Unit => bbox.to::<Unit>(sizes).to_array().map(|edge| edge * 1000.0),
        };
        let [x1, y1, x2, y2] = corners.map(|edge| edge.round() as i64);
        if x1 >= x2 || y1 >= y2 {
            return Err(Reject::TooSmall);
        }
        Ok(match self.frame {
            BoxFrame::Unit => format!("{:?}", [x1, y1, x2, y2].map(|edge| edge as f64 / 1000.0)),
            _ => format!("{:?}", [x1, y1, x2, y2]),
        })
    }

    /// Whether the answer that a grader would read is the annotated one, up to rounding.
    fn gives(&self, text: &str, asked: &Asked) -> bool {
        said(text).is_some_and(|said| {
            let bbox: BBox<Original> = self.frame.read(said.corners, &asked.sizes[asked.image - 1]);
            said.image == Some(asked.image) && bbox.iou(asked.bbox) >= OVERLAP
        })
    }
}

/// The box of a turn's answer.
fn said(text: &str) -> Option<WrittenBox> {
    match parse_turn(text) {
        Action::Answer(answer) => WrittenBox::read(&answer),
        _ => None,
    }
}

/// The annotated objects of a sample; `None` where nothing is annotated.
fn things(sample: &Sample) -> Result<Option<Vec<Thing>>, Reject> {
    let Some(value) = sample.meta.get(OBJECTS) else { return Ok(None) };
    let things: Vec<Thing> = Vec::deserialize(value).map_err(|_| Reject::BadObjects)?;
    let holds = |thing: &Thing| {
        let on = (1..=sample.images.len()).contains(&thing.image);
        on && !thing.name.trim().is_empty() && thing.bbox.to_array().iter().all(|edge| edge.is_finite())
    };
    if things.iter().all(holds) { Ok(Some(things)) } else { Err(Reject::BadObjects) }
}

/// The annotated object at the answer's box, if the annotation bears the answer out.
fn check<'a>(things: &'a [Thing], asked: &Asked, relation: Relation) -> Result<&'a Thing, Reject> {
    let on = |image: usize| things.iter().filter(move |thing| thing.image == image);
    let overlap = |thing: &Thing| thing.bbox.iou(asked.bbox);
    let best = on(asked.image).max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
    let own = best.filter(|thing| overlap(thing) >= OVERLAP).ok_or(Reject::NotAnnotated)?;
    let others = || things.iter().filter(|thing| !std::ptr::eq(*thing, own));
    let has = |image: usize, name: &str| on(image).any(|thing| thing.name == name);
    // Whether another name of the image is to the other image as this one is.
    let another = |there: usize, shared: bool| {
        others().any(|thing| thing.image == own.image && (thing.name == own.name || has(there, &thing.name) == shared))
    };
    match relation {
        Relation::Find if others().any(|thing| thing.name == own.name) => Err(Reject::Ambiguous),
        Relation::Largest if others().any(|thing| thing.bbox.area() >= own.bbox.area()) => Err(Reject::Contradiction),
        Relation::Common { other } if !has(other, &own.name) => Err(Reject::Contradiction),
        Relation::Differ { other } if has(other, &own.name) => Err(Reject::Contradiction),
        Relation::Common { other } if another(other, true) => Err(Reject::Ambiguous),
        Relation::Differ { other } if another(other, false) => Err(Reject::Ambiguous),
        _ => Ok(own),
    }
}

/// What a question calls the object: the last text in Qwen2-VL's reference marks.
fn reference(question: &str) -> Option<String> {
    let (_, rest) = question.rsplit_once("<|object_ref_start|>")?;
    let (name, _) = rest.split_once("<|object_ref_end|>")?;
    let name = name.trim();
    (!name.is_empty() && !name.contains(['<', '>', '{', '}'])).then(|| name.to_owned())
}
