//! What a run folder holds, in order of use: metrics of each step, then trajectories with their images; and how files are written.

mod files;
mod images;
mod metrics;
mod trajectory;

pub use files::{LinesWriter, SharedLines, check_target, read_lines, write_atomic};
pub use images::{ImageCodec, ImageSource};
pub use metrics::{MetricsRow, MetricsWriter, read_metrics};
pub use trajectory::{
    ImageEntry, TokenEntry, TrajectoryRecord, TurnEntry, file_stem, read_rollouts, rollouts_file, row_weights,
    write_rollouts,
};

pub(crate) use files::JsonLines;
