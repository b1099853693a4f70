//! Masks: which sampled tokens the loss counts. One file each; they see trajectories, never rewards. A list of masks is
//! their product; `any`, `all` and `not` make other compositions of them.

mod action;
mod all;
mod any;
mod first_turns;
mod not;
mod repeated_call;
mod trajectory;

pub use action::ActionMask;
pub use all::AllMask;
pub use any::AnyMask;
pub use first_turns::FirstTurnsMask;
pub use not::NotMask;
pub use repeated_call::{Masked, RepeatedCallMask};
pub use trajectory::TrajectoryMask;
