//! What goes from step to step.

use imagent_core::Gold;
use serde::{Deserialize, Serialize};

/// Images that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Names of the images.
    pub images: Vec<String>,
    /// What they have in common.
    pub why: String,
}

/// A question about a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Names of the images.
    pub images: Vec<String>,
    /// What is asked; images are counted from 1.
    pub question: String,
    /// What the writer holds to be the answer.
    pub answer: String,
    /// The kind of question, for tables.
    pub kind: String,
    /// Where the answer lies.
    pub gold: Vec<Gold>,
}

/// Answers to a question by somebody who did not know the writer's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Votes {
    /// One a vote.
    pub answers: Vec<String>,
}

/// That a question is sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The share of the votes that are the writer's answer.
    pub agreement: f64,
    /// What the verifier says of it.
    pub note: String,
}

/// How hard a question is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difficulty {
    /// Tries without tools, and how many of them were right.
    pub without: [usize; 2],
    /// Tries with tools, and how many of them were right.
    pub with: [usize; 2],
}
