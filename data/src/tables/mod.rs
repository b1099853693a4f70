//! Tables: files of rows, each row an object of named cells, whatever the file's format.
//!
//! A table is streamed from the front, one row in memory at a time, and a row can be read again by its [`Spot`]. Cells that hold
//! whole images are left where they are until asked for.
//!
//! * `json`: a list of objects, or objects one after the other; `lines`: an object a line;
//! * `tsv`: cells between tabs, quoted as pandas does;
//! * `parquet`: columns by row groups; its image columns are skipped when rows are streamed.

mod json;
mod lines;
mod parquet;
mod tsv;

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::DataError;

/// Most bytes of one row in a text file.
pub const MAX_ROW_BYTES: usize = 1 << 30;

/// Where a row stands in its file, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line that the row starts in, counted from 1; or the row, in a file without lines, or where another one starts before it
    /// in the same line.
    pub number: usize,
    /// Whether `number` is that of a line.
    pub is_line: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.file.display(), if self.is_line { "" } else { "row " }, self.number)
    }
}

/// Keys of objects under which an image's file stands, as it is, in base64 or by name; those that are taken first in front.
pub(crate) const IMAGE_KEYS: [&str; 5] = ["bytes", "path", "image", "image_url", "url"];

/// What an object holds as an image, and under which key.
pub(crate) fn within(object: &Value) -> Option<(&'static str, &Value)> {
    let holds = |value: &Value| match value {
        Value::String(text) => !text.trim().is_empty(),
        Value::Object(_) => within(value).is_some(),
        Value::Bool(there) => *there,
        _ => false,
    };
    IMAGE_KEYS.into_iter().find_map(|key| Some((key, object.get(key).filter(|value| holds(value))?)))
}

/// Where a row can be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spot {
    /// The row's line or number, as in its [`Place`].
    pub(crate) number: usize,
    pub(crate) is_line: bool,
    /// The first byte of the row; in a file of columns, the row counted from 0.
    pub(crate) start: u64,
    /// How many bytes it has.
    pub(crate) len: usize,
}

/// A cell within a row: a column, and which element where the column holds lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CellPath {
    /// The column, or a path of keys and positions with `/` between.
    pub column: String,
    /// The element, counted from 0.
    pub nth: Option<usize>,
}

/// What a cell holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Text, base64 where the cell is an image.
    Text(String),
}

/// A row. An image cell that was left in the file is `true`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) spot: Spot,
    pub(crate) cells: Map<String, Value>,
}

impl Row {
    /// The text of an image cell.
    fn image(&self, path: &CellPath) -> Option<&str> {
        let mut value = match self.cells.get(&path.column) {
            Some(cell) => cell,
            None => {
                let (column, inner) = path.column.split_once('/')?;
                self.cells.get(column)?.pointer(&format!("/{inner}"))?
            }
        };
        if let Some(nth) = path.nth {
            value = value.get(nth)?;
        }
        while let Some((_, inner)) = within(value) {
            value = inner;
        }
        value.as_str()
    }
}

/// What a row is handed to; a row that cannot be read is told from the end of what can be.
pub(crate) type Sink<'a> = dyn FnMut(Result<Row, DataError>) -> ControlFlow<()> + 'a;

/// A file of rows.
pub(crate) trait Table: fmt::Debug + Send + Sync {
    /// The file.
    fn file(&self) -> &Path;

    /// Hands on all rows in order, bad ones as errors, until the sink breaks off.
    ///
    /// # Errors
    /// What ends the table before its last row.
    fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError>;

    /// [`Self::read`], with what ends the table early as its last row.
    fn stream(&self, sink: &mut Sink<'_>) {
        if let Err(error) = self.read(sink) {
            let _ = sink(Err(match error {
                DataError::BadRow { place, problem } => DataError::Rest { place, problem },
                error => error,
            }));
        }
    }

    /// Whether rows are dear to read again, and to be kept from the stream.
    fn is_dear(&self) -> bool {
        false
    }

    /// A row again, from its bytes; `None` where that is dear.
    fn again(&self, spot: Spot) -> Option<Result<Row, DataError>>;

    /// A cell that is an image; `None` where it is null. `read` holds what was read for the last cell, of this table: the images of a
    /// row may be many.
    fn cell(&self, spot: Spot, path: &CellPath, read: &mut Option<Row>) -> Result<Option<Cell>, DataError> {
        let row = match read.take().filter(|row| row.spot == spot) {
            Some(row) => row,
            None => match self.again(spot) {
                Some(row) => row?,
                None => return Ok(None),
            },
        };
        let found = row.image(path).filter(|text| !text.is_empty()).map(|text| Cell::Text(text.to_owned()));
        *read = Some(row);
        Ok(found)
    }

    /// The row's place.
    fn place(&self, spot: Spot) -> Place {
        Place { file: self.file().into(), number: spot.number, is_line: spot.is_line }
    }

    /// An error that names the row.
    fn bad(&self, spot: Spot, problem: impl Into<String>) -> DataError
    where
        Self: Sized,
    {
        DataError::BadRow { place: self.place(spot), problem: problem.into() }
    }
}

/// Endings of the names of tables, those to prefer where a dataset comes in several first.
pub(crate) const ENDINGS: [&str; 4] = ["parquet", "tsv", "jsonl", "json"];

/// The table in a file, by the ending of its name; `None` where it is no table.
pub(crate) fn open(file: &Path) -> Option<Result<Box<dyn Table>, DataError>> {
    let ending = file.extension()?.to_str()?.to_ascii_lowercase();
    Some(match ending.as_str() {
        "parquet" => parquet::Parquet::open(file).map(|table| Box::new(table) as Box<dyn Table>),
        "tsv" => tsv::Tsv::open(file).map(|table| Box::new(table) as Box<dyn Table>),
        "jsonl" => Ok(Box::new(lines::Lines { file: file.into() })),
        "json" => Ok(Box::new(json::Json { file: file.into() })),
        _ => return None,
    })
}

/// What is said of a file whose last row is not whole.
pub(crate) const CUT_OFF: &str = "the file ends within a row";

/// Whether the bytes of a last line are JSON that breaks off.
pub(crate) fn is_cut_off(bytes: &[u8]) -> bool {
    let whole = serde_json::from_slice::<serde::de::IgnoredAny>(bytes);
    bytes.last() != Some(&b'\n') && whole.is_err_and(|error| error.is_eof())
}

/// Bytes of a text row to its cells.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    if std::str::from_utf8(bytes).is_err() {
        return Err("not UTF-8 text".into());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(cells)) => Ok(cells),
        Ok(_) => Err("not a JSON object".into()),
        Err(error) => Err(crate::error::without_line(&error)),
    }
}

/// The bytes of a row, read again.
fn bytes_at(file: &Path, spot: Spot) -> Result<Vec<u8>, DataError> {
    use std::io::{Read, Seek, SeekFrom};
    let mut opened = std::fs::File::open(file).map_err(DataError::io("open", file))?;
    opened.seek(SeekFrom::Start(spot.start)).map_err(DataError::io("read", file))?;
    let mut bytes = vec![0; spot.len];
    opened.read_exact(&mut bytes).map_err(DataError::io("read", file))?;
    Ok(bytes)
}
