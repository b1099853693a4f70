//! `imagent model`: make random checkpoints, and tell what is in a model.

mod info;
mod init;

use anyhow::Result;
use clap::Subcommand;

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
    /// Tell what a model is, how many tokens images take, and what memory it needs; weights are not read
    Info(info::Args),
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Init(args) => init::run(args),
        Command::Info(args) => info::run(args),
    }
}
