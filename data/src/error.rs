//! The one error of the crate: each variant names the file, line or key at fault.

use std::io;
use std::path::{Path, PathBuf};

use crate::tables::Place;

/// Why data could not be made, read or written. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A trajectory could not be written anew.
    #[error("sample {id:?}: cannot be rewritten: {problem}")]
    Rewrite {
        /// The sample.
        id: String,
        /// Why.
        problem: String,
    },
    /// A config value out of its range.
    #[error("`{key}`: {problem}")]
    Config {
        /// The key, dotted as in the config.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// The operating system refused.
    #[error("{path}: cannot {action}", path = path.display())]
    Io {
        /// What was tried: "open", "create" …
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder does not exist, or is none.
    #[error("{path}: no such folder", path = path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has no `samples.jsonl`.
    #[error("{path}: not a dataset folder, it has no samples.jsonl", path = path.display())]
    NoDataset {
        /// The folder.
        path: PathBuf,
    },
    /// There is no sample.
    #[error("{file}: the dataset is empty", file = file.display())]
    Empty {
        /// The `samples.jsonl`.
        file: PathBuf,
    },
    /// No sample of a dataset got a trajectory.
    #[error("no trajectory is left of {read} samples; rejected: {rejected}")]
    AllRejected {
        /// Samples.
        read: usize,
        /// How many for which reason.
        rejected: String,
    },
    /// A line is not UTF-8.
    #[error("{file}:{line}: not UTF-8 text", file = file.display())]
    NotText {
        /// The `samples.jsonl`.
        file: PathBuf,
        /// The line.
        line: usize,
    },
    /// A line is not a JSON object with the keys of a sample.
    #[error("{file}:{line}: {problem}", file = file.display())]
    Row {
        /// The `samples.jsonl`.
        file: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong: a missing, unknown or mistyped field, or where the JSON breaks off.
        problem: String,
    },
    /// A required text is empty.
    #[error("{file}:{line}: `{field}` is empty", file = file.display())]
    EmptyField {
        /// The `samples.jsonl`.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The field; `images` when a sample has none.
        field: &'static str,
    },
    /// Two samples have the same id.
    #[error("{file}:{line}: id {id:?} is that of line {first} already", file = file.display())]
    DuplicateId {
        /// The `samples.jsonl`.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The id.
        id: String,
        /// The line that has it too.
        first: usize,
    },
    /// A gold region that names no image, or no region.
    #[error("{file}:{line}: gold region {number}: {problem}", file = file.display())]
    Gold {
        /// The `samples.jsonl`.
        file: PathBuf,
        /// The line.
        line: usize,
        /// Which region of the sample, counted from 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// An image path that is absolute, climbs with `..`, or leads out of the dataset's root by a link.
    #[error("{file}:{line}: image {image:?} is not inside the dataset: {problem}", file = file.display())]
    Outside {
        /// The `samples.jsonl`.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The path as written.
        image: String,
        /// In which way it is not.
        problem: &'static str,
    },
    /// An image file does not exist, or is not a file.
    #[error("{file}:{line}: image {image:?} does not exist", file = file.display())]
    MissingImage {
        /// The `samples.jsonl`.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The path as written.
        image: String,
    },
    /// An image file cannot be decoded.
    #[error("{file}:{line}: image {image:?}: {problem}", file = file.display())]
    BadImage {
        /// The `samples.jsonl`.
        file: PathBuf,
        /// The first line that uses it.
        line: usize,
        /// The path as written.
        image: String,
        /// Why not.
        problem: String,
    },
    /// A row of a published format that is wrong, or an image of it.
    #[error("{place}: {problem}")]
    BadRow {
        /// File and line, or file and row.
        place: Place,
        /// What is wrong.
        problem: String,
    },
    /// The same, and what comes after the row in its file cannot be read.
    #[error("{place}: {problem}; no row after it can be read")]
    Rest {
        /// File and line, or file and row.
        place: Place,
        /// What is wrong.
        problem: String,
    },
    /// A folder or file that is no dataset of a known format.
    #[error("{path}: {problem}", path = path.display())]
    NotADataset {
        /// The folder or file.
        path: PathBuf,
        /// Why not, and what to do.
        problem: String,
    },
    /// A position at or above the number of samples.
    #[error("{file}: no sample at position {position}, there are {samples}", file = file.display())]
    NoSample {
        /// The `samples.jsonl`.
        file: PathBuf,
        /// The position, counted from 0.
        position: usize,
        /// How many there are.
        samples: usize,
    },
    /// A sample that a dataset folder cannot hold.
    #[error("sample {id:?}: {problem}")]
    Unwritable {
        /// The sample's id.
        id: String,
        /// Why not.
        problem: String,
    },
    /// The target folder has other content.
    #[error("{path}: holds something else already, choose another folder or remove it", path = path.display())]
    Occupied {
        /// The target folder.
        path: PathBuf,
    },
    /// The target folder holds a synthetic dataset of another config.
    #[error("{path}: holds a dataset made with another `{key}` ({found}, not {wanted})", path = path.display())]
    OtherDataset {
        /// The target folder.
        path: PathBuf,
        /// The first key that differs.
        key: String,
        /// Its value there.
        found: String,
        /// Its value in this config.
        wanted: String,
    },
}

impl DataError {
    /// Whether a single row is at fault, and all others can be read.
    pub const fn is_of_one_row(&self) -> bool {
        matches!(
            self,
            Self::NotText { .. }
                | Self::Row { .. }
                | Self::EmptyField { .. }
                | Self::DuplicateId { .. }
                | Self::Gold { .. }
                | Self::Outside { .. }
                | Self::MissingImage { .. }
                | Self::BadImage { .. }
                | Self::BadRow { .. }
                | Self::Unwritable { .. }
        )
    }

    /// For `map_err`: what was tried, and on what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The parser's message with the column only, as its line is always 1; a name that it quotes may hold line breaks.
pub fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string().replace('\n', "\\n").replace('\r', "\\r");
    match text.rfind(" at line ") {
        Some(end) => format!("{} (column {})", &text[..end], error.column()),
        None => text,
    }
}
