//! The run folder: what lies where, and whether it may be written to.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::error::Error;

/// Settings that a resumed run may have otherwise: they do not change what is computed in a step.
const FREE: [&str; 11] = [
    "alarms",
    "data.eval.cache_mib",
    "data.train.cache_mib",
    "name",
    "model.device",
    "model.gradient_checkpointing",
    "train.steps",
    "train.eval_every",
    "train.eval_samples",
    "train.checkpoint_every",
    "train.rollouts_every",
];

/// A run folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    dir: PathBuf,
}

impl RunFolder {
    /// Makes the folder and saves the config in it.
    ///
    /// # Errors
    /// As [`RunFolder::check`], and when it cannot be written.
    pub fn create(dir: &Path, resume: bool, config: &str) -> Result<Self, Error> {
        Self::check(dir, resume, config)?;
        fs::create_dir_all(dir).map_err(io(dir))?;
        let (path, staged) = (dir.join("config.toml"), dir.join(".config.toml.tmp"));
        fs::write(&staged, config).and_then(|()| fs::rename(&staged, &path)).map_err(io(&path))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Whether a run with this config may use the folder: it is empty or absent, or is resumed and holds a run of the
    /// same config, up to how long it is and what is kept on the way.
    ///
    /// # Errors
    /// Says what is there.
    pub fn check(dir: &Path, resume: bool, config: &str) -> Result<(), Error> {
        let occupied = |what| Err(Error::Occupied { path: dir.to_owned(), what });
        if dir.exists() && !dir.is_dir() {
            return occupied("a file");
        }
        let mut entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(dir)(error)),
        };
        if entries.next().is_none() {
            return Ok(());
        }
        let path = dir.join("config.toml");
        match fs::read_to_string(&path) {
            Err(_) => occupied("other files"),
            Ok(_) if !resume => occupied("a run"),
            Ok(found) => {
                same_run(&path, &found, config, &FREE)?;
                Self { dir: dir.to_owned() }.is_to_go_on(config)
            }
        }
    }

    /// Whether the steps of this config are not fewer than those done.
    fn is_to_go_on(&self, config: &str) -> Result<(), Error> {
        let config: Table = toml::from_str(config).unwrap_or_default();
        let steps = config.get("train").and_then(|train| train.get("steps")).and_then(Value::as_integer);
        let Some(steps) = steps.and_then(|steps| usize::try_from(steps).ok()) else { return Ok(()) };
        match self.numbered()?.last() {
            Some(&(done, _)) if done > steps => Err(Error::RanLonger { path: self.dir.clone(), done, steps }),
            _ => Ok(()),
        }
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.dir.join("metrics.jsonl")
    }

    /// `alarms.jsonl`.
    pub fn alarms(&self) -> PathBuf {
        self.dir.join("alarms.jsonl")
    }

    /// `tensorboard/`.
    pub fn tensorboard(&self) -> PathBuf {
        self.dir.join("tensorboard")
    }

    /// The checkpoint after `step` steps.
    pub fn checkpoint(&self, step: usize) -> PathBuf {
        self.dir.join("checkpoints").join(format!("step-{step:06}"))
    }

    /// Removes the evaluation of an end that was not the last.
    pub(super) fn forget_end(&self) -> Result<(), Error> {
        remove(&self.dir.join("eval-after.json"))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The checkpoint of the latest step.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn latest_checkpoint(&self) -> Result<Option<PathBuf>, Error> {
        Ok(self.checkpoints()?.pop())
    }

    /// All checkpoints, in order of their steps.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<PathBuf>, Error> {
        Ok(self.numbered()?.into_iter().map(|(_, path)| path).collect())
    }

    fn numbered(&self) -> Result<Vec<(usize, PathBuf)>, Error> {
        let dir = self.dir.join("checkpoints");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(&dir)(error)),
        };
        let mut found: Vec<(usize, PathBuf)> = Vec::new();
        for entry in entries {
            let path = entry.map_err(io(&dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("step-"));
            if let Some(step) = name.and_then(|step| step.parse().ok()) {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

/// Whether the config in a file is the one that is wanted, but for keys that are `free`.
pub(crate) fn same_run(path: &Path, found: &str, wanted: &str, free: &[&str]) -> Result<(), Error> {
    let read = |text: &str| toml::from_str::<Table>(text).unwrap_or_default();
    let Some((key, found, wanted)) = difference("", &read(found), &read(wanted), free) else { return Ok(()) };
    Err(Error::OtherRun { path: path.to_owned(), key, found, wanted })
}

/// The first key whose values differ, with both values; keys that are `free`, with what is below them, are not looked at.
pub(crate) fn difference(
    prefix: &str,
    found: &Table,
    wanted: &Table,
    free: &[&str],
) -> Option<(String, String, String)> {
    let keys: std::collections::BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    for key in keys {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        if free.contains(&path.as_str()) {
            continue;
        }
        match (found.get(key), wanted.get(key)) {
            (Some(Value::Table(found)), Some(Value::Table(wanted))) => {
                if let Some(inner) = difference(&path, found, wanted, free) {
                    return Some(inner);
                }
            }
            (found, wanted) if found != wanted => {
                let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), ToString::to_string);
                return Some((path, text(found), text(wanted)));
            }
            _ => {}
        }
    }
    None
}
