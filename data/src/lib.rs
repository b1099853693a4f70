//! Dataset folders and synthetic worlds of imagent.
//!
//! Everything here ends in [`imagent_core::Sample`]s. The crate must not know how a model sees an image,
//! which tools exist or how an answer is rewarded.

pub mod annotate;
pub mod error;
pub mod folder;
pub mod lessons;
pub mod world;

pub use crate::error::DataError;
pub use crate::folder::{
    CACHE_MIB, CheckReport, Folder, Summary, SynthConfig, check, ensure_synth, synth, write_folder,
};
pub use crate::lessons::{CellLabel, Lesson, Piece, Task, lesson};
pub use crate::world::{WorldConfig, WorldSample, WorldSource, generate, layout, render};
