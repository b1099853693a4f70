//! Why a record, a plot or a report could not be made.

use std::path::{Path, PathBuf};

/// An error of this crate; names the file and, where there is one, the line.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process writes to a file.
    #[error("{}: another process is writing to it", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A line of a JSON Lines file is not what it should be.
    #[error("{}, line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A JSON file is not what it should be.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An image could not be encoded.
    #[error("image {index}: {source}")]
    Image {
        /// Its shelf index.
        index: usize,
        /// What the codec says.
        source: image::ImageError,
    },
    /// A record names an image file outside its run folder.
    #[error("image file {file:?} is not inside the run folder")]
    Outside {
        /// The name, as recorded.
        file: String,
    },
    /// An event file is damaged.
    #[error("{}: damaged event file at byte {at}: {what}", path.display())]
    Events {
        /// The file.
        path: PathBuf,
        /// Where.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

impl AnalysisError {
    /// For `map_err` of a file operation.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// For `map_err` of reading or writing a JSON file.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Json { path, source }
    }
}
