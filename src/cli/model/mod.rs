//! `imagent model`: what can be done to a model without running it.

mod adapter;
mod info;
mod init;
mod merge;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use imagent_models::config::Dtype;

/// Arguments of `imagent model`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a random checkpoint of a named size, in Hugging Face's layout
    Init(init::Args),
    /// Tell what a model or an adapter is, how many tokens images take, and what memory it needs; weights are not read
    Info(info::Args),
    /// Add an adapter's low-rank terms to a model's weights
    Merge(merge::Args),
}

/// An element type on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
}

impl From<Stored> for Dtype {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::F32 => Self::F32,
            Stored::F16 => Self::F16,
            Stored::Bf16 => Self::Bf16,
        }
    }
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Init(args) => init::run(args),
        Command::Info(args) => info::run(args),
        Command::Merge(args) => merge::run(args),
    }
}
