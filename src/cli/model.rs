//! `imagent model`: what can be done to a model without running it.

use anyhow::Result;
use clap::Subcommand;

use super::model_merge;

/// Arguments of `imagent model`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Add an adapter's low-rank terms to a model's weights
    Merge(model_merge::Args),
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Merge(args) => model_merge::run(args),
    }
}
