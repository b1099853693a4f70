//! Graders and rewards: what a trajectory is worth. A reward reads sampled text only, never the prompt, an observation
//! or a log-probability.
//!
//! | tag | reward | value |
//! |---|---|---|
//! | `accuracy` | [`Accuracy`] | accuracy |
//! | `deepeyes` | [`DeepEyes`] | `0.8·accuracy + 0.2·format + 1.2·[tool ∧ accuracy > 0.5]`, format ∈ {−1, 0} |
//! | `format` | [`Format`] | format |
//! | `imagent` | [`ImAgent`] | `accuracy × (1 + tool_gain × tool) + format_weight × format` |
//!
//! Each is a plug-in in a file of its own; how an answer is compared with the gold one is a [`Grader`], a field of the
//! reward. All of them name their parts alike: `accuracy` (0 or 1), `format`, and `tool` (1 if a tool call of the
//! trajectory returned an image).
//!
//! A binary has to name this crate (`use imagent_rewards as _;`), or a config does not find them.

mod accuracy;
mod check;
mod deepeyes;
mod format;
mod grader;
mod imagent;

pub use crate::accuracy::Accuracy;
pub use crate::deepeyes::DeepEyes;
pub use crate::format::Format;
pub use crate::grader::{GradeError, Grader};
pub use crate::imagent::ImAgent;

/// The tags of all rewards of this crate, sorted.
pub const PLUGINS: &[&str] = &["accuracy", "deepeyes", "format", "imagent"];
