//! Datasets of imagent: published formats, our own folder, mixtures of them, and synthetic worlds.
//!
//! Everything here ends in [`imagent_core::Sample`]s. The crate must not know how a model sees an image,
//! which tools exist or how an answer is rewarded.

pub mod annotate;
pub mod crops;
pub mod error;
pub mod folder;
pub mod formats;
pub mod lessons;
pub mod mix;
mod root;
pub mod tables;
pub mod world;

pub use crate::crops::GoldCrops;
pub use crate::error::DataError;
pub use crate::folder::{
    CACHE_MIB, Folder, SAMPLES, Summary, SynthConfig, ensure_synth, synth, write_folder, write_rows,
};
pub use crate::formats::{Reader, Select, open};
pub use crate::lessons::{CellLabel, Lesson, Piece, Task, lesson};
pub use crate::mix::{Mixture, Share};
pub use crate::world::{WorldConfig, WorldSample, WorldSource, generate, layout, render};
