//! The decode engine: all live trajectories of a rollout as one batch, each prompt computed once.
//!
//! `host` lends the weights, `cache` holds keys and values, `forward` runs rows of many streams through the model,
//! `attention` lets them see what was before, `sampler` draws tokens, `run` joins and leaves trajectories, `calls` has finished
//! turns answered on other threads, `serve` joins and leaves streams of guests that nobody knows beforehand.

mod attention;
mod cache;
mod calls;
mod forward;
mod host;
mod run;
mod sampler;
mod serve;

pub(crate) use host::HostModel;
pub(crate) use run::{Request, run};
pub(crate) use serve::{House, serve};
