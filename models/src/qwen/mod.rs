//! Qwen2.5-VL on dfdx: parameters, vision tower, language model and what is packed into one pass.

pub mod batch;
mod dropout;
pub(crate) mod layout;
pub mod model;
pub mod positions;
pub mod probe;
pub(crate) mod rotary;
mod text;
pub mod trace;
mod tune;
mod vision;
pub mod weights;
pub mod windows;

pub use batch::{Packed, Sequence, SequenceImage, Target};
pub use model::Qwen;
pub use positions::Positions;
pub use trace::Trace;
pub use tune::{Parameter, Tuning};
pub use weights::{MatrixId, VectorId, Weights};
