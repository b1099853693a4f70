//! Samples to a dataset folder: all of it or none, and always the same bytes.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use imagent_core::{Draft, Sample};

use super::rows::{RawMeta, RawRow, SAMPLES, asked, gold_problem};
use crate::error::DataError;

/// What a dataset folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Samples.
    pub samples: usize,
    /// Image files; an image that several samples share counts once.
    pub images: usize,
    /// False when the same dataset was there already.
    pub written: bool,
}

/// Writes samples to a new dataset folder at `path`: `samples.jsonl` and `images/000000.png` … in order of first use.
///
/// The folder is made beside `path` and renamed when complete, so a dataset is there whole or not at all. Equal
/// images are written once. When the same dataset, to the byte, is there already, nothing changes.
///
/// # Errors
/// When `path` holds anything else, a sample cannot be written (no image, an id twice …) or the disk refuses.
pub fn write_folder<I>(path: &Path, samples: I) -> Result<Summary, DataError>
where
    I: IntoIterator,
    I::Item: Borrow<Sample>,
{
    write_with(path, samples, &[])
}

/// [`write_folder`], with extra files: names and contents.
pub(crate) fn write_with<I>(path: &Path, samples: I, extra: &[(&str, String)]) -> Result<Summary, DataError>
where
    I: IntoIterator,
    I::Item: Borrow<Sample>,
{
    write(
        path,
        samples.into_iter().map(Ok),
        |writer, sample| writer.add(sample.borrow(), &[]),
        |folder| {
            extra.iter().try_for_each(|(name, content)| {
                let file = folder.join(name);
                fs::write(&file, content).map_err(DataError::io("write", &file))
            })
        },
    )
}

/// [`write_folder`] for samples that come with their images' files, which are written as they are; images without one are drawn.
///
/// # Errors
/// As [`write_folder`], and those of `rows`.
pub fn write_rows<I>(path: &Path, rows: I) -> Result<Summary, DataError>
where
    I: IntoIterator<Item = Result<(Sample, Vec<Vec<u8>>), DataError>>,
{
    write_rows_and(path, rows, |_| Ok(()))
}

/// [`write_rows`], and whatever `finish` writes into the folder before it gets its name.
pub(crate) fn write_rows_and<I>(
    path: &Path,
    rows: I,
    finish: impl FnOnce(&Path) -> Result<(), DataError>,
) -> Result<Summary, DataError>
where
    I: IntoIterator<Item = Result<(Sample, Vec<Vec<u8>>), DataError>>,
{
    write(path, rows.into_iter(), |writer, (sample, files)| writer.add(&sample, &files), finish)
}

fn write<T>(
    path: &Path,
    rows: impl Iterator<Item = Result<T, DataError>>,
    mut add: impl FnMut(&mut Writer, T) -> Result<(), DataError>,
    finish: impl FnOnce(&Path) -> Result<(), DataError>,
) -> Result<Summary, DataError> {
    if is_occupied(path)? && !path.join(SAMPLES).is_file() {
        return Err(DataError::Occupied { path: path.into() });
    }
    let draft = draft_of(path)?;
    let mut writer = Writer::new(draft.path().to_owned())?;
    for row in rows {
        add(&mut writer, row?)?;
    }
    let summary = writer.finish(path)?;
    finish(draft.path())?;
    let written = publish(&draft, path)?;
    Ok(Summary { written, ..summary })
}

/// A folder beside `target`.
fn draft_of(target: &Path) -> Result<Draft, DataError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = target.file_name() else { return Err(DataError::Occupied { path: target.into() }) };
    let parent = target.parent().unwrap_or(Path::new(""));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = parent.join(format!(".{}.part-{}-{count}", name.to_string_lossy(), std::process::id()));
    Draft::create(path.clone()).map_err(DataError::io("create", &path))
}

/// Gives the folder its name; false when the same content has it already.
fn publish(draft: &Draft, target: &Path) -> Result<bool, DataError> {
    if !is_occupied(target)? {
        if target.is_dir() {
            fs::remove_dir(target).map_err(DataError::io("replace", target))?;
        }
        match fs::rename(draft.path(), target) {
            Ok(()) => return Ok(true),
            // Somebody else may have written it meanwhile.
            Err(error) if !is_occupied(target)? => return Err(DataError::io("create", target)(error)),
            Err(_) => {}
        }
    }
    if same_content(draft.path(), target)? { Ok(false) } else { Err(DataError::Occupied { path: target.into() }) }
}

struct Writer {
    folder: PathBuf,
    file: PathBuf,
    lines: BufWriter<File>,
    ids: HashSet<String>,
    images: HashMap<[u64; 2], String>,
}

impl Writer {
    fn new(folder: PathBuf) -> Result<Self, DataError> {
        let images = folder.join("images");
        fs::create_dir(&images).map_err(DataError::io("create", &images))?;
        let file = folder.join(SAMPLES);
        let lines = BufWriter::new(File::create(&file).map_err(DataError::io("create", &file))?);
        Ok(Self { folder, file, lines, ids: HashSet::new(), images: HashMap::new() })
    }

