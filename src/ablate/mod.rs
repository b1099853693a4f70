//! Ablations: the arms of an experiment, each with every seed, as run folders of one folder; resumed, reused and compared.
//!
//! * [`config`]: the file: base, arms, seeds, further evaluations;
//! * [`plan`]: which runs there are, what state they are in, and whether the folder is that of this file;
//! * `evals`: further evaluations of a run;
//! * [`runner`]: runs what is left, each as `imagent train` or `imagent eval` in a process of its own;
//! * [`results`]: tables, curves and report.

pub mod config;
mod evals;
pub mod plan;
pub mod results;
pub mod runner;

pub use config::AblationConfig;
pub use evals::{PlannedEval, check_saved, save_evaluation};
pub use plan::{Plan, PlannedRun, State};
pub use results::write_results;
pub use runner::{RunnerOptions, Summary, run_all};
