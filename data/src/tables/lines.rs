//! JSON lines: an object a line. A line that is none does not hide those after it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{CUT_OFF, MAX_ROW_BYTES, Row, Sink, Spot, Table, bytes_at, is_cut_off, object};
use crate::error::DataError;

/// A `.jsonl` file.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) file: PathBuf,
}

impl Lines {
    fn row(&self, spot: Spot, bytes: &[u8]) -> Result<Row, DataError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let cells = object(bytes).map_err(|problem| self.bad(spot, problem))?;
        Ok(Row { spot, cells })
    }
}

impl Table for Lines {
    fn file(&self) -> &Path {
        &self.file
    }

    fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let mut reader = BufReader::new(File::open(&self.file).map_err(DataError::io("open", &self.file))?);
        let (mut bytes, mut start) = (Vec::new(), 0);
        for number in 1.. {
            bytes.clear();
            let limit = MAX_ROW_BYTES as u64 + 1;
            let len =
                reader.by_ref().take(limit).read_until(b'\n', &mut bytes).map_err(DataError::io("read", &self.file))?;
            let spot = Spot { number, is_line: true, start, len };
            if len == 0 {
                break;
            }
            if len > MAX_ROW_BYTES {
                return Err(self.bad(spot, format!("the line has more than {MAX_ROW_BYTES} bytes")));
            }
            start += len as u64;
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if is_cut_off(&bytes) {
                return Err(self.bad(spot, CUT_OFF));
            }
            if sink(self.row(spot, &bytes)) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn again(&self, spot: Spot) -> Option<Result<Row, DataError>> {
        Some(bytes_at(&self.file, spot).and_then(|bytes| self.row(spot, &bytes)))
    }
}
