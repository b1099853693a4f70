//! The dataset of what is left, as people have judged it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use imagent_core::Sample;
use imagent_data::{DataError, SAMPLES, write_rows};
use serde_json::json;

use super::agents::Agents;
use super::item::{Difficulty, Question};
use super::review::{self, Decision, Review};
use super::summary::StepSummary;
use crate::error::Error;

/// The dataset folder within that of a pipeline.
pub const DATASET: &str = "dataset";
/// Where the dataset is made before it takes the place of the last one.
const DRAFT: &str = ".dataset";

/// A question that has come through all steps.
pub(super) type Item = (String, (Question, Difficulty));

/// Writes the dataset.
///
/// # Errors
/// When an image cannot be read or a file cannot be written.
pub(super) fn export(agents: &Agents<'_>, items: &[Item], folder: &Path) -> Result<StepSummary, Error> {
    let reviews = review::read(folder)?;
    let mut seen = HashSet::new();
    let mut verdicts: Vec<Option<&str>> = Vec::new();
    for (id, (asked, _)) in items {
        verdicts.push(match reviews.get(id).map(|review| review.decision) {
            Some(Decision::Reject) => Some("by hand"),
            None if agents.config.reviewed => Some("not looked at yet"),
            _ if !seen.insert((&asked.images, &asked.question)) => Some("asked already"),
            _ => None,
        });
    }
    let kept = items.iter().zip(&verdicts).filter(|(_, why)| why.is_none()).map(|(item, _)| item);
    let mut failed = None;
    // A photograph of a folder is copied as it is; the images of one sample are in memory at a time.
    let rows = kept.map_while(|item| match row(agents, item, reviews.get(&item.0)) {
        Ok(row) => Some(Ok(row)),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let (draft, path) = (folder.join(DRAFT), folder.join(DATASET));
    check_own(&path)?;
    remove(&draft)?;
    if verdicts.contains(&None) {
        let written = write_rows(&draft, rows);
        if let Some(error) = failed {
            remove(&draft)?;
            return Err(error);
        }
        written?;
    }
    remove(&path)?;
    if draft.exists() {
        fs::rename(&draft, &path).map_err(|source| Error::Io { path, source })?;
    }
    Ok(StepSummary::of("export", verdicts.into_iter()))
}

/// Refuses a dataset's folder that holds anything besides a dataset.
fn check_own(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if name != SAMPLES && name != "images" {
            return Err(DataError::Occupied { path: folder.to_owned() }.into());
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { path: folder.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// A question as a sample, with the files of its images.
fn row(
    agents: &Agents<'_>,
    (id, (asked, found)): &Item,
    review: Option<&Review>,
) -> Result<(Sample, Vec<Vec<u8>>), Error> {
    let mut sample = agents.sample(id, asked)?;
    if let Some(Review { decision: Decision::Edit, question, answer, .. }) = review {
        sample.question.clone_from(question);
        sample.answer.clone_from(answer);
    }
    let looked = review.map_or(json!(false), |review| json!(review.decision));
    sample.meta = [("without_tools", json!(found.without)), ("with_tools", json!(found.with)), ("reviewed", looked)]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect();
    let files = asked.images.iter().filter_map(|image| agents.bank.file(image).transpose());
    Ok((sample, files.collect::<Result<_, _>>()?))
}
