//! The report of a run: one HTML file that needs nothing else, made from the run folder.

mod charts;
mod config;
mod episodes;
mod headline;
pub(crate) mod names;
mod page;
mod text;
#[cfg(test)]
pub(crate) mod wellformed;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::AnalysisError;
use crate::record::{JsonLines, MetricsRow, TrajectoryRecord, read_metrics, write_atomic};

pub use page::report_html;

/// Metrics of an evaluation by name.
pub type EvalTable = BTreeMap<String, f64>;

/// Most trajectories that [`load_run`] takes into a report: their images are in the file.
pub const MAX_TRAJECTORIES: usize = 300;

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
    /// Held-out trajectories after training, images embedded.
    pub trajectories: Vec<TrajectoryRecord>,
    /// How many more trajectories the run folder holds.
    pub omitted: usize,
}

/// Reads a run folder: `config.toml`, and where they are there `metrics.jsonl`, `eval-before.json`,
/// `eval-after.json` and `rollouts/eval-after.jsonl` (the first [`MAX_TRAJECTORIES`]).
///
/// # Errors
/// When `config.toml` is missing, or a file cannot be read; names the file and line.
pub fn load_run(folder: &Path) -> Result<RunData, AnalysisError> {
    let config = folder.join("config.toml");
    let config_toml = fs::read_to_string(&config).map_err(AnalysisError::io(&config))?;
    let metrics = folder.join("metrics.jsonl");
    let metrics = if metrics.exists() { read_metrics(&metrics)? } else { Vec::new() };
    let (trajectories, omitted) = read_trajectories(folder)?;
    Ok(RunData {
        name: run_name(folder),
        config_toml,
        metrics,
        before: read_table(&folder.join("eval-before.json"))?,
        after: read_table(&folder.join("eval-after.json"))?,
        trajectories,
        omitted,
    })
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

/// The folder's own name, also where it is given as `.`.
fn run_name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn read_table(path: &Path) -> Result<Option<EvalTable>, AnalysisError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(AnalysisError::io(path))?;
    let read: BTreeMap<String, Option<f64>> = serde_json::from_slice(&bytes).map_err(AnalysisError::json(path))?;
    Ok(Some(read.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect()))
}

fn read_trajectories(folder: &Path) -> Result<(Vec<TrajectoryRecord>, usize), AnalysisError> {
    let path = folder.join("rollouts").join("eval-after.jsonl");
    if !path.exists() {
        return Ok((Vec::new(), 0));
    }
    let mut lines = JsonLines::<TrajectoryRecord>::open(&path)?;
    let mut trajectories = lines.by_ref().take(MAX_TRAJECTORIES).collect::<Result<Vec<_>, _>>()?;
    trajectories.iter_mut().try_for_each(|record| record.embed_images(folder))?;
    let omitted = lines.try_fold(0, |count, record| record.map(|_| count + 1))?;
    Ok((trajectories, omitted))
}
