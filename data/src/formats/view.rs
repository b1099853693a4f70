//! A row as a format sees it: cells by name, images found, errors that name the row.

use std::path::Path;

use serde_json::{Map, Value};

use super::entry::{Answer, Entry, Picture};
use super::text::{letter, to_position, unmark, without_letter};
use crate::error::DataError;
use crate::root::{Refused, Root};
use crate::tables::{CellPath, Place, Row, Spot, within};

/// Endings of image files, by which a path is told from base64.
const IMAGES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// Longer texts are no paths.
const LONGEST_PATH: usize = 4096;

/// A row, and where it is from.
pub(crate) struct View<'a> {
    pub(crate) row: &'a Row,
    pub(crate) place: Place,
    /// Which table of the dataset.
    pub(crate) table: usize,
    /// The table's path from the root, without its ending.
    pub(crate) stem: &'a str,
    /// Position of the row in its table, counted from 0.
    pub(crate) nth: usize,
    pub(crate) root: &'a Root,
    /// The table's folder from the root.
    pub(crate) below: &'a Path,
    /// Archives in the dataset's folder.
    pub(crate) archives: &'a [String],
}

impl View<'_> {
    pub(crate) fn bad(&self, problem: impl Into<String>) -> DataError {
        DataError::BadRow { place: self.place.clone(), problem: problem.into() }
    }

    fn spot(&self) -> Spot {
        self.row.spot
    }

    /// The cell, unless it is not there or null.
    pub(crate) fn cell(&self, key: &str) -> Option<&Value> {
        self.row.cells.get(key).filter(|value| !value.is_null())
    }

    /// A cell of text or a number, as text; `None` where it is missing, null or blank.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        plain(self.cell(key)?)
    }

    /// The same for a cell that must be there.
    pub(crate) fn need(&self, key: &str) -> Result<String, DataError> {
        self.text(key).ok_or_else(|| self.bad(format!("`{key}` is missing or empty")))
    }

    /// A list; a single value counts as a list of it.
    pub(crate) fn list(&self, key: &str) -> Vec<&Value> {
        match self.cell(key) {
            None => Vec::new(),
            Some(Value::Array(list)) => list.iter().collect(),
            Some(one) => vec![one],
        }
    }

    /// The options of a column: texts, numbers and truth values. None may be missing before the last, as letters count them.
    pub(crate) fn options(&self, key: &str) -> Result<Vec<String>, DataError> {
        let is_blank = |value: &Value| value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        let mut list = self.list(key);
        list.truncate(list.iter().rposition(|value| !is_blank(value)).map_or(0, |last| last + 1));
        let option = |(value, letter): (&Value, char)| {
            plain(value).ok_or_else(|| self.bad(format!("option {letter} of `{key}` is blank or no text: {value}")))
        };
        list.into_iter().zip('A'..='Z').map(option).collect()
    }

    /// The named cells that are there, for `meta`; images are left out.
    pub(crate) fn meta(&self, keys: &[&str]) -> Map<String, Value> {
        keys.iter().filter_map(|key| Some(((*key).to_owned(), self.cell(key)?.clone()))).collect()
    }

    /// An entry with what all formats have alike: the id, and the kind `question`.
    pub(crate) fn entry(&self, pictures: Vec<Picture>, question: String, answer: Answer) -> Entry {
        Entry {
            id: format!("{}-{:06}", self.stem, self.nth),
            pictures,
            later_pictures: Vec::new(),
            question,
            options: Vec::new(),
            answer,
            kind: "question".into(),
            zooms_needed: None,
            gold: Vec::new(),
            conversation: Vec::new(),
            meta: Map::new(),
        }
    }

    /// A multiple choice: options lose their own letters, the answer is a letter of one of them.
    pub(crate) fn choice(
        &self,
        pictures: Vec<Picture>,
        question: String,
        options: Vec<String>,
        answer: &str,
    ) -> Result<Entry, DataError> {
        let options: Vec<String> = options.iter().enumerate().map(|(nth, text)| without_letter(text, nth)).collect();
        let gold =
            letter(answer).ok_or_else(|| self.bad(format!("the answer {answer:?} is no letter of an option")))?;
        if to_position(gold) >= options.len() {
            return Err(self.bad(format!("the answer {gold} is none of the {} options", options.len())));
        }
        let mut entry = self.entry(pictures, question, Answer::Choice(gold));
        entry.options = options;
        Ok(entry)
    }

    /// Checks what every entry must have, and takes image markers out of question and options.
    pub(crate) fn finish(&self, mut entry: Entry) -> Result<Entry, DataError> {
        if entry.pictures.is_empty() {
            return Err(self.bad("it has no image"));
        }
        let images = entry.pictures.len();
        let mut texts: Vec<&mut String> = std::iter::once(&mut entry.question).chain(&mut entry.options).collect();
        unmark(&mut texts, images).map_err(|problem| self.bad(problem))?;
        if entry.question.is_empty() {
            return Err(self.bad("the question is empty"));
        }
        if matches!(&entry.answer, Answer::Text(text) if text.trim().is_empty()) {
            return Err(self.bad("the answer is empty"));
        }
        match entry.box_elsewhere() {
            Some(image) => Err(self.bad(format!("a box is on image {image}, there are {images}"))),
            None => Ok(entry),
        }
    }

    /// The images of a column: one, or a list of them.
    pub(crate) fn pictures(&self, column: &str) -> Result<Vec<Picture>, DataError> {
        match self.cell(column) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => {
                let each = list.iter().enumerate();
                each.map(|(nth, value)| self.picture(value, column, Some(nth))).collect()
            }
            Some(one) => Ok(vec![self.picture(one, column, None)?]),
        }
    }

    /// An image as it is written: a path, base64, an address of its data, or an object with one of these.
    pub(crate) fn picture(&self, value: &Value, column: &str, nth: Option<usize>) -> Result<Picture, DataError> {
        let cell = |path| Picture::Cell {
            table: self.table,
            spot: self.spot(),
            cell: CellPath { column: column.into(), nth },
            path,
        };
        match value {
            Value::Bool(true) => Ok(cell(None)),
            Value::String(text) if is_path(text) => self.file(text),
            Value::String(text) if is_address(text) => {
                Err(self.bad(format!("image {text:?} is an address; only files of the dataset are read")))
            }
            // A file whose name does not say that it is an image.
            Value::String(text) if text.len() < LONGEST_PATH && resolve(self.root, self.below, text).is_ok() => {
                self.file(text)
            }
            Value::String(text) if !text.trim().is_empty() => Ok(cell(None)),
            Value::Object(object) => match within(value) {
                Some(("bytes", _)) => Ok(cell(object.get("path").and_then(Value::as_str).map(str::to_owned))),
                Some((_, inner)) => self.picture(inner, column, nth),
                None => Err(self.bad(format!("`{column}` has an image without content"))),
            },
            _ => Err(self.bad(format!("`{column}` has an image without content"))),
        }
    }

    /// A file that the row names: from the table's folder, from the dataset's, or from above that.
    pub(crate) fn file(&self, name: &str) -> Result<Picture, DataError> {
        resolve(self.root, self.below, name)
            .map(|path| Picture::File { name: name.into(), path })
            .map_err(|refused| self.bad(missing(name, refused, self.archives)))
    }
}

