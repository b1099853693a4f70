//! The decode engine: all live trajectories of a rollout as one batch, each prompt computed once.
//!
//! `host` holds the weights, `cache` keys and values, `forward` runs rows of many streams through the model,
//! `sampler` draws tokens, `run` joins and leaves trajectories.

mod cache;
mod forward;
mod host;
mod run;
mod sampler;

pub(crate) use host::HostModel;
pub(crate) use run::{Request, run};
