//! The decode engine: all live trajectories of a rollout as one batch, each prompt computed once.
//!
//! `host` lends the weights, `cache` holds keys and values, `forward` runs rows of many streams through the model,
//! `attention` lets them see what was before, `sampler` draws tokens, `run` joins and leaves trajectories, `calls` has finished
//! turns answered on other threads.

mod attention;
mod cache;
mod calls;
mod forward;
mod host;
mod run;
mod sampler;

pub(crate) use host::HostModel;
pub(crate) use run::{Request, run};
