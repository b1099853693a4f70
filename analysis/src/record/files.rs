//! Files that are whole or absent, and JSON Lines that say which line is wrong.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};

use crate::error::AnalysisError;

/// Writes a file so that a reader finds the old or the new content, never a part; makes its folder. A link stays, and what it leads to is
/// written; a device or a pipe takes the bytes as they come.
///
/// # Errors
/// When the folder or the file cannot be written.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<(), AnalysisError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(AnalysisError::io(folder))?;
    }
    let io = AnalysisError::io(path);
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(content)).map_err(io);
    }
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, &target));
    written.map_err(|source| {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&temporary);
        io(source)
    })
}

/// Whether a file can be written, before there is anything to write: nothing is changed.
///
/// # Errors
/// When it is a folder, or lies where nothing can be written.
pub fn check_target(path: &Path) -> Result<(), AnalysisError> {
    if path.is_dir() {
        return Err(AnalysisError::io(path)(std::io::ErrorKind::IsADirectory.into()));
    }
    let above = path.ancestors().skip(1).map(|folder| if folder == Path::new("") { Path::new(".") } else { folder });
    let Some(folder) = above.into_iter().find(|folder| folder.exists()) else { return Ok(()) };
    let trial = folder.join(format!(".imagent-{}.tmp", std::process::id()));
    File::create_new(&trial).and_then(|_| fs::remove_file(&trial)).map_err(AnalysisError::io(path))
}

/// Reads a JSON Lines file one value at a time; blank lines are passed over.
///
/// A last line without a line end that does not parse is one that was being written when the run stopped: it is left
/// out. Any other line that does not parse is an error.
pub(crate) struct JsonLines<T> {
    path: PathBuf,
    reader: BufReader<File>,
    line: usize,
    kind: PhantomData<T>,
}

impl<T: DeserializeOwned> JsonLines<T> {
    pub(crate) fn open(path: &Path) -> Result<Self, AnalysisError> {
        let reader = BufReader::new(File::open(path).map_err(AnalysisError::io(path))?);
        Ok(Self { path: path.to_owned(), reader, line: 0, kind: PhantomData })
    }

    fn read(&mut self) -> Result<Option<T>, AnalysisError> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.line += 1;
            let read = self.reader.read_until(b'\n', &mut bytes).map_err(AnalysisError::io(&self.path))?;
            if read == 0 {
                return Ok(None);
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(_) if bytes.last() != Some(&b'\n') => Ok(None),
            Err(source) => Err(AnalysisError::Line { path: self.path.clone(), line: self.line, source }),
        }
    }
}

impl<T: DeserializeOwned> Iterator for JsonLines<T> {
    type Item = Result<T, AnalysisError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// All values of a JSON Lines file; a last line that was cut short is left out.
///
/// # Errors
/// When the file cannot be read, or a line (named) is not such a value.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, AnalysisError> {
    JsonLines::open(path)?.collect()
}

fn open_to_append(path: &Path) -> Result<File, AnalysisError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(AnalysisError::io(folder))?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(AnalysisError::io(path))
}

/// Opens a file to append, making it and its folder where needed, and keeps other processes from doing so until it is closed.
pub(super) fn claim(path: &Path) -> Result<File, AnalysisError> {
    let file = open_to_append(path)?;
    // A lock of Windows would keep others from reading.
    if cfg!(unix) {
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => AnalysisError::Busy { path: path.to_owned() },
            TryLockError::Error(source) => AnalysisError::Io { path: path.to_owned(), source },
        })?;
    }
    Ok(file)
}

/// Appends a value as one line.
pub(super) fn append_line(file: &mut File, path: &Path, value: &impl Serialize) -> Result<(), AnalysisError> {
    let mut line = serde_json::to_vec(value).map_err(AnalysisError::json(path))?;
    line.push(b'\n');
    file.write_all(&line).map_err(AnalysisError::io(path))
}

