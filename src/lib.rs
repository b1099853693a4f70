//! imagent trains, studies and evaluates multi-image vision agents by reinforcement learning with verifiable rewards.
//!
//! This crate puts the parts together: [`config`] (one TOML file to plug-ins), [`experiment`] (the parts of a run as one
//! value, composed at compile time or from a config), [`mod@run`] (the run folder: metrics, checkpoints, report, resuming).
//! What the parts are is in the crates of the workspace, re-exported here; [`prelude`] has what most programs need.
//!
//! ```no_run
//! use imagent::prelude::*;
//!
//! let config = Config::read("configs/quickstart.toml".as_ref(), &["train.steps=3"])?;
//! let mut parts = config.build()?;
//! let before = parts.experiment.evaluate()?;
//! println!("accuracy {}", before.metrics["accuracy"]);
//! # Ok::<(), imagent::Error>(())
//! ```

pub mod ablate;
pub mod assets;
pub mod byte_progress;
pub mod config;
pub mod error;
pub mod experiment;
pub mod hub;
pub mod plugins;
pub mod presets;
pub mod run;
pub mod sft;

pub use error::Error;
pub use experiment::{DynExperiment, Evaluation, Experiment};

pub use imagent_algorithms as algorithms;
pub use imagent_analysis as analysis;
pub use imagent_core as core;
pub use imagent_data as data;
pub use imagent_models as models;
pub use imagent_rewards as rewards;
pub use imagent_tools as tools;

/// The traits, the plug-ins and what puts them together.
pub mod prelude {
    pub use imagent_algorithms::{ActionMask, Grpo, StepReport, TrainObserver, TrainSettings, TrajectoryMask};
    pub use imagent_core::{
        Limits, Mask, MaskSet, Observation, Policy, PolicyOptimizer, PromptStyle, Reward, Sample, SampleSource,
        Sampling, Score, Tool, ToolError, ToolSpec, Toolbox, Trajectory,
    };
    pub use imagent_data::{Folder, SynthConfig, WorldConfig, WorldSource};
    pub use imagent_models::adamw::AdamWConfig;
    pub use imagent_models::policy::QwenPolicy;
    pub use imagent_rewards::{Accuracy, DeepEyes, Format, ImAgent};
    pub use imagent_tools::{LookBack, ZoomIn};

    pub use crate::config::{Config, ModelConfig, Schedule, open_model};
    pub use crate::experiment::{DynExperiment, Evaluation, Experiment};
    pub use crate::run::{RunOptions, Watch};
}
