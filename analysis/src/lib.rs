//! What a run leaves behind and how it is read: records, TensorBoard files, statistics, plots and the report.
//!
//! The crate must not know how a model computes, what a reward is for or how a run is configured: a metric is a name
//! with a number, and names it does not know are plotted all the same. Only [`alarms`] goes by what some of them mean.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod ablation;
pub mod alarms;
pub mod attention;
pub mod bca;
mod error;
pub mod plot;
pub mod record;
pub mod report;
pub mod stats;
pub mod table;
pub mod tensorboard;

pub use crate::error::AnalysisError;
pub use crate::record::{
    ImageCodec, ImageEntry, ImageSource, MetricsRow, MetricsWriter, TokenEntry, TrajectoryRecord, TurnEntry,
    read_metrics, read_rollouts, write_rollouts,
};
pub use crate::report::{Episode, EvalTable, RunData, load_run, report_html, write_ablation_report, write_report};
pub use crate::table::{before_after, table};
pub use crate::tensorboard::EventWriter;
