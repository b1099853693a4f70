//! Masks: which sampled tokens the loss counts. One file each; they see trajectories, never rewards.

mod action;
mod trajectory;

pub use action::ActionMask;
pub use trajectory::TrajectoryMask;
