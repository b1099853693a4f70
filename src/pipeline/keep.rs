//! What every step leaves: a file of lines in the order of its items, written as they are done, and gone on with where it ended.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use imagent_core::ChatError;
use imagent_data::error::without_line;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wrong;
use crate::error::Error;

/// What came of an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line<T> {
    /// The item.
    pub(super) id: String,
    /// Whether it goes on.
    #[serde(flatten)]
    pub(super) outcome: Outcome<T>,
}

/// Whether an item goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome<T> {
    /// It does, with this.
    Kept(T),
    /// It does not: a few words, and in brackets more.
    Rejected(String),
}

impl<T> Outcome<T> {
    /// An item that does not go on.
    pub(super) fn rejected(why: impl Into<String>) -> Self {
        Self::Rejected(why.into())
    }
}

impl<T> Line<T> {
    /// What goes on, if it does.
    pub(super) fn kept(&self) -> Option<&T> {
        match &self.outcome {
            Outcome::Kept(what) => Some(what),
            Outcome::Rejected(_) => None,
        }
    }

    /// Why it does not, if it does not.
    pub(super) fn rejected(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Kept(_) => None,
            Outcome::Rejected(why) => Some(why),
        }
    }
}

/// How a step runs.
pub(super) struct Pace<'a> {
    /// Items at once.
    pub(super) at_once: usize,
    /// Whether to stop.
    pub(super) stop: &'a AtomicBool,
    /// Told how many items are done.
    pub(super) tell: &'a mut (dyn FnMut(usize) + Send),
}

/// Where lines go, in the order of their items, whatever the order in which they are done.
struct Writer<'a, T> {
    path: PathBuf,
    file: File,
    waiting: BTreeMap<usize, Line<T>>,
    done: Vec<Line<T>>,
    failed: Option<Error>,
    tell: &'a mut (dyn FnMut(usize) + Send),
}

impl<T: Serialize> Writer<'_, T> {
    fn put(&mut self, index: usize, line: Line<T>) -> Result<(), Error> {
        self.waiting.insert(index, line);
        while let Some(line) = self.waiting.remove(&self.done.len()) {
            write_line(&mut self.file, &self.path, &line)?;
            self.done.push(line);
            (self.tell)(self.done.len());
        }
        Ok(())
    }
}

/// What a step makes of one item.
pub(super) type Work<'a, I, T> = dyn Fn(&str, &I) -> Result<Outcome<T>, Error> + Sync + 'a;

/// Does what is left of a step, and returns all of it: a line an item, in order. `work` depends on the item alone.
///
/// # Errors
/// That of an item which failed, after what was done before it is kept; or a file of another pipeline.
pub(super) fn step<I: Sync, T: Serialize + DeserializeOwned + Send>(
    path: PathBuf,
    pace: Pace<'_>,
    items: &[(String, I)],
    work: &Work<'_, I, T>,
) -> Result<Vec<Line<T>>, Error> {
    let done: Vec<Line<T>> = reopen(&path)?;
    let strange = done.iter().enumerate().find(|(at, line)| items.get(*at).is_none_or(|(id, _)| *id != line.id));
    if let Some((at, line)) = strange {
        let hint = if at < items.len() { "" } else { "; `groups` may become more, not fewer" };
        let problem = format!("line {}: {:?} is no item of this pipeline{hint}", at + 1, line.id);
        return Err(wrong(&path, problem));
    }
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.map_err(|source| Error::Io { path: path.clone(), source })?;
    let next = AtomicUsize::new(done.len());
    let writer = Mutex::new(Writer { path, file, waiting: BTreeMap::new(), done, failed: None, tell: pace.tell });
    let over = AtomicBool::new(false);
    let run = || {
        while !over.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((id, item)) = items.get(index) else { return };
            let stopped = pace.stop.load(Ordering::Relaxed);
            let outcome = if stopped { Err(ChatError::Stopped.into()) } else { work(id, item) };
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let put = outcome.and_then(|outcome| writer.put(index, Line { id: id.clone(), outcome }));
            if let Err(error) = put {
                over.store(true, Ordering::Relaxed);
                writer.failed.get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..pace.at_once.max(1)).for_each(|_| drop(scope.spawn(run)));
    });
    let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
    writer.failed.map_or(Ok(writer.done), Err)
}

/// The lines of a file, none if there is none. A last line that is not whole is passed over: it is being written, or was cut off.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let bytes = bytes(path)?;
    let lines = bytes[..whole(&bytes)].split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let line = |(number, line): (usize, &[u8])| {
        let problem = |error| format!("line {}: {}", number + 1, without_line(&error));
        serde_json::from_slice(line).map_err(|error| wrong(path, problem(error)))
    };
    lines.map(line).collect()
}

/// The same for a file that this process goes on with: what was cut off is taken off it.
pub(super) fn reopen<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let bytes = bytes(path)?;
    let whole = whole(&bytes);
    if whole < bytes.len() {
        let cut = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64));
        cut.map_err(|source| Error::Io { path: path.into(), source })?;
    }
    read(path)
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|source| Error::Io { path: path.into(), source }),
    }
}

/// Bytes of whole lines.
fn whole(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

/// Adds a line to a file; when this returns it is on the disk.
pub(super) fn append(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.into(), source };
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
    write_line(&mut file, path, value)?;
    file.sync_data().map_err(io)
}

/// Writes a line in one call.
fn write_line(file: &mut File, path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value).map_err(|error| wrong(path, error))?;
    file.write_all(format!("{text}\n").as_bytes()).map_err(|source| Error::Io { path: path.into(), source })
}
