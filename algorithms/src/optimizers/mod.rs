//! Policy optimisers: rewards to advantages, log-probabilities to a loss with its exact derivative. One file each;
//! what they share is in `aggregation` (how tokens become one number), `terms` (ratios and k3), `tally` (metrics) and
//! `off` (bounds that can be switched off).
//!
//! An optimiser must not know what a model is: it sees numbers.

mod aggregation;
mod grpo;
mod off;
mod tally;
mod terms;

pub use aggregation::Aggregation;
pub use grpo::Grpo;
