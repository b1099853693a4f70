//! What every format comes to: an entry, with its question, options, answer and boxes as published, and its images not yet read.

use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;
use imagent_core::conversation::CONVERSATION;
use imagent_core::{BBox, BoxFrame, Gold, ImageSizes, Original, Sample, Size, Turn};
use serde_json::{Map, Value, json};

use crate::tables::{CellPath, Spot};

/// Keys of a sample's `meta` that an entry fills, besides the conversation.
pub(crate) const KEYS: [&str; 4] = ["answer_kind", "options", "question", "image_assumed"];

/// A box on an image, in the frame in which it was published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// The image, counted from 1; `None` where the dataset does not say.
    pub image: Option<usize>,
    /// `[x1, y1, x2, y2]`.
    pub corners: [f64; 4],
    /// What the corners count.
    pub frame: BoxFrame,
}

/// The gold answer, and of what kind it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Any text.
    Text(String),
    /// A letter of the options, from A.
    Choice(char),
    /// A box.
    Box(Region),
}

impl Answer {
    /// `text`, `choice` or `box`: what `meta.answer_kind` says.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Choice(_) => "choice",
            Self::Box(_) => "box",
        }
    }
}

/// An image that was not read yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Picture {
    /// A file inside the dataset.
    File {
        /// As the row writes it.
        name: String,
        /// Resolved.
        path: PathBuf,
    },
    /// A cell of a row: the file's bytes, or their base64.
    Cell {
        /// Which table of the dataset, counted from 0.
        table: usize,
        /// The row.
        spot: Spot,
        /// The cell.
        cell: CellPath,
        /// A file inside the dataset, for when the cell is null.
        path: Option<String>,
    },
}

impl Picture {
    /// The bytes of its file, or why they cannot be had.
    pub(crate) fn file(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File { path, .. } => crate::folder::decode::bytes(path),
            Self::Cell { .. } => Err("not a file".into()),
        }
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::File { name, .. } => name.clone(),
            Self::Cell { cell, .. } => match cell.nth {
                Some(nth) => format!("{}[{nth}]", cell.column),
                None => cell.column.clone(),
            },
        }
    }
}

/// One row of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Unique within the dataset, and the same whenever it is read.
    pub id: String,
    /// The question's images in order.
    pub pictures: Vec<Picture>,
    /// Those of later turns of the conversation.
    pub later_pictures: Vec<Picture>,
    /// The question without its options and without instructions on how to answer, as far as the format tells them apart.
    pub question: String,
    /// The options of a multiple choice, without letters.
    pub options: Vec<String>,
    /// The gold answer.
    pub answer: Answer,
    /// The kind of task.
    pub kind: String,
    /// How many zooms the question needs, where the dataset says.
    pub zooms_needed: Option<u32>,
    /// Where the answer lies, besides an answer that is a box itself.
    pub gold: Vec<Region>,
    /// The whole conversation, where the row is one; for supervised training.
    pub conversation: Vec<Turn>,
    /// Whatever else the row says.
    pub meta: Map<String, Value>,
}

impl Entry {
    /// The question with its options, a line each: `A. …`.
    pub fn prompt(&self) -> String {
        let letters = ('A'..='Z').zip(&self.options).map(|(letter, option)| format!("\n{letter}. {option}"));
        std::iter::once(self.question.clone()).chain(letters).collect()
    }

    /// All images of the row: the question's, and those of later turns.
    pub fn all_pictures(&self) -> impl Iterator<Item = &Picture> {
        self.pictures.iter().chain(&self.later_pictures)
    }

    /// The entry with [all its images](Self::all_pictures), as a sample. Boxes become pixels of the image files and are cut to the
    /// image; one without an image is on the last. `meta` gets `answer_kind`, `image_assumed` if that is so of the answer, and
    /// `options`, `question` (without options) and `conversation` where there are any.
    pub fn sample(&self, mut images: Vec<Arc<RgbImage>>) -> Sample {
        let later_images = images.split_off(self.pictures.len().min(images.len()));
        let mut gold: Vec<Gold> = self.gold.iter().filter_map(|region| on_file(region, &images)).collect();
        let answer = match &self.answer {
            Answer::Text(text) => text.clone(),
            Answer::Choice(letter) => letter.to_string(),
            Answer::Box(region) => {
                let found = on_file(region, &images);
                gold.extend(found.clone());
                found.map_or_else(|| format!("{:?}", region.corners), |gold| written(&gold))
            }
        };
        let mut meta = self.meta.clone();
        meta.insert("answer_kind".into(), self.answer.kind().into());
        if matches!(self.answer, Answer::Box(Region { image: None, .. })) && images.len() > 1 {
            meta.insert("image_assumed".into(), true.into());
        }
        if !self.options.is_empty() {
            meta.insert("options".into(), json!(self.options));
            meta.insert("question".into(), json!(self.question));
        }
        if !self.conversation.is_empty() {
            meta.insert(CONVERSATION.into(), json!(self.conversation));
        }
        Sample {
            id: self.id.clone(),
            images,
            later_images,
            question: self.prompt(),
            answer,
            kind: self.kind.clone(),
            zooms_needed: self.zooms_needed,
            gold,
            meta,
        }
    }

    /// The image of a box that is on none of the question's images.
    pub(crate) fn box_elsewhere(&self) -> Option<usize> {
        let images = self.pictures.len();
        self.regions().filter_map(|region| region.image).find(|image| !(1..=images).contains(image))
    }

    /// The boxes of the entry: the answer's and the gold ones.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        let answer = if let Answer::Box(region) = &self.answer { Some(region) } else { None };
        answer.into_iter().chain(&self.gold)
    }
}

/// The region in pixels of its image's file; `None` where nothing of it is on the image.
fn on_file(region: &Region, images: &[Arc<RgbImage>]) -> Option<Gold> {
    let image = region.image.unwrap_or(images.len());
    let pixels = images.get(image.checked_sub(1)?)?;
    let bbox = on_image(region, pixels.dimensions());
    (bbox.area() > 0.0).then_some(Gold { image, bbox })
}

/// The region in pixels of an image of this width and height.
pub(crate) fn on_image(region: &Region, (width, height): (u32, u32)) -> BBox<Original> {
    let size = Size::new(width, height);
    region.frame.read(region.corners, &ImageSizes { original: size, shown: size })
}

fn written(gold: &Gold) -> String {
    json!({"image": gold.image, "bbox_2d": gold.bbox.to_array()}).to_string()
}
