//! The report of a run or of an ablation: one HTML file that needs nothing else, made from the folder.
//!
//! Both are the same page: curves, tables, alarms and trajectories; an ablation has them for each arm.

mod charts;
mod config;
mod episodes;
mod headline;
mod lab;
pub(crate) mod names;
mod page;
mod samples;
mod shots;
mod text;
#[cfg(test)]
pub(crate) mod wellformed;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ablation::compare::Comparison;
use crate::ablation::{Ablation, run_folder};
use crate::alarms::{Alarm, read_alarms};
use crate::error::AnalysisError;
use crate::record::{MetricsRow, TrajectoryRecord, read_metrics, write_atomic};

pub use page::report_html;
pub use samples::Episode;

/// Metrics of an evaluation by name.
pub type EvalTable = BTreeMap<String, f64>;

/// Most trajectories of a report: their images are in the file.
pub const MAX_TRAJECTORIES: usize = 300;
/// Of them, most that are of steps before the last evaluation.
const ON_THE_WAY: usize = 48;

/// What a report is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunData {
    /// The run's name.
    pub name: String,
    /// Its resolved configuration.
    pub config_toml: String,
    /// Its metrics, in order of steps.
    pub metrics: Vec<MetricsRow>,
    /// The held-out evaluation before training.
    pub before: Option<EvalTable>,
    /// The held-out evaluation after training.
    pub after: Option<EvalTable>,
    /// Further evaluations after training, by name.
    pub evals: BTreeMap<String, EvalTable>,
    /// What its rules told.
    pub alarms: Vec<Alarm>,
    /// Held-out trajectories after training, images embedded.
    pub trajectories: Vec<TrajectoryRecord>,
    /// Trajectories of steps on the way, images embedded.
    pub sampled: Vec<Episode>,
    /// How many more trajectories the run folder holds.
    pub omitted: usize,
}

/// Reads a run folder without its trajectories: `config.toml`, and where they are there `metrics.jsonl`, `alarms.jsonl`,
/// `eval-before.json` and `eval-after.json`.
///
/// # Errors
/// When `config.toml` is missing, or a file cannot be read; names the file and line.
pub fn load_figures(folder: &Path) -> Result<RunData, AnalysisError> {
    let config = folder.join("config.toml");
    let config_toml = fs::read_to_string(&config).map_err(AnalysisError::io(&config))?;
    let metrics = folder.join("metrics.jsonl");
    let metrics = if metrics.exists() { read_metrics(&metrics)? } else { Vec::new() };
    Ok(RunData {
        name: run_name(folder),
        config_toml,
        metrics,
        alarms: read_alarms(&folder.join("alarms.jsonl"))?,
        before: read_table(&folder.join("eval-before.json"))?,
        after: read_table(&folder.join("eval-after.json"))?,
        ..RunData::default()
    })
}

/// The same with trajectories: those of `rollouts/eval-after.jsonl`, and some of the steps before, at most
/// [`MAX_TRAJECTORIES`].
///
/// # Errors
/// As [`load_figures`].
pub fn load_run(folder: &Path) -> Result<RunData, AnalysisError> {
    let sampled = samples::on_the_way(folder, ON_THE_WAY)?;
    let after = folder.join("rollouts").join("eval-after.jsonl");
    let (trajectories, omitted) = samples::first(&after, folder, MAX_TRAJECTORIES - ON_THE_WAY)?;
    Ok(RunData { trajectories, omitted, sampled, ..load_figures(folder)? })
}

/// Writes `report.html` into the run folder, atomically, and returns its path.
///
/// # Errors
/// As [`load_run`], or when the report cannot be written.
pub fn write_report(folder: &Path) -> Result<PathBuf, AnalysisError> {
    let path = folder.join("report.html");
    write_atomic(&path, report_html(&load_run(folder)?).as_bytes())?;
    Ok(path)
}

/// Writes `report.html` into an ablation's folder, atomically, and returns its path.
///
/// # Errors
/// When trajectories of a run cannot be read, or the report cannot be written.
pub fn write_ablation_report(
    folder: &Path,
    ablation: &Ablation,
    comparison: &Comparison,
) -> Result<PathBuf, AnalysisError> {
    let path = folder.join("report.html");
    let html = page::ablation_html(ablation, comparison, &ablation_episodes(folder, ablation)?);
    write_atomic(&path, html.as_bytes())?;
    Ok(path)
}

/// As many trajectories of each run, half of them of its last evaluation.
fn ablation_episodes(folder: &Path, ablation: &Ablation) -> Result<Vec<Episode>, AnalysisError> {
    let runs: usize = ablation.arms.iter().map(|arm| arm.runs.len()).sum();
    let most = (MAX_TRAJECTORIES / runs.max(1)).clamp(2, 48);
    let mut found = Vec::new();
    for arm in &ablation.arms {
        for (seed, run) in &arm.runs {
            let dir = run_folder(folder, &arm.name, *seed);
            let mut of_run = samples::on_the_way(&dir, most / 2)?;
            let (after, _) = samples::first(&dir.join("rollouts").join("eval-after.jsonl"), &dir, most - of_run.len())?;
            let last = run.metrics.last().map_or(0, |row| row.step);
            of_run.extend(after.into_iter().map(|record| Episode::held_out(last, record)));
            let of_arm = |episode| Episode { arm: Some(arm.name.clone()), seed: Some(*seed), ..episode };
            found.extend(of_run.into_iter().map(of_arm));
        }
    }
    Ok(found)
}

/// The folder's own name, also where it is given as `.`.
fn run_name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

pub(crate) fn read_table(path: &Path) -> Result<Option<EvalTable>, AnalysisError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(AnalysisError::io(path))?;
    let read: BTreeMap<String, Option<f64>> = serde_json::from_slice(&bytes).map_err(AnalysisError::json(path))?;
    Ok(Some(read.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect()))
}
