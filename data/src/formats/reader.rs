//! Datasets by position: rows of any format as entries and, with their images, as samples.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use imagent_core::{Sample, SampleError, SampleSource, picture};

use super::entry::{Entry, Picture};
use super::source::{At, LastRow, Source, own_folder};
use super::{FOLDER, Select};
use crate::error::DataError;
use crate::folder::cache::Cache;
use crate::folder::{CACHE_MIB, Folder, SAMPLES};

/// A dataset of any format.
pub trait Reader: SampleSource + Debug {
    /// The name of the format.
    fn format(&self) -> &'static str;

    /// The row at `position`, counted from 0, as published.
    ///
    /// # Errors
    /// When the position is too high, or the row cannot be read any more.
    fn entry(&self, position: usize) -> Result<Entry, DataError>;

    /// The files of all images of an entry, as they are.
    ///
    /// # Errors
    /// The first image that cannot be had, and why, without the row.
    fn files<'a>(&self, entry: &'a Entry) -> Result<Vec<Vec<u8>>, (&'a Picture, String)>;

    /// The sample at `position`, its images decoded.
    ///
    /// # Errors
    /// As [`Reader::entry`], or when an image cannot be read.
    fn sample(&self, position: usize) -> Result<Sample, DataError>;

    /// Keeps at most `bytes` of decoded images from now on, besides those in use; 0 keeps none, and nothing is decoded ahead.
    fn keep(&mut self, bytes: usize);
}

/// Opens a dataset of the selected format, or of the one that is found: a folder of ours, a folder of a published format, or one of its
/// files. Every row is read once, so that what is wrong with one is told now; images are decoded when asked for.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// image::RgbImage::new(4, 4).save(dir.path().join("a.png"))?;
/// let row = r#"[{"images": ["a.png"], "messages": [
///     {"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "Nothing."}]}]"#;
/// std::fs::write(dir.path().join("train.json"), row)?;
/// let dataset = imagent_data::formats::open(dir.path(), Default::default())?;
/// assert_eq!((dataset.format(), dataset.len()), ("openai", 1));
/// assert_eq!(dataset.sample(0)?.question, "What is it?");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first thing that is wrong; [`super::survey()`] lists all.
pub fn open(path: &Path, select: Select<'_>) -> Result<Box<dyn Reader>, DataError> {
    open_without(path, select, &mut Err)
}

/// [`open`] without the rows that `bad` takes: it is told what is wrong with each, and an error from it ends everything.
///
/// # Errors
/// Those of `bad`; what is wrong with more than one row, such as a file that breaks off.
pub fn open_without(path: &Path, select: Select<'_>, bad: &mut BadRow<'_>) -> Result<Box<dyn Reader>, DataError> {
    if let Some(folder) = own_folder(path, select)? {
        return Ok(Box::new(Folder::open_without(&folder, select.limit, bad)?));
    }
    Ok(Box::new(Published::open(Source::find(path, select)?, select.limit, bad)?))
}

/// Images, and the files that they were read from.
pub(crate) type Files = (Vec<Arc<RgbImage>>, Vec<Vec<u8>>);

/// All images of an entry with their files; else which cannot be read, and why.
pub(crate) fn decoded<'a>(reader: &dyn Reader, entry: &'a Entry) -> Result<Files, (&'a Picture, String)> {
    let files = reader.files(entry)?;
    let decoded = entry.all_pictures().zip(&files);
    let decoded = decoded.map(|(picture, file)| match picture::decode(file) {
        Ok(image) => Ok(Arc::new(image)),
        Err(error) => Err((picture, error.to_string())),
    });
    Ok((decoded.collect::<Result<_, _>>()?, files))
}

/// Decides about a bad row: `Ok` leaves it out, an error ends the reading.
pub type BadRow<'a> = dyn FnMut(DataError) -> Result<(), DataError> + 'a;

/// Leaves out a row if `bad` does and the others can be read.
pub(crate) fn leave_out(bad: &mut BadRow<'_>, error: DataError) -> Result<(), DataError> {
    if error.is_of_one_row() { bad(error) } else { Err(error) }
}

/// An open dataset of a published format.
#[derive(Debug)]
pub struct Published {
    source: Source,
    rows: Vec<Slot>,
    /// How many different images there are.
    images: usize,
    cache: Cache,
}

/// A row: where it is, and what it says where reading it again would be dear.
#[derive(Debug)]
struct Slot {
    at: At,
    held: Option<Box<Entry>>,
    /// The numbers of its images in the cache.
    images: Box<[usize]>,
}

/// Numbers images: a file has one, however many rows name it.
#[derive(Default)]
struct Numbers {
    files: HashMap<PathBuf, usize>,
    count: usize,
}

impl Numbers {
    fn of(&mut self, picture: &Picture) -> usize {
        let next = self.count;
        let number = match picture {
            Picture::File { path, .. } => *self.files.entry(path.clone()).or_insert(next),
            Picture::Cell { .. } => next,
        };
        self.count += usize::from(number == next);
        number
    }
}

