//! Policy optimisers: rewards to advantages, log-probabilities to a loss with its exact derivative. One file each;
//! [`Grpo`] is the engine, and the others are it with defaults of their own (`preset`). Its pieces are
//!
//! * rewards to advantages: `baseline` (within a group), `batch` (over a step: returns, KL in the reward, whitening);
//! * log-probabilities to the loss of a token: `surrogate`, `kl`, and the `terms` that both are made of;
//! * tokens to one number: `aggregation`; figures for the log: `tally`;
//! * fields from a config: `given` (over an optimiser's defaults) and `off` (bounds that can be switched off).
//!
//! An optimiser must not know what a model is: it sees numbers.

mod aggregation;
mod baseline;
mod batch;
mod cispo;
mod dapo;
mod dr_grpo;
mod given;
mod grpo;
mod gspo;
mod kl;
mod off;
mod preset;
mod reinforce_plus_plus;
mod reinforce_plus_plus_baseline;
mod rloo;
mod surrogate;
mod tally;
mod terms;

pub use aggregation::Aggregation;
pub use baseline::{Baseline, Lone};
pub use batch::BatchScale;
pub use cispo::Cispo;
pub use dapo::Dapo;
pub use dr_grpo::DrGrpo;
pub use grpo::Grpo;
pub use gspo::Gspo;
pub use kl::{KlEstimator, KlIn};
pub use reinforce_plus_plus::ReinforcePlusPlus;
pub use reinforce_plus_plus_baseline::ReinforcePlusPlusBaseline;
pub use rloo::Rloo;
pub use surrogate::Surrogate;