    /// Adds a sample; `files` are its images' files, where they are to be kept as they are.
    fn add(&mut self, sample: &Sample, files: &[Vec<u8>]) -> Result<(), DataError> {
        if let Some(problem) = self.problem(sample) {
            return Err(DataError::Unwritable { id: sample.id.clone(), problem });
        }
        self.ids.insert(sample.id.clone());
        let images = sample.all_images().enumerate();
        let images =
            images.map(|(nth, image)| self.image(&sample.id, image, files.get(nth))).collect::<Result<_, _>>()?;
        let row = RawRow {
            id: sample.id.clone(),
            images,
            question: sample.question.clone(),
            answer: sample.answer.clone(),
            meta: RawMeta {
                kind: sample.kind.clone(),
                zooms_needed: sample.zooms_needed,
                gold: sample.gold.clone(),
                rest: sample.meta.clone(),
            },
        };
        let unwritable = |problem: String| DataError::Unwritable { id: sample.id.clone(), problem };
        let line = serde_json::to_string(&row).map_err(|error| unwritable(error.to_string()))?;
        writeln!(self.lines, "{line}").map_err(DataError::io("write", &self.file))
    }

    /// Why reading the sample back would fail, or give another sample.
    fn problem(&self, sample: &Sample) -> Option<String> {
        if self.ids.contains(&sample.id) {
            return Some("another sample has the same id".into());
        }
        sample_problem(sample)
    }

    /// Writes the image, or its file, if no equal one was, and returns its name.
    fn image(&mut self, id: &str, image: &RgbImage, file: Option<&Vec<u8>>) -> Result<String, DataError> {
        let key = match file {
            Some(bytes) => [3, 4].map(|salt| fingerprint((0, 0), bytes, salt)),
            None => [1, 2].map(|salt| fingerprint(image.dimensions(), image.as_raw(), salt)),
        };
        if let Some(name) = self.images.get(&key) {
            return Ok(name.clone());
        }
        let ending =
            file.and_then(|bytes| image::guess_format(bytes).ok()).and_then(|format| format.extensions_str().first());
        let name = format!("images/{:06}.{}", self.images.len(), ending.unwrap_or(&"png"));
        let path = self.folder.join(&name);
        let drawn = if file.is_none() { png(image) } else { Ok(Vec::new()) };
        let drawn = drawn.map_err(|problem| DataError::Unwritable { id: id.into(), problem })?;
        fs::write(&path, file.unwrap_or(&drawn)).map_err(DataError::io("write", &path))?;
        self.images.insert(key, name.clone());
        Ok(name)
    }

    fn finish(mut self, target: &Path) -> Result<Summary, DataError> {
        self.lines.flush().map_err(DataError::io("write", &self.file))?;
        if self.ids.is_empty() {
            return Err(DataError::Empty { file: target.join(SAMPLES) });
        }
        Ok(Summary { samples: self.ids.len(), images: self.images.len(), written: true })
    }
}

/// Why a dataset folder cannot hold the sample, whatever else it holds.
pub(crate) fn sample_problem(sample: &Sample) -> Option<String> {
    let texts = [("id", &sample.id), ("question", &sample.question), ("answer", &sample.answer)];
    if let Some((field, _)) = texts.into_iter().find(|(_, text)| text.trim().is_empty()) {
        return Some(format!("`{field}` is empty"));
    }
    if sample.images.is_empty() {
        return Some("it has no image".into());
    }
    let asked = asked(&sample.meta, sample.all_images().count());
    if asked != sample.images.len() {
        let images = sample.images.len();
        return Some(format!("its conversation asks the question with {asked} images, the sample with {images}"));
    }
    if let Some(key) = RawMeta::KNOWN.into_iter().find(|&key| sample.meta.contains_key(key)) {
        return Some(format!("its meta must not have the key `{key}`"));
    }
    sample.gold.iter().find_map(|gold| gold_problem(gold, sample.images.len()))
}

/// Two of these make 128 bits, which no two images of a dataset share by chance.
fn fingerprint(size: (u32, u32), bytes: &[u8], salt: u8) -> u64 {
    let mut hasher = DefaultHasher::new();
    (salt, size).hash(&mut hasher);
    hasher.write(bytes);
    hasher.finish()
}

pub(crate) fn png(image: &RgbImage) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)
        .map_err(|error| format!("an image cannot be written: {error}"))?;
    Ok(bytes)
}

/// Whether something is at `path` that is not an empty folder.
pub(crate) fn is_occupied(path: &Path) -> Result<bool, DataError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(true),
        Err(error) => Err(DataError::io("read", path)(error)),
    }
}

fn same_content(a: &Path, b: &Path) -> Result<bool, DataError> {
    let (names, others) = (entries(a)?, entries(b)?);
    if names != others {
        return Ok(false);
    }
    for name in names {
        let (a, b) = (a.join(&name), b.join(&name));
        let same = match (a.is_dir(), b.is_dir()) {
            (true, true) => same_content(&a, &b)?,
            (false, false) => {
                fs::read(&a).map_err(DataError::io("read", &a))? == fs::read(&b).map_err(DataError::io("read", &b))?
            }
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn entries(folder: &Path) -> Result<Vec<std::ffi::OsString>, DataError> {
    let read = fs::read_dir(folder).map_err(DataError::io("read", folder))?;
    let names = read.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>();
    let mut names = names.map_err(DataError::io("read", folder))?;
    names.sort();
    Ok(names)
}
