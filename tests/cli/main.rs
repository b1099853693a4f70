//! The command line through the real binary: what it does, what it refuses, and that a run is a function of its input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ablate;
mod bad_input;
mod bench;
mod commands;
mod datasets;
mod done;
mod harness;
mod interrupt;
mod lora;
mod methods;
mod mirg;
mod models;
mod runs;
mod settings;
mod watching;
mod weights;