/// Appends values to a JSON Lines file, a whole line at a time. While it is open no other process can open it so.
#[derive(Debug)]
pub struct LinesWriter {
    path: PathBuf,
    file: File,
}

impl LinesWriter {
    /// Opens the file to append, making it and its folder where needed; a last line without a line end is removed.
    ///
    /// # Errors
    /// When the file cannot be written, or another process writes to it.
    pub fn open(path: &Path) -> Result<Self, AnalysisError> {
        let file = claim(path)?;
        let bytes = fs::read(path).map_err(AnalysisError::io(path))?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(AnalysisError::io(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, value: &impl Serialize) -> Result<(), AnalysisError> {
        append_line(&mut self.file, &self.path, value)
    }
}

/// A JSON Lines file to which several processes add values, each for a moment.
#[derive(Debug)]
pub struct SharedLines {
    path: PathBuf,
    /// How many bytes and lines were read.
    read: (usize, usize),
}

impl SharedLines {
    /// A file that need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: (0, 0) }
    }

    /// Hands on the values that were added since the last time, and adds what comes back. Nobody else writes meanwhile: it waits for
    /// those who do. What was cut off behind the last line is removed.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a line (named) is no such value; nothing of it is changed then.
    pub fn exchange<T: DeserializeOwned + Serialize>(
        &mut self,
        add: impl FnOnce(Vec<T>) -> Vec<T>,
    ) -> Result<(), AnalysisError> {
        let mut file = open_to_append(&self.path)?;
        if cfg!(unix) {
            file.lock().map_err(AnalysisError::io(&self.path))?;
        }
        let (mut start, mut line) = self.read;
        let mut bytes = fs::read(&self.path).map_err(AnalysisError::io(&self.path))?;
        // Somebody may have put another file there.
        let is_known = start == 0 || bytes.get(start - 1) == Some(&b'\n');
        if !is_known {
            (start, line) = (0, 0);
        }
        bytes.drain(..start);
        let (mut found, mut whole) = (Vec::new(), 0);
        for text in bytes.split_inclusive(|&byte| byte == b'\n') {
            match serde_json::from_slice(text) {
                _ if text.iter().all(u8::is_ascii_whitespace) => {}
                Ok(value) => found.push(value),
                // A file without a whole line is not known to be one of these.
                Err(_) if start + whole > 0 && text.last() != Some(&b'\n') => break,
                Err(source) => return Err(AnalysisError::Line { path: self.path.clone(), line: line + 1, source }),
            }
            whole += text.len();
            line += 1;
        }
        let mut added = Vec::new();
        if bytes[..whole].last().is_some_and(|&byte| byte != b'\n') {
            added.push(b'\n');
        }
        for value in add(found) {
            serde_json::to_writer(&mut added, &value).map_err(AnalysisError::json(&self.path))?;
            added.push(b'\n');
            line += 1;
        }
        let whole = start + whole;
        file.set_len(whole as u64).and_then(|()| file.write_all(&added)).map_err(AnalysisError::io(&self.path))?;
        self.read = (whole + added.len(), line);
        Ok(())
    }
}

/// A number, or NaN where JSON has `null`: what serde_json writes for numbers that are not finite.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Number(Option<f64>);

impl Number {
    pub(crate) fn value(self) -> f64 {
        self.0.unwrap_or(f64::NAN)
    }
}

/// For `deserialize_with`: one number or null.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Number::deserialize(deserializer).map(Number::value)
}

