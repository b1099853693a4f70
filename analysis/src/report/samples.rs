//! Which trajectories a report shows: those of the last evaluation, and some of the steps on the way.

use std::fs;
use std::path::{Path, PathBuf};

use super::run_name;
use crate::error::AnalysisError;
use crate::record::{JsonLines, TrajectoryRecord};

/// Files of steps on the way that are looked into, evenly spaced.
const FILES: usize = 6;

/// A trajectory with where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// The arm of an ablation.
    pub arm: Option<String>,
    /// The seed, in an ablation.
    pub seed: Option<u64>,
    /// Steps done before it, or with it.
    pub step: usize,
    /// Of an evaluation, not of training.
    pub held_out: bool,
    /// What happened.
    pub record: TrajectoryRecord,
}

impl Episode {
    /// A held-out trajectory of a single run.
    pub(crate) fn held_out(step: usize, record: TrajectoryRecord) -> Self {
        Self { arm: None, seed: None, step, held_out: true, record }
    }

    /// Where it comes from, for a filter.
    pub(super) fn stage(&self) -> String {
        format!("step {}, {}", self.step, if self.held_out { "held out" } else { "training" })
    }
}

/// A file of trajectories.
struct Source {
    step: usize,
    held_out: bool,
    path: PathBuf,
}

/// At most `most` trajectories of the steps before the last evaluation, images embedded.
pub(super) fn on_the_way(run: &Path, most: usize) -> Result<Vec<Episode>, AnalysisError> {
    let sources = sources(run)?;
    let count = sources.len().min(FILES);
    if count == 0 || most == 0 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for i in 0..count {
        // The first and the last, and what lies evenly between.
        let at = if count == 1 { 0 } else { i * (sources.len() - 1) / (count - 1) };
        let source = &sources[at];
        let (records, _) = first(&source.path, run, (most / count).max(1))?;
        let episode = |record| Episode { held_out: source.held_out, ..Episode::held_out(source.step, record) };
        found.extend(records.into_iter().map(episode));
    }
    found.truncate(most);
    Ok(found)
}

/// At most `most` trajectories of a file, those whose images are kept before the others, images embedded; and how many more there
/// are. None of a file that is not there.
pub(super) fn first(path: &Path, run: &Path, most: usize) -> Result<(Vec<TrajectoryRecord>, usize), AnalysisError> {
    if !path.exists() {
        return Ok((Vec::new(), 0));
    }
    let all = JsonLines::<TrajectoryRecord>::open(path)?.collect::<Result<Vec<_>, _>>()?;
    let count = all.len();
    let has_images = |record: &TrajectoryRecord| record.images.iter().any(|image| image.source.is_some());
    let (with, without): (Vec<_>, Vec<_>) = all.into_iter().partition(has_images);
    let mut records: Vec<_> = with.into_iter().chain(without).take(most).collect();
    records.iter_mut().try_for_each(|record| record.embed_images(run))?;
    let left = count - records.len();
    Ok((records, left))
}

/// The files before the last evaluation, by step.
fn sources(run: &Path) -> Result<Vec<Source>, AnalysisError> {
    let folder = run.join("rollouts");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(AnalysisError::io(&folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(AnalysisError::io(&folder))?.path();
        if path.extension().is_some_and(|end| end == "jsonl") {
            let name = run_name_of(&path);
            let step = |prefix: &str| name.strip_prefix(prefix).and_then(|step| step.parse().ok());
            let source = match (step("step-"), step("eval-"), name.as_str()) {
                (Some(step), _, _) => Some((step, false)),
                (_, Some(step), _) => Some((step, true)),
                (_, _, "eval-before") => Some((0, true)),
                _ => None,
            };
            found.extend(source.map(|(step, held_out)| Source { step, held_out, path }));
        }
    }
    found.sort_by_key(|source| (source.step, source.held_out));
    Ok(found)
}

fn run_name_of(path: &Path) -> String {
    path.file_stem().map_or_else(|| run_name(path), |stem| stem.to_string_lossy().into_owned())
}
