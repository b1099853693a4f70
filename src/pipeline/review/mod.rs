//! What people say of the questions: `reviews.jsonl`, of which the last line about a question counts; and the page on which
//! they say it.

#[cfg(feature = "served")]
mod page;

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::keep;
use crate::error::Error;

#[cfg(feature = "served")]
pub use page::{ReviewOptions, serve};

/// The file.
pub const REVIEWS: &str = "reviews.jsonl";

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It stays as it is.
    Accept,
    /// It stays in other words.
    Edit,
    /// It goes.
    Reject,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// The question.
    pub id: String,
    /// What becomes of it.
    pub decision: Decision,
    /// Its words; those that count where it is edited.
    pub question: String,
    /// Its answer; that which counts where it is edited.
    pub answer: String,
}

/// The reviews of a pipeline, by question.
///
/// # Errors
/// Names the line that is wrong.
pub fn read(folder: &Path) -> Result<HashMap<String, Review>, Error> {
    let lines: Vec<Review> = keep::read(&folder.join(REVIEWS))?;
    Ok(lines.into_iter().map(|review| (review.id.clone(), review)).collect())
}

/// Adds a review; when this returns it is on the disk.
///
/// # Errors
/// When it cannot be written.
pub fn add(folder: &Path, review: &Review) -> Result<(), Error> {
    keep::append(&folder.join(REVIEWS), review)
}