/// For `deserialize_with`: numbers or nulls by name.
pub(crate) fn numbers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<std::collections::BTreeMap<String, f64>, D::Error> {
    let read = std::collections::BTreeMap::<String, Number>::deserialize(deserializer)?;
    Ok(read.into_iter().map(|(name, number)| (name, number.value())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link, pipe] = ["file", "link", "pipe"].map(|name| folder.path().join(name));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write_atomic(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let from = pipe.clone();
        let read = std::thread::spawn(move || fs::read(from).unwrap());
        write_atomic(&pipe, b"through").unwrap();
        assert_eq!(read.join().unwrap(), b"through");
        assert!(!fs::metadata(&pipe).unwrap().is_file());
    }

    #[test]
    fn lines_go_on_after_the_last_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.jsonl");
        let mut writer = LinesWriter::open(&path).unwrap();
        writer.append(&1).unwrap();
        if cfg!(unix) {
            assert!(matches!(LinesWriter::open(&path).unwrap_err(), AnalysisError::Busy { .. }));
        }
        drop(writer);
        fs::write(&path, "1\n2\n[3").unwrap();
        assert_eq!(read_lines::<u8>(&path).unwrap(), [1, 2]);
        LinesWriter::open(&path).unwrap().append(&"four").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n\"four\"\n");
        assert!(read_lines::<u8>(&path).unwrap_err().to_string().contains("b.jsonl, line 3"));
    }

    #[test]
    fn a_shared_file_is_added_to_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared.jsonl");
        let exchange = |lines: &mut SharedLines, own: &[u8]| {
            let mut others = Vec::new();
            let done = lines.exchange(|found: Vec<u8>| {
                others = found;
                own.to_vec()
            });
            done.map(|()| others).map_err(|error| error.to_string())
        };
        let [mut a, mut b] = [SharedLines::new(&path), SharedLines::new(&path)];
        assert_eq!(exchange(&mut a, &[1, 2]), Ok(vec![]));
        assert_eq!(exchange(&mut b, &[3]), Ok(vec![1, 2]));
        assert_eq!((exchange(&mut a, &[]), exchange(&mut b, &[])), (Ok(vec![3]), Ok(vec![])));
        if cfg!(unix) {
            let writer = LinesWriter::open(&path).unwrap();
            let (say, hear) = std::sync::mpsc::channel();
            let waiting = std::thread::spawn(move || {
                say.send("begun").unwrap();
                b.exchange(|_: Vec<u8>| vec![4]).unwrap();
                say.send("done").unwrap();
            });
            assert_eq!(hear.recv(), Ok("begun"));
            assert!(hear.recv_timeout(std::time::Duration::from_millis(100)).is_err(), "it waits");
            drop(writer);
            assert_eq!(hear.recv(), Ok("done"));
            waiting.join().unwrap();
            assert_eq!(exchange(&mut a, &[]), Ok(vec![4]));
        }
    }

    #[test]
    fn a_shared_file_may_be_removed_or_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared.jsonl");
        for (put, after) in [(None, "7\n"), (Some("1\n"), "1\n7\n"), (Some("444444\n5\n"), "444444\n5\n7\n")] {
            let mut lines = SharedLines::new(&path);
            lines.exchange(|_: Vec<u32>| vec![10, 20]).unwrap();
            match put {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            lines.exchange(|_: Vec<u32>| vec![7]).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_shared_file_that_is_something_else_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared.jsonl");
        let add = |before: &str| {
            fs::write(&path, before).unwrap();
            let done = SharedLines::new(&path).exchange(|_: Vec<u8>| vec![5]);
            (done.map_err(|error| error.to_string()), fs::read_to_string(&path).unwrap())
        };
        // A last line without its end is a value if it parses, and else was cut off.
        assert_eq!(add("1\n2"), (Ok(()), "1\n2\n5\n".to_owned()));
        assert_eq!(add("1\n[2"), (Ok(()), "1\n5\n".to_owned()));
        for (other, line) in
            [("{\"dear\": [1, 2]}", "line 1"), ("{\n\"dear\": 1\n}", "line 1"), ("1\nx\n2\n", "line 2")]
        {
            let (done, after) = add(other);
            assert!(done.unwrap_err().contains(line));
            assert_eq!(after, other);
        }
    }

    #[test]
    fn a_target_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write_atomic(&path, b"x").unwrap_err().to_string();
        assert!(error.contains("taken"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
