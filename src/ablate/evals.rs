//! Further evaluations of a run's last checkpoint: where each lies, and whether it is whole.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use imagent_analysis::ablation::{EVAL_FIGURES, EVAL_ROLLOUTS};
use imagent_analysis::record::write_atomic;
use imagent_analysis::{TrajectoryRecord, write_rollouts};
use toml::Table;

use crate::error::Error;
use crate::experiment::Evaluation;
use crate::run::folder::{difference, remove};

/// The settings that an evaluation was made with.
const CONFIG: &str = "config.toml";
/// Keys that do not matter to an evaluation, or that its run answers for.
const FREE: [&str; 3] = ["name", "alarms", "model.path"];

/// An evaluation of a run with other settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedEval {
    /// Its name.
    pub name: String,
    /// What is changed in the base, the arm's changes and the seed included, as `KEY=VALUE`.
    pub sets: Vec<String>,
    /// Its folder.
    pub dir: PathBuf,
    /// The resolved config.
    pub config: String,
}

impl PlannedEval {
    /// Whether it was made and nothing has changed since; its figures are written last.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn is_done(&self) -> Result<bool, Error> {
        Ok(self.dir.join(EVAL_FIGURES).is_file() && self.changed()?.is_none())
    }

    /// The first key that differs from what it was made with, with both values.
    pub(super) fn changed(&self) -> Result<Option<(String, String, String)>, Error> {
        let path = self.dir.join(CONFIG);
        let found = match fs::read_to_string(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let read = |text: &str| toml::from_str::<Table>(text).unwrap_or_default();
        Ok(difference("", &read(&found), &read(&self.config), &FREE))
    }
}

/// Whether an evaluation may be kept in a folder: it is empty or absent, or holds an earlier one and nothing else.
///
/// # Errors
/// Says what is there.
pub fn check_saved(dir: &Path) -> Result<(), Error> {
    let occupied = |what| Err(Error::NotAnEvaluation { path: dir.to_owned(), what });
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return occupied("a file".to_owned()),
        Err(source) => return Err(Error::Io { path: dir.to_owned(), source }),
    };
    for entry in entries {
        let name = entry.map_err(|source| Error::Io { path: dir.to_owned(), source })?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && ![CONFIG, EVAL_ROLLOUTS, EVAL_FIGURES].contains(&&*name) {
            return occupied(name.into_owned());
        }
    }
    Ok(())
}

/// Writes `config.toml`, `rollouts.jsonl` and `eval.json` into a folder, each whole, the figures last.
///
/// # Errors
/// As [`check_saved`], and names the file that could not be written.
pub fn save_evaluation(dir: &Path, config: &str, evaluation: &Evaluation) -> Result<(), Error> {
    check_saved(dir)?;
    let figures = dir.join(EVAL_FIGURES);
    remove(&figures)?;
    write_atomic(&dir.join(CONFIG), config.as_bytes())?;
    let members = evaluation.groups.iter().flat_map(|group| &group.members);
    let records: Vec<TrajectoryRecord> = members.map(TrajectoryRecord::from).collect();
    write_rollouts(&dir.join(EVAL_ROLLOUTS), &records)?;
    let text = serde_json::to_vec_pretty(&evaluation.metrics).unwrap_or_default();
    Ok(write_atomic(&figures, &text)?)
}
