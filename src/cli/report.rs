//! `imagent report`: writes the report of runs and of ablations anew.

use std::path::PathBuf;

use anyhow::Result;
use imagent::ablate::write_results;
use imagent_analysis::ablation::INDEX;
use imagent_analysis::write_report;

use super::{InputError, print};

/// Arguments of `imagent report`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folders, or folders of ablations
    #[arg(required = true, value_name = "RUN_DIR")]
    runs: Vec<PathBuf>,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    for run in args.runs {
        if run.join(INDEX).is_file() {
            write_results(&run)?;
            print(&format!("{}\n", run.join("report.html").display()))?;
            continue;
        }
        if !run.join("config.toml").is_file() {
            return Err(InputError(format!("{}: not a run folder, it has no config.toml", run.display())).into());
        }
        print(&format!("{}\n", write_report(&run)?.display()))?;
    }
    Ok(())
}
