//! Published formats of datasets, each as rows that become [`Entry`]s, and our own folder among them.
//!
//! A format is a line in [`FORMATS`]: a name, the columns that tell it, and a function from a row to an entry. It does not know
//! how the rows are stored: the same columns may come as JSON, JSON lines, tsv or parquet ([`crate::tables`]).
//!
//! * [`entry`]: what every format comes to;
//! * `view`: a row as a format sees it; `text`: what formats write into texts;
//! * [`source`]: from a path to format and tables, and all rows in a stream;
//! * [`reader`]: rows by position, as samples;
//! * [`mod@survey`]: what a dataset holds, and everything that is wrong with it; [`mod@import`]: any format to our own folder;
//! * [`preview`]: a contact sheet.

mod benchmarks;
mod conversation;
pub mod entry;
mod hrbench;
pub mod import;
mod mig_bench;
mod mme_realworld;
pub mod preview;
pub mod reader;
pub mod source;
pub mod survey;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod verl;
pub(crate) mod view;
mod vstar;

pub use entry::{Answer, Entry, Picture, Region};
pub use import::import;
pub use preview::Preview;
pub use reader::{BadRow, Published, Reader, open, open_without};
pub use source::Source;
pub use survey::{Finding, Survey, survey};

use crate::error::DataError;
use view::View;

/// The name of our own folder's format.
pub const FOLDER: &str = "folder";

/// Which part of what a path holds is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Select<'a> {
    /// The name of the format; `None` takes the one that fits.
    pub format: Option<&'a str>,
    /// What the names of the tables, or of their folders, begin with, such as `train`; `None` takes all, unless they are of several
    /// splits.
    pub split: Option<&'a str>,
    /// Reads only so many rows from the front; `None` reads all.
    pub limit: Option<usize>,
}

/// A published format.
pub struct Format {
    /// Its name in configs.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// The columns that tell it, for messages.
    pub needs: &'static str,
    /// Whether a table, by its path from the root and the columns of its first row, is of this format.
    fits: fn(&str, &Keys) -> bool,
    /// A row to an entry.
    read: fn(&View<'_>) -> Result<Entry, DataError>,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The columns of a table.
struct Keys(Vec<String>);

impl Keys {
    fn has(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.0.iter().any(|own| own == key))
    }
}

/// All published formats. Where a table fits several, the first one counts.
pub const FORMATS: [&Format; 13] = [
    &vstar::ANNOTATIONS,
    &mig_bench::FORMAT,
    &mme_realworld::FORMAT,
    &hrbench::FORMAT,
    &vstar::QUESTIONS,
    &benchmarks::MMIU,
    &benchmarks::MUIRBENCH,
    &benchmarks::MANTIS,
    &benchmarks::BLINK,
    &verl::FORMAT,
    &conversation::MGROUNDING,
    &conversation::SHAREGPT,
    &conversation::OPENAI,
];

/// The format of this name; `None` is our own folder's.
///
/// # Errors
/// When there is none; names those that are.
pub fn named(name: &str) -> Result<Option<&'static Format>, DataError> {
    if name == FOLDER {
        return Ok(None);
    }
    FORMATS.into_iter().find(|format| format.name == name).map(Some).ok_or_else(|| {
        let known: Vec<&str> = std::iter::once(FOLDER).chain(FORMATS.iter().map(|format| format.name)).collect();
        DataError::Config { key: "format".into(), problem: format!("{name:?} is none of {}", known.join(", ")) }
    })
}
