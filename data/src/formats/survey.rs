//! What a dataset holds, and everything that is wrong with it, not only the first thing.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use imagent_core::conversation::CONVERSATION;
use imagent_core::{Asked, BoxFrame, Turn, WrittenBox, picture};
use serde::Serialize;
use serde_json::Value;

use super::entry::{Entry, Picture};
use super::source::{Source, own_folder};
use super::{FOLDER, Select};
use crate::error::DataError;
use crate::folder::SAMPLES;
use crate::folder::open::entry;
use crate::folder::rows::{RawRow, Row, Rows, conversation};
use crate::tables::Place;

/// Qwen2.5-VL's image processor refuses images with a side this many times the other.
const MAX_ASPECT_RATIO: u64 = 200;

/// What [`survey()`] counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// The format.
    pub format: String,
    /// The files with rows.
    pub files: Vec<PathBuf>,
    /// Rows, good and bad.
    pub rows: usize,
    /// Different images that were decoded.
    pub images: usize,
    /// Bytes of these images' files.
    pub bytes: u64,
    /// Width and height of the image with the fewest pixels, and of that with the most.
    pub sizes: Option<[(u32, u32); 2]>,
    /// Boxes.
    pub boxes: usize,
    /// Good rows by kind of task.
    pub kinds: BTreeMap<String, usize>,
    /// Good rows by kind of answer.
    pub answers: BTreeMap<String, usize>,
    /// Good rows by number of images.
    pub images_a_row: BTreeMap<usize, usize>,
    /// Things that are wrong.
    pub problems: usize,
}

/// What is met on the way.
pub enum Finding<'a> {
    /// Something is wrong.
    Problem(&'a DataError),
    /// Something is odd: a box that leaves its image, say, where the format is not ours.
    Warning(&'a DataError),
    /// A good row with its question's images.
    Row(&'a Entry, &'a [Arc<RgbImage>]),
}

/// Reads the rows, decodes every image, and compares boxes with the images' sizes.
///
/// # Errors
/// Only when there is no dataset at all; whatever is wrong with one is a finding.
pub fn survey(path: &Path, select: Select<'_>, tell: &mut dyn FnMut(Finding<'_>)) -> Result<Survey, DataError> {
    let limit = select.limit.unwrap_or(usize::MAX);
    let own = own_folder(path, select)?;
    let mut surveyor = Surveyor { own: own.is_some(), seen: HashMap::new(), survey: Survey::default(), tell };
    match own {
        Some(folder) => surveyor.folder(&folder, limit)?,
        None => surveyor.published(&Source::find(path, select)?, limit),
    }
    Ok(surveyor.survey)
}

/// The file of an image.
type Bytes<'a> = dyn FnMut(&Picture) -> Result<Vec<u8>, String> + 'a;

struct Surveyor<'a> {
    own: bool,
    /// Sizes of image files met before.
    seen: HashMap<PathBuf, Result<(u32, u32), String>>,
    survey: Survey,
    tell: &'a mut dyn FnMut(Finding<'_>),
}

