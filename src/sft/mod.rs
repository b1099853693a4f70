//! Supervised fine-tuning: a nano base from nothing, stage by stage, by lessons that run through the episode machine; and any model on
//! conversations ([`dialogue`]).

mod batch;
mod config;
mod course;
pub mod dialogue;

pub use batch::{Demonstration, Demonstrator};
pub use config::{Course, Gate, Stage};
pub use course::{Learnt, Progress, StageReport, run};
pub use dialogue::{
    Example, Examples, LeftOut, SftConfig, SftOptions, SftOutcome, SftSettings, SftWatch, Stopping, TrajectoryConfig,
    open_wording, token_loss,
};
