//! Supervised fine-tuning on conversations: trajectories that are stored with the samples, or made from their annotation.
//!
//! * `config`: the file;
//! * `example`: a sample to tokens, of which the assistant's are taught;
//! * `stopping`: when held-out loss no longer falls;
//! * `run`: the updates, validation, checkpoints, and the model that is kept.

mod config;
mod example;
mod run;
mod stopping;

pub use config::{SftConfig, SftSettings, TrajectoryConfig, open_wording};
pub use example::{Example, Examples, LeftOut};
pub use run::{SftOptions, SftOutcome, SftWatch, run, token_loss};
pub use stopping::Stopping;