impl Surveyor<'_> {
    fn folder(&mut self, path: &Path, limit: usize) -> Result<(), DataError> {
        let mut rows = Rows::open(path)?;
        self.survey.format = FOLDER.into();
        self.survey.files = vec![path.join(SAMPLES)];
        while self.survey.rows < limit
            && let Some(row) = rows.next()
        {
            let place = Place { file: rows.file().into(), number: rows.line(), is_line: true };
            let unreadable = matches!(row, Err(DataError::Io { .. }));
            let said = row.as_ref().ok().map(|row| [answer_problem(row), conversation_problem(&row.raw)]);
            for problem in said.into_iter().flatten().flatten() {
                self.problem(&DataError::BadRow { place: place.clone(), problem });
            }
            let row = row.map(|row| entry(&row, &rows.images));
            self.row(row.map(|entry| (place, entry)), &mut Picture::file);
            if unreadable {
                break;
            }
        }
        self.end(path.join(SAMPLES));
        Ok(())
    }

    fn published(&mut self, source: &Source, limit: usize) {
        self.survey.format = source.format().into();
        self.survey.files = source.files().map(Path::to_owned).collect();
        source.unreadable.iter().for_each(|error| self.problem(error));
        for (path, keys) in &source.others {
            let problem = format!("is left out: its first row has {keys}, which is not `{}`", source.format());
            (self.tell)(Finding::Warning(&DataError::NotADataset { path: path.clone(), problem }));
        }
        source.scan_at(&mut |row| {
            if self.survey.rows == limit {
                return ControlFlow::Break(());
            }
            let row = row.map(|(at, entry)| (source.place(at), entry));
            let mut read = None;
            self.row(row, &mut |picture| source.bytes(picture, &mut read));
            ControlFlow::Continue(())
        });
        self.end(source.path.clone());
    }

    fn end(&mut self, file: PathBuf) {
        if self.survey.rows == 0 {
            self.problem(&DataError::Empty { file });
        }
    }

    fn problem(&mut self, error: &DataError) {
        self.survey.problems += 1;
        (self.tell)(Finding::Problem(error));
    }

    fn row(&mut self, row: Result<(Place, Entry), DataError>, bytes: &mut Bytes<'_>) {
        self.survey.rows += 1;
        let (place, entry) = match row {
            Ok(row) => row,
            Err(error) => return self.problem(&error),
        };
        let mut images = Vec::new();
        for picture in entry.all_pictures() {
            match self.image(picture, bytes) {
                Ok(image) => images.push(image),
                Err(problem) => {
                    let problem = format!("image {:?}: {problem}", picture.name());
                    self.problem(&DataError::BadRow { place: place.clone(), problem });
                }
            }
        }
        if images.len() < entry.all_pictures().count() {
            return;
        }
        let shown = &images[..entry.pictures.len()];
        self.boxes(&place, &entry, shown);
        for problem in odd(&entry, &images, self.own) {
            (self.tell)(Finding::Warning(&DataError::BadRow { place: place.clone(), problem }));
        }
        let Survey { kinds, answers, images_a_row, .. } = &mut self.survey;
        *kinds.entry(entry.kind.clone()).or_default() += 1;
        *answers.entry(entry.answer.kind().to_owned()).or_default() += 1;
        *images_a_row.entry(images.len()).or_default() += 1;
        (self.tell)(Finding::Row(&entry, shown));
    }

    /// An image, decoded; a file that was counted before is not counted again.
    fn image(&mut self, picture: &Picture, bytes: &mut Bytes<'_>) -> Result<Arc<RgbImage>, String> {
        let file = if let Picture::File { path, .. } = picture { Some(path) } else { None };
        if let Some(Err(problem)) = file.and_then(|path| self.seen.get(path)) {
            return Err(problem.clone());
        }
        let read = bytes(picture).and_then(|bytes| {
            let image = picture::decode(&bytes).map_err(|error| error.to_string())?;
            Ok((image, bytes.len() as u64))
        });
        let size = read.as_ref().map(|(image, _)| image.dimensions()).map_err(String::clone);
        let known = file.is_some_and(|path| self.seen.insert(path.clone(), size).is_some());
        let (image, length) = read?;
        if !known {
            self.survey.images += 1;
            self.survey.bytes += length;
            self.measure(image.dimensions());
        }
        Ok(Arc::new(image))
    }

    fn measure(&mut self, size: (u32, u32)) {
        let pixels = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
        let [least, most] = self.survey.sizes.get_or_insert([size, size]);
        *least = if pixels(size) < pixels(*least) { size } else { *least };
        *most = if pixels(size) > pixels(*most) { size } else { *most };
    }

    fn boxes(&mut self, place: &Place, entry: &Entry, images: &[Arc<RgbImage>]) {
        for (nth, region) in entry.regions().enumerate() {
            self.survey.boxes += 1;
            let Some(image) = images.get(region.image.unwrap_or(images.len()).wrapping_sub(1)) else { continue };
            let (width, height) = image.dimensions();
            let (right, bottom) = match region.frame {
                BoxFrame::Unit => (1.0, 1.0),
                BoxFrame::Relative1000 => (1000.0, 1000.0),
                BoxFrame::Original | BoxFrame::Shown => (f64::from(width), f64::from(height)),
            };
            let [x1, y1, x2, y2] = region.corners;
            let problem = if x1 < 0.0 || y1 < 0.0 || x2 > right || y2 > bottom {
                format!("leaves the image of {width}×{height}")
            } else if x1 >= x2 || y1 >= y2 {
                "is not [x1, y1, x2, y2] with x1 < x2 and y1 < y2".to_owned()
            } else {
                continue;
            };
            let problem = format!("gold region {}: {:?} {problem}", nth + 1, region.corners);
            let error = DataError::BadRow { place: place.clone(), problem };
            if self.own { self.problem(&error) } else { (self.tell)(Finding::Warning(&error)) }
        }
    }
}