impl Published {
    /// Reads every row, or the first `limit`, once, and keeps where it is; without the rows that `bad` takes.
    ///
    /// # Errors
    /// The first table that cannot be read, or bad row that is not taken.
    pub fn open(mut source: Source, limit: Option<usize>, bad: &mut BadRow<'_>) -> Result<Self, DataError> {
        if !source.unreadable.is_empty() {
            return Err(source.unreadable.swap_remove(0));
        }
        let (mut rows, mut numbers, mut failed) = (Vec::new(), Numbers::default(), None);
        let mut left = limit.unwrap_or(usize::MAX);
        source.scan_at(&mut |row| match row {
            _ if left == 0 => ControlFlow::Break(()),
            Ok((at, entry)) => {
                left -= 1;
                let dear = source.tables[at.table].table.is_dear();
                let images = entry.all_pictures().map(|picture| numbers.of(picture)).collect();
                rows.push(Slot { at, held: dear.then(|| Box::new(entry)), images });
                ControlFlow::Continue(())
            }
            Err(error) => {
                left -= 1;
                failed = leave_out(bad, error).err();
                if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        });
        match failed {
            Some(error) => Err(error),
            None if rows.is_empty() => Err(DataError::Empty { file: source.path }),
            None => {
                let (images, cache) = (numbers.count, Cache::new(numbers.count, CACHE_MIB << 20));
                Ok(Self { source, rows, images, cache })
            }
        }
    }

    fn slot(&self, position: usize) -> Result<&Slot, DataError> {
        let none = || DataError::NoSample { file: self.source.path.clone(), position, samples: self.rows.len() };
        self.rows.get(position).ok_or_else(none)
    }

    fn decode(&self, picture: &Picture, read: &mut LastRow) -> Result<RgbImage, String> {
        picture::decode(&self.source.bytes(picture, read)?).map_err(|error| error.to_string())
    }
}

impl Reader for Published {
    fn format(&self) -> &'static str {
        self.source.format()
    }

    fn entry(&self, position: usize) -> Result<Entry, DataError> {
        let slot = self.slot(position)?;
        let again = || self.source.again(slot.at);
        slot.held.as_deref().cloned().map(Ok).or_else(again).unwrap_or_else(|| {
            let (file, samples) = (self.source.path.clone(), self.rows.len());
            Err(DataError::NoSample { file, position, samples })
        })
    }

    fn files<'a>(&self, entry: &'a Entry) -> Result<Vec<Vec<u8>>, (&'a Picture, String)> {
        let mut read = None;
        let file = |picture| self.source.bytes(picture, &mut read).map_err(|problem| (picture, problem));
        entry.all_pictures().map(file).collect()
    }

    fn sample(&self, position: usize) -> Result<Sample, DataError> {
        let entry = self.entry(position)?;
        let slot = self.slot(position)?;
        let mut read = None;
        let image = |(picture, number): (&Picture, &usize)| {
            self.cache.get(*number, || self.decode(picture, &mut read)).map_err(|problem| {
                let place = self.source.place(slot.at);
                DataError::BadRow { place, problem: format!("image {:?}: {problem}", picture.name()) }
            })
        };
        let images = entry.all_pictures().zip(&slot.images).map(image).collect::<Result<_, _>>()?;
        Ok(entry.sample(images))
    }

    fn keep(&mut self, bytes: usize) {
        self.cache = Cache::new(self.images, bytes);
    }
}

impl SampleSource for Published {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError> {
        self.sample(position).map(Arc::new).map_err(|error| SampleError(error.to_string()))
    }

    fn prefetch(&self, position: usize) -> Vec<Arc<RgbImage>> {
        let (Ok(slot), Ok(entry)) = (self.slot(position), self.entry(position)) else { return Vec::new() };
        let mut read = None;
        let image =
            |(picture, number): (&Picture, &usize)| self.cache.prefetch(*number, || self.decode(picture, &mut read));
        let ready: Vec<_> = entry.all_pictures().zip(&slot.images).map(image).collect();
        ready.into_iter().take(entry.pictures.len()).flatten().collect()
    }
}

impl Reader for Folder {
    fn format(&self) -> &'static str {
        FOLDER
    }

    fn entry(&self, position: usize) -> Result<Entry, DataError> {
        let samples = self.len();
        let none = || DataError::NoSample { file: self.root().join(SAMPLES), position, samples };
        self.entry_at(position).ok_or_else(none)
    }

    fn files<'a>(&self, entry: &'a Entry) -> Result<Vec<Vec<u8>>, (&'a Picture, String)> {
        entry.all_pictures().map(|picture| picture.file().map_err(|problem| (picture, problem))).collect()
    }

    fn sample(&self, position: usize) -> Result<Sample, DataError> {
        Folder::sample(self, position)
    }

    fn keep(&mut self, bytes: usize) {
        self.set_cache(bytes);
    }
}
