//! A sample: images, a question, the gold answer, and what is known about where the answer lies.

use std::sync::Arc;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::frame::{BBox, Original};

/// A region that holds the answer, for grading and analysis; never shown to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gold {
    /// Index of the image, counted from 1.
    pub image: usize,
    /// The region, in pixels of the image file.
    pub bbox: BBox<Original>,
}

/// One question about one or several images.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Unique within its dataset.
    pub id: String,
    /// Decoded images, in the order the question numbers them.
    pub images: Vec<Arc<RgbImage>>,
    /// Images of the turns after the question, where the sample is a [conversation](crate::conversation); only supervised training
    /// shows them.
    pub later_images: Vec<Arc<RgbImage>>,
    /// What the model is asked.
    pub question: String,
    /// The gold answer.
    pub answer: String,
    /// The kind of question, for tables by kind (`read`, `which`, `same` … in the nano world).
    pub kind: String,
    /// How many zooms the question needs; `None` where a dataset does not say.
    pub zooms_needed: Option<u32>,
    /// Where the answer lies, in the order in which it has to be looked at.
    pub gold: Vec<Gold>,
    /// Whatever else the dataset says.
    pub meta: serde_json::Map<String, serde_json::Value>,
}

impl Sample {
    /// The images of the whole conversation: the question's, and those of later turns.
    pub fn all_images(&self) -> impl Iterator<Item = &Arc<RgbImage>> {
        self.images.iter().chain(&self.later_images)
    }
}

/// Why a sample could not be had; names the file or line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SampleError(pub String);

/// Samples by position: a dataset folder, or samples in memory.
pub trait SampleSource: Send + Sync {
    /// How many samples there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `position`, its images decoded.
    ///
    /// # Errors
    /// When an image cannot be read.
    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError>;

    /// Makes ready the sample at `position`, which will soon be asked for: called on other threads, for several samples at
    /// once. Returns those of its question's images that [`get`](Self::get) has without further work. What is wrong with a sample is
    /// said by `get` alone.
    ///
    /// A source that keeps nothing has nothing to do, which is the default.
    fn prefetch(&self, position: usize) -> Vec<Arc<RgbImage>> {
        let _ = position;
        Vec::new()
    }
}

impl SampleSource for Vec<Arc<Sample>> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }
    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError> {
        let found = self.as_slice().get(position);
        found.cloned().ok_or_else(|| SampleError(format!("no sample at position {position}")))
    }
    fn prefetch(&self, position: usize) -> Vec<Arc<RgbImage>> {
        self.as_slice().get(position).map_or_else(Vec::new, |sample| sample.images.clone())
    }
}
