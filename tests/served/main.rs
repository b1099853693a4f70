//! Served models through the real binary over loopback: our client against our server, each against what may go wrong, and
//! the same figures with a server as without.
#![cfg(all(feature = "served", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod client;
#[path = "../cli/done.rs"]
mod done;
mod process;
mod refused;
mod replies;
mod rewrite;
mod scripted;
mod together;
