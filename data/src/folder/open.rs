//! A dataset folder as a source of samples: every line checked at once, images decoded when asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use imagent_core::conversation::CONVERSATION;
use imagent_core::{BoxFrame, Gold, Sample, SampleError, SampleSource, WrittenBox};

use super::cache::Cache;
use super::decode::decode;
use super::rows::{ImageFile, RawRow, Row, Rows, SAMPLES, conversation};
use crate::error::DataError;
use crate::formats::BadRow;
use crate::formats::entry::{Answer, Entry, KEYS, Picture, Region};
use crate::formats::reader::leave_out;
use crate::formats::text::letter;

/// MiB of decoded images kept by default: some 890 images of the nano world, 14 of 4000 × 3000 pixels.
pub const CACHE_MIB: usize = 512;

/// An open dataset folder.
///
/// ```
/// use imagent_core::SampleSource;
/// use imagent_data::{Folder, SynthConfig, synth};
/// let parent = tempfile::tempdir()?;
/// let path = parent.path().join("nano");
/// synth(&SynthConfig { samples: 3, ..Default::default() }, &path)?;
/// let folder = Folder::open(&path)?;
/// assert_eq!(folder.len(), 3);
/// assert_eq!(folder.get(0)?.images[0].dimensions(), (448, 448));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    rows: Vec<Row>,
    images: Vec<ImageFile>,
    cache: Cache,
}

impl Folder {
    /// Opens the folder and checks every line, without decoding an image.
    ///
    /// # Errors
    /// The first thing that is wrong; [`survey`](crate::formats::survey()) lists all.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        Self::open_without(path.as_ref(), None, &mut Err)
    }

    /// [`open`](Self::open) for the first `limit` rows, without those that `bad` takes.
    pub(crate) fn open_without(path: &Path, limit: Option<usize>, bad: &mut BadRow<'_>) -> Result<Self, DataError> {
        let mut reader = Rows::open(path)?;
        let mut rows = Vec::new();
        for _ in 0..limit.unwrap_or(usize::MAX) {
            let Some(row) = reader.next() else { break };
            match row {
                Ok(row) => rows.push(row),
                Err(error) => leave_out(bad, error)?,
            }
        }
        if rows.is_empty() {
            return Err(DataError::Empty { file: reader.file().into() });
        }
        let cache = Cache::new(reader.images.len(), CACHE_MIB << 20);
        Ok(Self { root: path.into(), rows, images: reader.images, cache })
    }

    /// Keeps at most `bytes` of decoded images, besides those in use; 0 keeps none, and nothing is decoded ahead.
    #[must_use]
    pub fn with_cache(mut self, bytes: usize) -> Self {
        self.set_cache(bytes);
        self
    }

    /// [`with_cache`](Self::with_cache) in place.
    pub(crate) fn set_cache(&mut self, bytes: usize) {
        self.cache = Cache::new(self.images.len(), bytes);
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many different image files the samples name.
    pub fn image_files(&self) -> usize {
        self.images.len()
    }

    /// The sample at `position`, counted from 0. Images that several samples share are shared in memory.
    ///
    /// # Errors
    /// When the position is too high or an image cannot be decoded.
    pub fn sample(&self, position: usize) -> Result<Sample, DataError> {
        let samples = self.rows.len();
        let Some(Row { raw, images, asked }) = self.rows.get(position) else {
            return Err(DataError::NoSample { file: self.root.join(SAMPLES), position, samples });
        };
        let mut images: Vec<_> = images.iter().map(|&number| self.image(number)).collect::<Result<_, _>>()?;
        let later_images = images.split_off(*asked);
        Ok(Sample {
            id: raw.id.clone(),
            images,
            later_images,
            question: raw.question.clone(),
            answer: raw.answer.clone(),
            kind: raw.meta.kind.clone(),
            zooms_needed: raw.meta.zooms_needed,
            gold: raw.meta.gold.clone(),
            meta: raw.meta.rest.clone(),
        })
    }

    /// The row at `position` as an entry.
    pub(crate) fn entry_at(&self, position: usize) -> Option<Entry> {
        let row = self.rows.get(position)?;
        Some(entry(row, &self.images))
    }

    fn image(&self, number: usize) -> Result<Arc<RgbImage>, DataError> {
        let ImageFile { name, path, line } = &self.images[number];
        self.cache.get(number, || decode(path)).map_err(|problem| {
            let (file, image) = (self.root.join(SAMPLES), name.clone());
            DataError::BadImage { file, line: *line, image, problem }
        })
    }

    #[cfg(test)]
    pub(crate) fn images(&self) -> Vec<PathBuf> {
        self.images.iter().map(|image| image.path.clone()).collect()
    }

    #[cfg(test)]
    pub(crate) fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }
}

