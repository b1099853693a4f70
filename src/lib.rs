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
pub mod attention;
pub mod bench;
pub mod byte_progress;
pub mod config;
pub mod error;
pub mod experiment;
pub mod hub;
pub mod pipeline;
pub mod plugins;
pub mod presets;
pub mod run;
pub mod served;
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

/// The traits, the plug-ins and what puts them together: what a program with plug-ins of its own, or a policy of its own,
/// needs.
pub mod prelude {
    pub use imagent_algorithms::{
        ActionMask, Flow, Grpo, StepReport, TrainError, TrainObserver, TrainSettings, TrajectoryMask,
    };
    pub use imagent_core::{
        Arguments, BBox, BoxFrame, CropOrigin, EndReason, Group, ImageShelf, Limits, Mask, MaskSet, Observation,
        ObservationImage, Orientation, Origin, Policy, PolicyOptimizer, PromptStyle, Reward, Rgb, RgbImage, Sample,
        SampleSource, Sampling, Score, ScoredTrajectory, Size, TokenBatch, TokenLoss, Tool, ToolError, ToolSpec,
        Toolbox, TrainBatch, Trajectory,
    };
    /// What an implementation of [`Policy`] speaks in.
    pub use imagent_core::{
        EncodeError, Encoder, Key, Message, Next, OnTurn, PolicyError, PolicyPrompt, SampledTurn, ScoreRow, Segment,
        SegmentImage, StopReason, TokenScores, UpdateReport, Weights,
    };
    pub use imagent_data::{Folder, Mixture, Reader, Share, SynthConfig, WorldConfig, WorldSource};
    pub use imagent_models::adamw::AdamWConfig;
    pub use imagent_models::policy::QwenPolicy;
    pub use imagent_rewards::{
        Accumulative, Accuracy, BoxMeasure, CountedOn, Counterfactual, DeepEyes, Format, Grader, GroundingImage,
        GroundingObject, ImAgent, Length, Product, Sum, Term, ToolUse,
    };
    pub use imagent_tools::{Compare, Contrast, Flip, LookBack, Mark, Rotate, ZoomIn};

    pub use crate::config::{Config, ModelConfig, Schedule, open_model};
    pub use crate::error::Error;
    pub use crate::experiment::{DynExperiment, Evaluation, Experiment};
    pub use crate::run::{Outcome, Quiet, RunOptions, Watch, train_config};
}
