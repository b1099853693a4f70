//! What the runs of an ablation say together: arms side by side over seeds.
//!
//! * this file: the folder of an ablation, read;
//! * [`compare`]: figures of arms with intervals, and their differences by seed; as JSON, Markdown and CSV;
//! * [`curves`]: learning curves with bands;
//! * [`solved`]: of the questions that an arm solves with tools, how many are solved elsewhere.

pub mod compare;
pub mod curves;
pub mod solved;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::AnalysisError;
use crate::record::{MetricsRow, write_atomic};
use crate::report::{RunData, load_figures, read_table};
pub use solved::Solutions;

/// The file in an ablation's folder that says what it consists of.
pub const INDEX: &str = "ablation.json";
/// The figures of a further evaluation, in its folder.
pub const EVAL_FIGURES: &str = "eval.json";
/// Its trajectories.
pub const EVAL_ROLLOUTS: &str = "rollouts.jsonl";

/// What an ablation consists of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AblationIndex {
    /// Its name.
    pub name: String,
    /// The arms, in order.
    pub arms: Vec<ArmIndex>,
    /// Further evaluations of every run's last checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evals: Vec<ArmIndex>,
    /// Which solved questions are looked for elsewhere.
    #[serde(default, skip_serializing_if = "SolvedIndex::is_empty")]
    pub solved: SolvedIndex,
    /// The seeds that each arm runs with.
    pub seeds: Vec<u64>,
    /// The arm that the others are compared with.
    pub baseline: String,
    /// The metrics to compare (`docs/metrics.md`; `eval/NAME` are held-out figures); empty: [`compare::CHIEF`].
    #[serde(default)]
    pub metrics: Vec<String>,
}

/// Whose solved questions are looked for where; each is an arm, or `ARM/EVAL`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SolvedIndex {
    /// Of the questions that are solved with a tool here …
    pub of: Vec<String>,
    /// … how many are solved there?
    pub also: Vec<String>,
}

impl SolvedIndex {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty() && self.also.is_empty()
    }
}

/// An arm, or a further evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmIndex {
    /// Its name, and that of its folder.
    pub name: String,
    /// What it changes, as `KEY=VALUE`.
    #[serde(default)]
    pub changes: Vec<String>,
}

/// Where the run of an arm with a seed lies.
pub fn run_folder(ablation: &Path, arm: &str, seed: u64) -> PathBuf {
    ablation.join(arm).join(format!("seed-{seed}"))
}

/// Where a further evaluation of a run lies.
pub fn eval_folder(run: &Path, eval: &str) -> PathBuf {
    run.join("evals").join(eval)
}

/// An ablation with its runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ablation {
    /// What it consists of.
    pub index: AblationIndex,
    /// The arms, in order.
    pub arms: Vec<Arm>,
    /// Which questions were solved, where that is asked for.
    pub solved: Solutions,
}

/// An arm with the runs that are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// What it changes, as `KEY=VALUE`.
    pub changes: Vec<String>,
    /// The finished runs, by seed.
    pub runs: Vec<(u64, RunData)>,
    /// Seeds whose run is not finished.
    pub missing: Vec<u64>,
}

impl AblationIndex {
    /// Writes it into the ablation's folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), AnalysisError> {
        let path = folder.join(INDEX);
        let text = serde_json::to_vec_pretty(self).map_err(AnalysisError::json(&path))?;
        write_atomic(&path, &text)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Names the file.
    pub fn read(folder: &Path) -> Result<Self, AnalysisError> {
        let path = folder.join(INDEX);
        let text = fs::read(&path).map_err(AnalysisError::io(&path))?;
        serde_json::from_slice(&text).map_err(AnalysisError::json(&path))
    }
}

/// Reads the folder of an ablation: every run of it that is finished, which is told by a report that was written after the last
/// step. Trajectories are left to the report.
///
/// # Errors
/// When a file cannot be read; names it.
pub fn load(folder: &Path) -> Result<Ablation, AnalysisError> {
    let index = AblationIndex::read(folder)?;
    let mut arms = Vec::with_capacity(index.arms.len());
    for ArmIndex { name, changes } in &index.arms {
        let mut arm = Arm { name: name.clone(), changes: changes.clone(), ..Arm::default() };
        for &seed in &index.seeds {
            let run = run_folder(folder, name, seed);
            match is_finished(&run)? {
                true => arm.runs.push((seed, load_whole(&run, &index.evals)?)),
                false => arm.missing.push(seed),
            }
        }
        arms.push(arm);
    }
    let solved = Solutions::read(folder, &index, &arms)?;
    Ok(Ablation { index, arms, solved })
}

/// The figures of a run with those of its further evaluations. A run without steps ends as it begins.
fn load_whole(run: &Path, evals: &[ArmIndex]) -> Result<RunData, AnalysisError> {
    let mut data = load_figures(run)?;
    if data.after.is_none() && data.metrics.last().is_none_or(|row| row.step == 0) {
        data.after = data.before.clone();
    }
    for ArmIndex { name, .. } in evals {
        if let Some(table) = read_table(&eval_folder(run, name).join(EVAL_FIGURES))? {
            data.evals.insert(name.clone(), table);
        }
    }
    Ok(data)
}

/// Whether a run folder holds a whole run: the last step's checkpoint, its row, and the report that is written after both.
///
/// # Errors
/// When a file cannot be read.
pub fn is_finished(run: &Path) -> Result<bool, AnalysisError> {
    let config = match fs::read_to_string(run.join("config.toml")) {
        Ok(text) if run.join("report.html").is_file() => text,
        _ => return Ok(false),
    };
    let table = config.parse::<toml::Table>().unwrap_or_default();
    let steps = table.get("train").and_then(|train| train.get("steps")).and_then(toml::Value::as_integer);
    let Some(steps) = steps.and_then(|steps| usize::try_from(steps).ok()) else { return Ok(false) };
    if steps == 0 {
        return Ok(true);
    }
    let checkpoint = run.join("checkpoints").join(format!("step-{steps:06}"));
    Ok(checkpoint.is_dir() && last_step(&run.join("metrics.jsonl"))? >= steps)
}

/// The last step of a `metrics.jsonl`; 0 where there is none.
///
/// # Errors
/// When it cannot be read.
pub fn last_step(path: &Path) -> Result<usize, AnalysisError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(AnalysisError::io(path)(error)),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let row = whole.lines().next_back().map(serde_json::from_str::<MetricsRow>).transpose();
    Ok(row.map_err(AnalysisError::json(path))?.map_or(0, |row| row.step))
}