/// What a model may refuse of a row that is well made.
fn odd(entry: &Entry, images: &[Arc<RgbImage>], own: bool) -> Vec<String> {
    let narrow = images.iter().zip(1..).filter_map(|(image, nth)| {
        let (width, height) = image.dimensions();
        let is = u64::from(width.max(height)) > MAX_ASPECT_RATIO * u64::from(width.min(height));
        is.then(|| format!("image {nth} of {width}×{height}: Qwen2.5-VL is shown none with a side {MAX_ASPECT_RATIO} times the other"))
    });
    let texts = std::iter::once(&entry.question).chain(&entry.options);
    let marks = texts.filter_map(|text| {
        let at = text.find("<|")?;
        let end = text[at..].find("|>")? + 2;
        let mark = text.get(at..at + end)?;
        let is = mark.len() < 40 && !mark.contains(char::is_whitespace);
        is.then(|| {
            format!("the question has {mark}, which looks like a token of a chat template: it cannot be asked then")
        })
    });
    let untaught = trained_on(&entry.conversation, entry.all_pictures().count()).err();
    let untaught = untaught.filter(|_| !own && !entry.conversation.is_empty());
    let untaught = untaught.map(|problem| format!("the conversation cannot be trained on: {problem}"));
    narrow.chain(marks).chain(untaught).collect()
}

/// What is wrong with an answer of our own folder, by what the row says it is.
fn answer_problem(row: &Row) -> Option<String> {
    let RawRow { answer, meta, .. } = &row.raw;
    let elsewhere = |written: WrittenBox| {
        let image = written.image.filter(|image| !(1..=row.asked).contains(image))?;
        Some(format!("`answer` is on image {image}, which is none of the sample's {}", row.asked))
    };
    // Without a kind, what is written as a box is one.
    let Some(kind) = meta.rest.get("answer_kind") else { return WrittenBox::read(answer).and_then(elsewhere) };
    match kind.as_str() {
        Some("text") => None,
        Some("choice") => {
            let options = meta.rest.get("options").and_then(Value::as_array)?;
            let is =
                |(letter, option): (char, &Value)| answer.trim() == letter.to_string() || option == answer.as_str();
            let named = ('A'..='Z').zip(options).any(is);
            (!named).then(|| format!("`answer` {answer:?} is none of the {} options", options.len()))
        }
        Some("box") => match WrittenBox::read(answer) {
            None => Some(format!("`answer` {answer:?} is no box")),
            Some(written) => elsewhere(written),
        },
        _ => Some(format!("`answer_kind` {kind} is none of text, choice and box")),
    }
}

/// Whether a conversation with so many images can be trained on; else why not.
fn trained_on(turns: &[Turn], images: usize) -> Result<(), String> {
    Asked::of(turns, images)?.taught(turns).map(drop)
}

/// Why the conversation of a row of our own folder is none that can be trained on.
fn conversation_problem(raw: &RawRow) -> Option<String> {
    raw.meta.rest.get(CONVERSATION)?;
    let problem = match conversation(&raw.meta.rest) {
        Some(turns) => trained_on(&turns, raw.images.len()).err()?,
        None => "not a list of {role, content}".to_owned(),
    };
    Some(format!("`{CONVERSATION}`: {problem}"))
}
