//! Masks, advantages, policy optimisers and the train loop of imagent.
//!
//! Numbers only: the crate must never know a tensor, a pixel or a device, and reads or writes no file.

mod ahead;
mod correction;
mod error;
pub mod masks;
pub mod metrics;
pub mod optimizers;
mod refill;
mod sampler;
mod settings;
mod train;
mod update;

pub use error::TrainError;
pub use masks::{ActionMask, AllMask, AnyMask, FirstTurnsMask, Masked, NotMask, RepeatedCallMask, TrajectoryMask};
pub use metrics::{METRICS, Metric, rollout_metrics};
pub use optimizers::{
    Aggregation, Baseline, BatchScale, Cispo, Dapo, DrGrpo, Grpo, Gspo, KlEstimator, KlIn, Lone, ReinforcePlusPlus,
    ReinforcePlusPlusBaseline, Rloo, Surrogate,
};
pub use sampler::{Draw, SampleCursor};
pub use settings::TrainSettings;
pub use train::{Flow, StepReport, TrainObserver, evaluate, train};

/// A plug-in of this crate: its kind (`mask`, `optimizer`) and its tag in a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plugin {
    /// Which trait it implements.
    pub kind: &'static str,
    /// The value of `type` that names it.
    pub tag: &'static str,
}

/// Every plug-in of this crate, sorted. A test compares it with what typetag has registered.
pub const PLUGINS: &[Plugin] = &[
    Plugin { kind: "mask", tag: "action" },
    Plugin { kind: "mask", tag: "all" },
    Plugin { kind: "mask", tag: "any" },
    Plugin { kind: "mask", tag: "first_turns" },
    Plugin { kind: "mask", tag: "not" },
    Plugin { kind: "mask", tag: "repeated_call" },
    Plugin { kind: "mask", tag: "trajectory" },
    Plugin { kind: "optimizer", tag: "cispo" },
    Plugin { kind: "optimizer", tag: "dapo" },
    Plugin { kind: "optimizer", tag: "dr_grpo" },
    Plugin { kind: "optimizer", tag: "grpo" },
    Plugin { kind: "optimizer", tag: "gspo" },
    Plugin { kind: "optimizer", tag: "reinforce_plus_plus" },
    Plugin { kind: "optimizer", tag: "reinforce_plus_plus_baseline" },
    Plugin { kind: "optimizer", tag: "rloo" },
];
