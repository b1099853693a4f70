//! What every step leaves: a file of lines in the order of its items, written as they are done, and gone on with where it ended.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use imagent_core::{ChatError, ChatReply};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wrong;
use crate::error::Error;

/// What served models were asked, and what that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Questions.
    pub requests: usize,
    /// Tokens of what was asked, images included.
    pub prompt_tokens: usize,
    /// Tokens of what was replied.
    pub completion_tokens: usize,
}

impl Cost {
    /// Of one reply.
    pub fn of(reply: &ChatReply) -> Self {
        let usage = reply.usage.unwrap_or_default();
        Self { requests: 1, prompt_tokens: usage.prompt_tokens, completion_tokens: usage.completion_tokens }
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

/// What came of an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line<T> {
    /// The item.
    pub id: String,
    /// What goes on to the next step.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub kept: Option<T>,
    /// Why nothing does: a short word, and in brackets more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// What it took.
    #[serde(default)]
    pub cost: Cost,
    /// What served models replied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T> Line<T> {
    /// An item that goes on.
    pub fn kept(id: &str, what: T) -> Self {
        Self { id: id.to_owned(), kept: Some(what), rejected: None, cost: Cost::default(), said: Vec::new() }
    }

    /// An item that does not, with the reason.
    pub fn rejected(id: &str, why: impl Into<String>) -> Self {
        Self { id: id.to_owned(), kept: None, rejected: Some(why.into()), cost: Cost::default(), said: Vec::new() }
    }
}

/// How a step runs.
pub(super) struct Place<'a> {
    /// The folder.
    pub(super) folder: &'a Path,
    /// Items at once.
    pub(super) at_once: usize,
    /// Whether to stop.
    pub(super) stop: &'a AtomicBool,
}

/// Where lines go, in the order of their items, whatever the order in which they are done.
struct Writer<T> {
    path: PathBuf,
    file: File,
    waiting: BTreeMap<usize, Line<T>>,
    done: Vec<Line<T>>,
    failed: Option<Error>,
}

impl<T: Serialize> Writer<T> {
    fn put(&mut self, index: usize, line: Line<T>) -> Result<(), Error> {
        self.waiting.insert(index, line);
        while let Some(line) = self.waiting.remove(&self.done.len()) {
            let text = serde_json::to_string(&line).map_err(|error| wrong(&self.path, error))?;
            let written = writeln!(self.file, "{text}").and_then(|()| self.file.flush());
            written.map_err(|source| Error::Io { path: self.path.clone(), source })?;
            self.done.push(line);
        }
        Ok(())
    }
}

/// What a step does with one item.
type Work<'a, I, T> = dyn Fn(&str, &I) -> Result<Line<T>, Error> + Sync + 'a;

/// Does what is left of a step, and returns all of it: a line an item, in order. `work` depends on the item alone.
///
/// # Errors
/// That of an item which failed, after what was done before it is kept; or a file of another pipeline.
pub(super) fn step<I: Sync, T: Serialize + DeserializeOwned + Send>(
    place: &Place<'_>,
    name: &str,
    items: &[(String, I)],
    work: &Work<'_, I, T>,
) -> Result<Vec<Line<T>>, Error> {
    let path = place.folder.join(name);
    let done: Vec<Line<T>> = read(&path)?;
    for (at, (line, item)) in done.iter().zip(items.iter().map(Some).chain(std::iter::repeat(None))).enumerate() {
        if item.is_none_or(|(id, _)| *id != line.id) {
            let problem =
                format!("line {}: {:?} is no item of this pipeline; remove the file to make it anew", at + 1, line.id);
            return Err(wrong(&path, problem));
        }
    }
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.map_err(|source| Error::Io { path: path.clone(), source })?;
    let next = AtomicUsize::new(done.len());
    let writer = Mutex::new(Writer { path, file, waiting: BTreeMap::new(), done, failed: None });
    let over = AtomicBool::new(false);
    let run = || {
        while !over.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((id, item)) = items.get(index) else { return };
            let line = if place.stop.load(Ordering::Relaxed) { Err(ChatError::Stopped.into()) } else { work(id, item) };
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = line.and_then(|line| writer.put(index, line)) {
                over.store(true, Ordering::Relaxed);
                writer.failed.get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..place.at_once.max(1)).for_each(|_| drop(scope.spawn(run)));
    });
    let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
    writer.failed.map_or(Ok(writer.done), Err)
}

/// The lines of a file; a last line that was cut off is taken off the file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let io = |source| Error::Io { path: path.into(), source };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64)).map_err(io)?;
    }
    let lines = bytes[..whole].split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let line = |(number, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|error| wrong(path, format!("line {}: {error}", number + 1)))
    };
    lines.map(line).collect()
}
