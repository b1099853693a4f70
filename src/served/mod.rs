//! Models that are served in OpenAI's form: asking one, and serving one of ours.
//!
//! * `ask`: one question about images;
//! * `client`: the chat model behind an address;
//! * `evaluate`: episodes and evaluations over a chat model;
//! * `rewrite`: trajectories in a chat model's words;
//! * `server`: `/v1/chat/completions` over the decode engine.
//!
//! [ADR 24](https://github.com/imagent-rs/imagent/blob/main/docs/adr/0024-served-models.md) says why it is built like this.

pub(crate) mod ask;
#[cfg(feature = "served")]
pub mod client;
pub mod evaluate;
pub mod rewrite;
#[cfg(feature = "served")]
pub mod server;

#[cfg(feature = "served")]
pub use client::OpenAi;
