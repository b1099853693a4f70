//! Lines of `samples.jsonl` to rows, each checked as far as can be without decoding an image.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use imagent_core::conversation::CONVERSATION;
use imagent_core::{Asked, Gold, Turn};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{DataError, without_line};
use crate::root::{Refused, Root};
use crate::tables::{CUT_OFF, Place, is_cut_off};

/// The file of a dataset folder that lists its samples.
pub const SAMPLES: &str = "samples.jsonl";
/// The kind of samples whose `meta` names none.
const DEFAULT_KIND: &str = "question";

/// A line as it stands in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(crate) struct RawRow {
    pub(crate) id: String,
    pub(crate) images: Vec<String>,
    pub(crate) question: String,
    pub(crate) answer: String,
    #[serde(default)]
    pub(crate) meta: RawMeta,
}

/// What a line says beyond the question, as it stands in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct RawMeta {
    #[serde(default = "default_kind")]
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zooms_needed: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gold: Vec<Gold>,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

impl RawMeta {
    /// The keys that `rest` must not have.
    pub(crate) const KNOWN: [&'static str; 3] = ["kind", "zooms_needed", "gold"];
}

impl Default for RawMeta {
    fn default() -> Self {
        Self { kind: default_kind(), zooms_needed: None, gold: Vec::new(), rest: Map::new() }
    }
}

fn default_kind() -> String {
    DEFAULT_KIND.into()
}

/// A line that passed.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) raw: RawRow,
    /// Positions in [`Rows::images`].
    pub(crate) images: Vec<usize>,
    /// How many of them the question is asked with; the others are of later turns of its conversation.
    pub(crate) asked: usize,
}

/// The conversation that a row's `meta` holds, if it is one.
pub(crate) fn conversation(meta: &Map<String, Value>) -> Option<Vec<Turn>> {
    Vec::deserialize(meta.get(CONVERSATION)?).ok()
}

/// With how many of its images a row's question is asked. A conversation that does not go with them is for fine-tuning to refuse.
pub(crate) fn asked(meta: &Map<String, Value>, images: usize) -> usize {
    let asked = conversation(meta).and_then(|turns| Asked::of(&turns, images).ok());
    asked.map_or(images, |asked| asked.images)
}

/// An image file that some line names.
#[derive(Debug)]
pub(crate) struct ImageFile {
    /// As the line writes it.
    pub(crate) name: String,
    /// Resolved, inside the root.
    pub(crate) path: PathBuf,
    /// The first line that names it.
    pub(crate) line: usize,
}

/// Reads rows one after the other and keeps what they share.
pub(crate) struct Rows {
    file: PathBuf,
    root: Root,
    reader: BufReader<File>,
    line: usize,
    ids: HashMap<String, usize>,
    known: HashMap<PathBuf, usize>,
    pub(crate) images: Vec<ImageFile>,
}

impl Rows {
    /// Opens the `samples.jsonl` of `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, DataError> {
        if !folder.is_dir() {
            return Err(DataError::NoFolder { path: folder.into() });
        }
        let file = folder.join(SAMPLES);
        if !file.is_file() {
            return Err(DataError::NoDataset { path: folder.into() });
        }
        let root = Root::open(folder).map_err(DataError::io("resolve", folder))?;
        let reader = BufReader::new(File::open(&file).map_err(DataError::io("open", &file))?);
        Ok(Self { file, root, reader, line: 0, ids: HashMap::new(), known: HashMap::new(), images: Vec::new() })
    }

    /// The `samples.jsonl`, for messages.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The line read last.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The next row; `None` at the end of the file. After a bad row the next call goes on behind it, except after
    /// [`DataError::Io`].
    pub(crate) fn next(&mut self) -> Option<Result<Row, DataError>> {
        loop {
            let mut bytes = Vec::new();
            match self.reader.read_until(b'\n', &mut bytes) {
                Err(error) => return Some(Err(DataError::io("read", &self.file)(error))),
                Ok(0) => return None,
                Ok(_) => self.line += 1,
            }
            if bytes.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Some(self.parse(&bytes));
            }
        }
    }

    fn parse(&mut self, bytes: &[u8]) -> Result<Row, DataError> {
        let (file, line) = (self.file.clone(), self.line);
        if is_cut_off(bytes) {
            let place = Place { file, number: line, is_line: true };
            return Err(DataError::Rest { place, problem: CUT_OFF.into() });
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return Err(DataError::NotText { file, line }) };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let raw: RawRow =
            serde_json::from_str(text).map_err(|error| DataError::Row { file, line, problem: without_line(&error) })?;
        let asked = asked(&raw.meta.rest, raw.images.len());
        self.check(&raw, asked)?;
        let images = raw.images.iter().map(|name| self.resolve(name)).collect::<Result<_, _>>()?;
        Ok(Row { raw, images, asked })
    }

    fn check(&mut self, raw: &RawRow, asked: usize) -> Result<(), DataError> {
        let (file, line) = (self.file.clone(), self.line);
        let texts = [("id", raw.id.trim()), ("question", raw.question.trim()), ("answer", raw.answer.trim())];
        let empty = texts.into_iter().find(|(_, text)| text.is_empty()).map(|(field, _)| field);
        if let Some(field) = empty.or(raw.images.is_empty().then_some("images")) {
            return Err(DataError::EmptyField { file, line, field });
        }
        if let Some(&first) = self.ids.get(&raw.id) {
            return Err(DataError::DuplicateId { file, line, id: raw.id.clone(), first });
        }
        self.ids.insert(raw.id.clone(), line);
        for (nth, gold) in raw.meta.gold.iter().enumerate() {
            gold_problem(gold, asked).map_or(Ok(()), |problem| {
                Err(DataError::Gold { file: file.clone(), line, number: nth + 1, problem })
            })?;
        }
        Ok(())
    }

    /// The image's position among all images, after checking that the file is there and inside the root.
    fn resolve(&mut self, name: &str) -> Result<usize, DataError> {
        let (file, line, image) = (self.file.clone(), self.line, name.to_owned());
        let relative = Path::new(name);
        if let Some(&known) = self.known.get(relative) {
            return Ok(known);
        }
        let path = match self.root.file(name) {
            Ok(path) => path,
            Err(Refused::Outside(problem)) => return Err(DataError::Outside { file, line, image, problem }),
            Err(Refused::Missing) => return Err(DataError::MissingImage { file, line, image }),
        };
        self.known.insert(relative.to_owned(), self.images.len());
        self.images.push(ImageFile { name: image, path, line });
        Ok(self.images.len() - 1)
    }
}

/// What is wrong with a gold region of a sample with this many images, as far as can be told without them.
pub(crate) fn gold_problem(gold: &Gold, images: usize) -> Option<String> {
    let edges = gold.bbox.to_array();
    if gold.image < 1 || gold.image > images {
        return Some(format!("image {} is none of the sample's {images}", gold.image));
    }
    if !edges.iter().all(|edge| edge.is_finite()) || gold.bbox.area() <= 0.0 {
        return Some(format!("{edges:?} is not [x1, y1, x2, y2] with x1 < x2 and y1 < y2"));
    }
    None
}