/// The file that a name stands for. Names often begin above the dataset's folder: `./MIG-Bench/images/…` in `MIG-Bench/`.
pub(crate) fn resolve(root: &Root, below: &Path, name: &str) -> Result<std::path::PathBuf, Refused> {
    // Beside the table first, so that the dataset is the same whether its folder is opened or one above it.
    let beside = root.file_below(below, name);
    let Err(Refused::Missing) = beside else { return beside };
    let from_root = root.file(name);
    let Err(Refused::Missing) = from_root else { return from_root };
    let parts: Vec<&str> = name.split('/').collect();
    let own = root.path().file_name().and_then(|own| own.to_str());
    let folder = parts.iter().rposition(|part| Some(*part) == own);
    folder.map_or(Err(Refused::Missing), |at| root.file(&parts[at + 1..].join("/")))
}

/// What is said of an image file that is refused.
pub(crate) fn missing(name: &str, refused: Refused, archives: &[String]) -> String {
    match refused {
        Refused::Outside(problem) => format!("image {name:?} is not inside the dataset: {problem}"),
        Refused::Missing => match archives.first() {
            Some(archive) => {
                format!("image {name:?} does not exist; {archive} is an archive that has to be unpacked first")
            }
            None => format!("image {name:?} does not exist"),
        },
    }
}

/// A text or number as text, unless it is blank.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

fn is_address(text: &str) -> bool {
    ["http://", "https://", "s3://", "gs://"].iter().any(|scheme| text.starts_with(scheme))
}

/// Whether a text is the path of an image file, and not base64.
fn is_path(text: &str) -> bool {
    let ending = text.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    text.len() < LONGEST_PATH && !is_address(text) && ending.is_some_and(|ending| IMAGES.contains(&ending.as_str()))
}
