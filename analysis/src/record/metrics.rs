//! `metrics.jsonl`: one line a step. Times stand apart, so that the rest is the same on every rerun.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{JsonLines, append_line, claim, numbers};
use crate::error::AnalysisError;

/// One line of `metrics.jsonl`.
///
/// A value that is not finite is written as `null` and read as NaN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsRow {
    /// The training step, counted from 1; 0 is before training.
    pub step: usize,
    /// Values by name (`docs/metrics.md`): a function of config, data and seed.
    #[serde(default, deserialize_with = "numbers")]
    pub metrics: BTreeMap<String, f64>,
    /// Seconds by part of the step (`rollout`, `reward`, `score`, `update`): differ from run to run.
    #[serde(default, deserialize_with = "numbers", skip_serializing_if = "BTreeMap::is_empty")]
    pub seconds: BTreeMap<String, f64>,
}

/// Appends to `metrics.jsonl`, a whole line at a time. While it is open no other process can open it so.
///
/// ```
/// use imagent_analysis::{MetricsRow, MetricsWriter, read_metrics};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("metrics.jsonl");
/// let mut writer = MetricsWriter::open(&path)?;
/// writer.append(&MetricsRow { step: 1, metrics: [("loss".into(), 0.5)].into(), ..Default::default() })?;
/// assert_eq!(read_metrics(&path)?[0].metrics["loss"], 0.5);
/// # Ok::<(), imagent_analysis::AnalysisError>(())
/// ```
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
}

impl MetricsWriter {
    /// Opens the file to append, making it and its folder where needed; a line that a crash cut short is removed.
    ///
    /// # Errors
    /// When the file cannot be written, another process writes to it, or it holds a line that is not a [`MetricsRow`].
    pub fn open(path: &Path) -> Result<Self, AnalysisError> {
        let mut writer = Self { path: path.to_owned(), file: claim(path)? };
        writer.keep(|_| true)?;
        Ok(writer)
    }

    /// Appends one line.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, row: &MetricsRow) -> Result<(), AnalysisError> {
        append_line(&mut self.file, &self.path, row)
    }

    /// Removes everything after `step`, for a run that is resumed from that step's checkpoint.
    ///
    /// The bytes of the lines that stay are not touched.
    ///
    /// # Errors
    /// As [`MetricsWriter::open`].
    pub fn truncate_after(&mut self, step: usize) -> Result<(), AnalysisError> {
        self.keep(|row| row.step <= step)
    }

    /// Cuts the file before the first row that `wanted` rejects.
    fn keep(&mut self, wanted: impl Fn(&MetricsRow) -> bool) -> Result<(), AnalysisError> {
        let bytes = fs::read(&self.path).map_err(AnalysisError::io(&self.path))?;
        let mut kept = 0;
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            match serde_json::from_slice::<MetricsRow>(line) {
                _ if line.iter().all(u8::is_ascii_whitespace) => {}
                Ok(row) if wanted(&row) => {}
                Ok(_) => break,
                Err(_) if !line.ends_with(b"\n") => break,
                Err(source) => return Err(AnalysisError::Line { path: self.path.clone(), line: index + 1, source }),
            }
            kept += line.len();
        }
        self.cut(&bytes, kept).map_err(AnalysisError::io(&self.path))
    }

    fn cut(&mut self, bytes: &[u8], kept: usize) -> std::io::Result<()> {
        if kept < bytes.len() {
            self.file.set_len(kept as u64)?;
        }
        if kept > 0 && bytes[kept - 1] != b'\n' { self.file.write_all(b"\n") } else { Ok(()) }
    }
}

/// All rows of a `metrics.jsonl`, in the order of the file.
///
/// # Errors
/// When the file cannot be read, or a line (named) is not a [`MetricsRow`]. A last line that a crash cut short is
/// left out.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsRow>, AnalysisError> {
    JsonLines::open(path)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: usize, value: f64) -> MetricsRow {
        let metrics = [("loss".to_owned(), value)].into();
        MetricsRow { step, metrics, seconds: [("rollout".to_owned(), 0.25)].into() }
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/metrics.jsonl");
        (folder, path)
    }

    #[test]
    fn rows_come_back_as_written() {
        let (_folder, path) = file();
        let rows = [row(1, 0.5), row(2, -1e-9), row(3, 7.0)];
        let mut writer = MetricsWriter::open(&path).unwrap();
        rows.iter().for_each(|row| writer.append(row).unwrap());
        assert_eq!(read_metrics(&path).unwrap(), rows);
        let first = fs::read_to_string(&path).unwrap();
        let expected = r#"{"step":1,"metrics":{"loss":0.5},"seconds":{"rollout":0.25}}"#;
        assert_eq!(first.lines().next(), Some(expected));
    }

    #[test]
    fn values_that_are_not_finite_survive_as_nan() {
        let (_folder, path) = file();
        MetricsWriter::open(&path).unwrap().append(&row(1, f64::INFINITY)).unwrap();
        assert!(read_metrics(&path).unwrap()[0].metrics["loss"].is_nan());
    }

    #[test]
    fn resuming_cuts_later_rows_and_goes_on() {
        let (_folder, path) = file();
        let mut writer = MetricsWriter::open(&path).unwrap();
        (1..=5).for_each(|step| writer.append(&row(step, 0.1 * step as f64)).unwrap());
        let whole = fs::read(&path).unwrap();
        if cfg!(unix) {
            let busy = MetricsWriter::open(&path).unwrap_err().to_string();
            assert!(busy.ends_with("metrics.jsonl: another process is writing to it"), "{busy}");
        }
        drop(writer);
        let mut resumed = MetricsWriter::open(&path).unwrap();
        resumed.truncate_after(3).unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 3);
        (4..=5).for_each(|step| resumed.append(&row(step, 0.1 * step as f64)).unwrap());
        assert_eq!(fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn a_line_cut_short_is_dropped_and_a_whole_one_kept() {
        let (_folder, path) = file();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{\"step\":1,\"metrics\":{}}\n{\"step\":2,\"met").unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 1);
        MetricsWriter::open(&path).unwrap().append(&row(2, 1.0)).unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 2);
        fs::write(&path, "{\"step\":1,\"metrics\":{}}").unwrap();
        MetricsWriter::open(&path).unwrap().append(&row(2, 1.0)).unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 2);
    }

    #[test]
    fn a_bad_line_is_named() {
        let (_folder, path) = file();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{\"step\":1,\"metrics\":{}}\n\n{\"stepp\":2}\n").unwrap();
        for error in [read_metrics(&path).unwrap_err(), MetricsWriter::open(&path).unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("metrics.jsonl, line 3") && text.contains("stepp"), "{text}");
        }
    }
}
