//! What can go wrong in training; a plug-in's range errors are here too, so that the crate has one error type.

use imagent_core::{PolicyError, SampleError};

/// Why a setting is refused or a run stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is out of range.
    #[error("{key} must be {expected}, got {got}")]
    Setting {
        /// The key as written in the config, below the table it stands in.
        key: &'static str,
        /// The range.
        expected: &'static str,
        /// The value given.
        got: String,
    },
    /// There is nothing to train on.
    #[error("the dataset has no samples")]
    NoSamples,
    /// A sample could not be read.
    #[error("sample at position {position}")]
    Sample {
        /// Its position in the dataset.
        position: usize,
        /// Why.
        source: SampleError,
    },
    /// The model failed while doing a stage of a step.
    #[error("{stage} of step {step}")]
    Policy {
        /// The step, counted from 0.
        step: usize,
        /// `rollout`, `score` or `update`.
        stage: &'static str,
        /// Why.
        source: PolicyError,
    },
    /// The model failed while being evaluated.
    #[error("evaluation")]
    Evaluate(#[source] PolicyError),
    /// Whoever watches the run could not do its part (save a checkpoint, say).
    #[error("after step {step}: {reason}")]
    Observer {
        /// The step, counted from 0.
        step: usize,
        /// Why.
        reason: String,
    },
}

/// An error that names `key` unless `ok`.
pub(crate) fn require(
    ok: bool,
    key: &'static str,
    expected: &'static str,
    got: impl std::fmt::Debug,
) -> Result<(), TrainError> {
    if ok { Ok(()) } else { Err(TrainError::Setting { key, expected, got: format!("{got:?}") }) }
}
