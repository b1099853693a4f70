//! Supervised fine-tuning of a nano base from nothing: lessons run through the episode machine, stage by stage.

mod batch;
mod config;
mod course;

pub use batch::{Demonstration, Demonstrator};
pub use config::{Course, Gate, Stage};
pub use course::{Learnt, Progress, StageReport, run};
