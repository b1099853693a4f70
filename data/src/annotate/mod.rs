//! Annotation to reasoning: from objects (name, box, image) and what is known of the images (which one, how they compare) to the words of a
//! trajectory: observe each image, compare, name the image, give the box.
//!
//! * this file: what is annotated, and why a sample is rejected;
//! * [`wording`]: the templates;
//! * [`tell`]: a sample to the text of a turn, checked to give the annotated answer;
//! * [`coco`]: detection annotation to questions over several images;
//! * [`mod@write`]: samples to a folder with trajectories.

pub mod coco;
#[cfg(test)]
mod file_tests;
pub mod tell;
#[cfg(test)]
mod tests;
pub mod wording;
pub mod write;

use imagent_core::{BBox, Original, Sample};
use serde::{Deserialize, Serialize};

pub use coco::{Coco, CocoQuestions};
pub use tell::{Teller, Told};
pub use wording::Wording;
pub use write::{Annotated, Annotator, Drawn, Rewrite, Rewriter, samples_of};

/// The key of a sample's `meta` that lists the [`Thing`]s on its images.
pub const OBJECTS: &str = "objects";
/// The key of a sample's `meta` that names the image which the question compares with.
pub const OTHER: &str = "other";

/// An annotated object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thing {
    /// Index of the image, counted from 1.
    pub image: usize,
    /// What it is called.
    pub name: String,
    /// Its box, in pixels of the image file.
    pub bbox: BBox<Original>,
}

/// How the object asked for is told from others: the image-level annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is the only one of its name.
    Find,
    /// It is the largest of all.
    Largest,
    /// Its name is the only one that its image and this other one share.
    Common {
        /// The other image.
        other: usize,
    },
    /// Its name is the only one of its image that this other one has not.
    Differ {
        /// The other image.
        other: usize,
    },
    /// In a way that is not annotated.
    Given,
}

impl Relation {
    /// That of a sample, by its kind (`find`, `largest`, `common` and `differ` with `meta.other`); any other is `Given`.
    pub fn of(sample: &Sample) -> Self {
        let other =
            sample.meta.get(OTHER).and_then(serde_json::Value::as_u64).and_then(|other| usize::try_from(other).ok());
        match (sample.kind.as_str(), other) {
            ("find", _) => Self::Find,
            ("largest", _) => Self::Largest,
            ("common", Some(other)) => Self::Common { other },
            ("differ", Some(other)) => Self::Differ { other },
            _ => Self::Given,
        }
    }
}

/// Why a sample gets no trajectory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// The answer is no box.
    #[error("the answer is not a box")]
    NoBox,
    /// The answer's box is on no image of the sample, or outside of its image.
    #[error("the box is on no image")]
    NoImage,
    /// `meta.objects` cannot be read.
    #[error("its objects are not {{image, name, bbox}} on its images")]
    BadObjects,
    /// No annotated object is at the answer's box.
    #[error("no annotated object is where the answer is")]
    NotAnnotated,
    /// The annotation has another object that would be right.
    #[error("by its annotation the question has several answers")]
    Ambiguous,
    /// The annotation says that the answer is wrong.
    #[error("its annotation contradicts the answer")]
    Contradiction,
    /// An image cannot be shown to the model.
    #[error("an image cannot be shown to the model")]
    NotShown,
    /// The box has no area once its corners are rounded.
    #[error("the box is too small to write down")]
    TooSmall,
    /// No group of images that was drawn has an object to ask for.
    #[error("no images that were drawn have an object to ask for")]
    NoQuestion,
    /// An image or a row cannot be read; says why.
    #[error("{0}")]
    BadImage(String),
    /// The text does not give the annotated answer.
    #[error("the trajectory does not give the annotated answer")]
    OtherAnswer,
}

impl Reject {
    /// Its name in statistics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoBox => "no_box",
            Self::NoImage => "no_image",
            Self::BadObjects => "bad_objects",
            Self::NotAnnotated => "not_annotated",
            Self::Ambiguous => "ambiguous",
            Self::Contradiction => "contradiction",
            Self::NotShown => "not_shown",
            Self::TooSmall => "too_small",
            Self::NoQuestion => "no_question",
            Self::BadImage(_) => "bad_image",
            Self::OtherAnswer => "other_answer",
        }
    }
}
