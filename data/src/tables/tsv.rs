//! Cells between tabs, quoted as pandas writes them: a cell with a tab, a quote or a line break stands in double quotes, a quote
//! in it is doubled. The first row names the columns. Cells may have many megabytes.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use serde_json::{Map, Value};

use super::{CUT_OFF, MAX_ROW_BYTES, Row, Sink, Spot, Table, bytes_at};
use crate::error::DataError;

/// A `.tsv` file.
#[derive(Debug)]
pub(super) struct Tsv {
    file: PathBuf,
    columns: Vec<String>,
    /// Lines end in two bytes, of which the reader counts the second to the next line.
    crlf: bool,
}

/// Ends a row that has no end: a quote that is never closed would take in the rest of the file.
struct Bounded {
    file: File,
    since: Arc<AtomicUsize>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if self.since.fetch_add(read, Ordering::Relaxed) > MAX_ROW_BYTES {
            return Err(io::Error::other(format!("a row has more than {MAX_ROW_BYTES} bytes")));
        }
        Ok(read)
    }
}

fn builder() -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(b'\t').has_headers(false).flexible(true).buffer_capacity(1 << 16);
    builder
}

impl Tsv {
    /// Reads the names of the columns.
    pub(super) fn open(file: &Path) -> Result<Self, DataError> {
        let mut table = Self { file: file.into(), columns: Vec::new(), crlf: false };
        let (mut header, mut end) = (None, 0);
        table.records(&mut |spot, record| {
            header = Some(record.clone());
            end = spot.start + spot.len as u64;
            ControlFlow::Break(())
        })?;
        let behind = Spot { number: 2, is_line: true, start: end, len: 1 };
        table.crlf = bytes_at(file, behind).is_ok_and(|byte| byte == b"\n");
        let spot = Spot { number: 1, is_line: true, start: 0, len: 0 };
        let header = header.ok_or_else(|| table.bad(spot, "there is no row with the names of the columns"))?;
        for name in &header {
            let name = std::str::from_utf8(name).map_err(|_| table.bad(spot, "not UTF-8 text"))?;
            table.columns.push(name.strip_prefix('\u{feff}').unwrap_or(name).to_owned());
        }
        Ok(table)
    }

    fn records(&self, sink: &mut dyn FnMut(Spot, &ByteRecord) -> ControlFlow<()>) -> Result<(), DataError> {
        let file = File::open(&self.file).map_err(DataError::io("open", &self.file))?;
        let since = Arc::new(AtomicUsize::new(0));
        let mut reader = builder().from_reader(Bounded { file, since: Arc::clone(&since) });
        let mut record = ByteRecord::new();
        loop {
            since.store(0, Ordering::Relaxed);
            let (line, start) = (reader.position().line() as usize, reader.position().byte());
            let line = line + usize::from(self.crlf && start > 0);
            let spot = Spot { number: line, is_line: true, start, len: 0 };
            let more = reader.read_byte_record(&mut record).map_err(|error| self.csv_error(spot, error))?;
            let len = (reader.position().byte() - start) as usize;
            let blank = record.len() == 1 && record[0].is_empty();
            if !more || !blank && sink(Spot { len, ..spot }, &record) == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }

    /// Whether a bad row is the last one and not whole: its line or a quote in it is not ended.
    fn is_cut_off(&self, spot: Spot) -> bool {
        let is_last = std::fs::metadata(&self.file).is_ok_and(|file| file.len() <= spot.start + spot.len as u64);
        let ends = |bytes: Vec<u8>| {
            bytes.last() == Some(&b'\n') && bytes.iter().filter(|&&byte| byte == b'"').count().is_multiple_of(2)
        };
        is_last && bytes_at(&self.file, spot).is_ok_and(|bytes| !ends(bytes))
    }

    fn csv_error(&self, spot: Spot, error: csv::Error) -> DataError {
        match error.into_kind() {
            ErrorKind::Io(source) if source.kind() != io::ErrorKind::Other => DataError::io("read", &self.file)(source),
            ErrorKind::Io(source) => self.bad(spot, source.to_string()),
            other => self.bad(spot, format!("{other:?}")),
        }
    }

    fn row(&self, spot: Spot, record: &ByteRecord) -> Result<Row, DataError> {
        if record.len() != self.columns.len() {
            let problem = format!("{} cells in a table of {} columns", record.len(), self.columns.len());
            return Err(self.bad(spot, problem));
        }
        let mut cells = Map::new();
        for (name, cell) in self.columns.iter().zip(record) {
            let text = std::str::from_utf8(cell).map_err(|_| self.bad(spot, format!("`{name}` is not UTF-8 text")))?;
            cells.insert(name.clone(), cell_of(text));
        }
        Ok(Row { spot, cells })
    }
}

/// A cell is a text, or a list of texts or objects as JSON has it: names of images, a conversation. Lists of numbers are texts, such as
/// an option or a box.
fn cell_of(text: &str) -> Value {
    let list = Some(text).filter(|text| text.starts_with('[') && text.ends_with(']'));
    let list: Option<Vec<Value>> = list.and_then(|text| serde_json::from_str(text).ok());
    let is_list = |list: &Vec<Value>| !list.is_empty() && list.iter().all(|of| of.is_string() || of.is_object());
    list.filter(is_list).map_or_else(|| Value::from(text), Value::from)
}

impl Table for Tsv {
    fn file(&self) -> &Path {
        &self.file
    }

    fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let (mut header, mut cut_off) = (true, None);
        self.records(&mut |spot, record| {
            if std::mem::take(&mut header) {
                return ControlFlow::Continue(());
            }
            let row = self.row(spot, record);
            if row.is_err() && self.is_cut_off(spot) {
                cut_off = Some(spot);
                return ControlFlow::Break(());
            }
            sink(row)
        })?;
        cut_off.map_or(Ok(()), |spot| Err(self.bad(spot, CUT_OFF)))
    }

    fn again(&self, spot: Spot) -> Option<Result<Row, DataError>> {
        let read = || {
            let bytes = bytes_at(&self.file, spot)?;
            let mut record = ByteRecord::new();
            let mut reader = builder().from_reader(bytes.as_slice());
            reader.read_byte_record(&mut record).map_err(|error| self.csv_error(spot, error))?;
            self.row(spot, &record)
        };
        Some(read())
    }
}