/// A row as an entry: what `meta` says of the answer's kind, options and conversation is taken at its word.
pub(crate) fn entry(row: &Row, images: &[ImageFile]) -> Entry {
    let Row { raw, images: numbers, asked } = row;
    let picture = |&number: &usize| {
        let ImageFile { name, path, .. } = &images[number];
        Picture::File { name: name.clone(), path: path.clone() }
    };
    let mut meta = raw.meta.rest.clone();
    let [kind, options, question, assumed] = KEYS.map(|key| meta.shift_remove(key).unwrap_or_default());
    let conversation = conversation(&raw.meta.rest);
    if conversation.is_some() {
        meta.shift_remove(CONVERSATION);
    }
    let mut pictures: Vec<Picture> = numbers.iter().map(picture).collect();
    let later_pictures = pictures.split_off(*asked);
    let options: Vec<String> = serde_json::from_value(options).unwrap_or_default();
    let mut gold: Vec<Region> = raw.meta.gold.iter().map(region).collect();
    let mut answer = answer(raw, *asked, kind.as_str(), &options, &mut gold);
    if let (Answer::Box(region), Some(true)) = (&mut answer, assumed.as_bool()) {
        region.image = None;
    }
    Entry {
        id: raw.id.clone(),
        pictures,
        later_pictures,
        question: question.as_str().unwrap_or(&raw.question).to_owned(),
        options,
        answer,
        kind: raw.meta.kind.clone(),
        zooms_needed: raw.meta.zooms_needed,
        gold,
        conversation: conversation.unwrap_or_default(),
        meta,
    }
}

/// The answer as `kind` says it is, else as it is written; a box that is gold as well is taken out there.
fn answer(raw: &RawRow, asked: usize, kind: Option<&str>, options: &[String], gold: &mut Vec<Region>) -> Answer {
    let named = || ('A'..='Z').zip(options).find(|(_, option)| **option == raw.answer).map(|(letter, _)| letter);
    let found = match kind {
        Some("choice") => letter(&raw.answer).or_else(named).map(Answer::Choice),
        // Without a kind, a list of numbers may be just that.
        Some("box") | None => WrittenBox::read(&raw.answer)
            .filter(|written| kind.is_some() || written.image.is_some())
            .map(|written| Answer::Box(answer_region(written, asked, gold))),
        _ => None,
    };
    found.unwrap_or_else(|| Answer::Text(raw.answer.clone()))
}

/// A written box, exact where it is one of the gold ones.
fn answer_region(written: WrittenBox, images: usize, gold: &mut Vec<Region>) -> Region {
    let image = written.image.or((images == 1).then_some(1));
    let is_near = |own: &Region| own.corners.iter().zip(written.corners).all(|(a, b)| (a - b).abs() <= 1.0);
    match gold.iter().rposition(|own| is_near(own) && (image.is_none() || own.image == image)) {
        Some(at) => gold.remove(at),
        None => Region { image, corners: written.corners, frame: BoxFrame::Original },
    }
}

fn region(gold: &Gold) -> Region {
    Region { image: Some(gold.image), corners: gold.bbox.to_array(), frame: BoxFrame::Original }
}

impl SampleSource for Folder {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError> {
        self.sample(position).map(Arc::new).map_err(|error| SampleError(error.to_string()))
    }

    fn prefetch(&self, position: usize) -> Vec<Arc<RgbImage>> {
        let Some(row) = self.rows.get(position) else { return Vec::new() };
        let image = |&number: &usize| self.cache.prefetch(number, || decode(&self.images[number].path));
        let ready: Vec<_> = row.images.iter().map(image).collect();
        ready.into_iter().take(row.asked).flatten().collect()
    }
}
