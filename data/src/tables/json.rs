//! A JSON file that is a list of objects, or objects one after the other. The file is cut into rows by its brackets, so that one
//! row is in memory at a time, each has a line, and a row that is no object does not hide those after it. Rows that begin behind
//! another in its line are named by number: files are often one line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{CUT_OFF, MAX_ROW_BYTES, Row, Sink, Spot, Table, bytes_at, object};
use crate::error::DataError;

/// A `.json` file.
#[derive(Debug)]
pub(super) struct Json {
    pub(super) file: PathBuf,
}

/// What stands around the rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// Nothing was read yet.
    Unknown,
    /// `[`, rows between commas, `]`.
    List,
    /// Nothing: a row ends with its own bracket.
    Bare,
    /// The list is closed.
    Closed,
}

/// Cuts a stream of bytes into rows.
struct Cutter {
    frame: Frame,
    depth: usize,
    in_text: bool,
    escaped: bool,
    line: usize,
    at: u64,
    row: Vec<u8>,
    /// Where the row in the making, or the last one, begins; its length is not known yet.
    begin: Spot,
    /// How many rows have begun, and in which line the last one did.
    begun: usize,
    begun_in: usize,
    /// The last byte outside of rows was a comma.
    comma: bool,
}

impl Cutter {
    fn new() -> Self {
        Self {
            frame: Frame::Unknown,
            depth: 0,
            in_text: false,
            escaped: false,
            line: 1,
            at: 0,
            row: Vec::new(),
            begin: Spot { number: 1, is_line: true, start: 0, len: 0 },
            begun: 0,
            begun_in: 0,
            comma: false,
        }
    }

    /// Takes in one byte; true when it ends a row.
    fn take(&mut self, byte: u8) -> Result<bool, String> {
        let place = self.at;
        self.at += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        if self.in_text {
            self.row.push(byte);
            self.in_text = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return Ok(false);
        }
        let outside = self.depth == 0;
        if outside && byte.is_ascii_whitespace() && self.row.is_empty() {
            return Ok(false);
        }
        match (self.frame, byte) {
            (Frame::Unknown, b'[') => {
                self.frame = Frame::List;
                return Ok(false);
            }
            (Frame::Unknown, b'{') => self.frame = Frame::Bare,
            (Frame::Unknown, _) => return Err("neither a JSON list nor an object".into()),
            (Frame::Closed, _) => return Err("something stands after the end of the list".into()),
            (Frame::List, b',') if outside => {
                let ended = !self.row.is_empty();
                if !ended && (self.comma || self.begun == 0) {
                    return Err("a comma without a row before it".into());
                }
                self.comma = true;
                return Ok(ended);
            }
            (Frame::List, b']') if outside => {
                self.frame = Frame::Closed;
                return Ok(!self.row.is_empty());
            }
            _ => {}
        }
        if self.row.is_empty() {
            let is_line = self.begun_in != self.line;
            (self.begun, self.begun_in) = (self.begun + 1, self.line);
            let number = if is_line { self.line } else { self.begun };
            self.begin = Spot { number, is_line, start: place, len: 0 };
            self.comma = false;
        }
        self.row.push(byte);
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        Ok(self.frame == Frame::Bare && self.depth == 0)
    }

    /// Takes in what of `bytes` is inside a text and ends nothing; returns how many bytes that is.
    fn skim(&mut self, bytes: &[u8]) -> usize {
        if !self.in_text || self.escaped {
            return 0;
        }
        let plain = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).unwrap_or(bytes.len());
        self.row.extend_from_slice(&bytes[..plain]);
        self.at += plain as u64;
        plain
    }

    fn spot(&self) -> Spot {
        Spot { len: self.row.len(), ..self.begin }
    }

    /// The line read last, or the row that begins in it behind another.
    fn here(&self) -> Spot {
        let line = Spot { number: self.line, is_line: true, start: 0, len: 0 };
        if self.begun_in == self.line { self.begin } else { line }
    }

    /// What is wrong when the file ends here.
    fn unfinished(&self) -> Option<&'static str> {
        match self.frame {
            Frame::Unknown => None,
            _ if self.in_text || self.depth > 0 => Some(CUT_OFF),
            Frame::List => Some("the file ends before its list is closed"),
            Frame::Bare | Frame::Closed => None,
        }
    }
}

impl Json {
    fn row(&self, spot: Spot, bytes: &[u8]) -> Result<Row, DataError> {
        let cells = object(bytes).map_err(|problem| self.bad(spot, problem))?;
        Ok(Row { spot, cells })
    }

    fn cut(&self, cutter: &mut Cutter, bytes: &[u8], sink: &mut Sink<'_>) -> Result<ControlFlow<()>, DataError> {
        let mut at = 0;
        while at < bytes.len() {
            at += cutter.skim(&bytes[at..]);
            let Some(&byte) = bytes.get(at) else { break };
            at += 1;
            let ended = cutter.take(byte).map_err(|problem| self.bad(cutter.here(), problem))?;
            if cutter.row.len() > MAX_ROW_BYTES {
                return Err(self.bad(cutter.spot(), format!("the row has more than {MAX_ROW_BYTES} bytes")));
            }
            if ended {
                let row = self.row(cutter.spot(), &cutter.row);
                cutter.row.clear();
                if sink(row) == ControlFlow::Break(()) {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Table for Json {
    fn file(&self) -> &Path {
        &self.file
    }

    fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let file = File::open(&self.file).map_err(DataError::io("open", &self.file))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut cutter = Cutter::new();
        if reader.fill_buf().map_err(DataError::io("read", &self.file))?.starts_with(b"\xef\xbb\xbf") {
            reader.consume(3);
            cutter.at = 3;
        }
        loop {
            let bytes = reader.fill_buf().map_err(DataError::io("read", &self.file))?;
            let read = bytes.len();
            if read == 0 {
                break;
            }
            if self.cut(&mut cutter, bytes, sink)? == ControlFlow::Break(()) {
                return Ok(());
            }
            reader.consume(read);
        }
        if !cutter.row.is_empty() && !cutter.in_text && cutter.depth == 0 {
            // The list is cut off behind a whole row.
            if sink(self.row(cutter.spot(), &cutter.row)) == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        match cutter.unfinished() {
            Some(problem) => Err(self.bad(cutter.here(), problem)),
            None => Ok(()),
        }
    }

    fn again(&self, spot: Spot) -> Option<Result<Row, DataError>> {
        Some(bytes_at(&self.file, spot).and_then(|bytes| self.row(spot, &bytes)))
    }
}
