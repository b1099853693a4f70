//! `imagent data`: make, check and describe dataset folders.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use imagent::config::Document;
use imagent_analysis::table;
use imagent_core::SampleSource;
use imagent_data::{Folder, SynthConfig, check, ensure_synth};

use super::{InputError, print};

/// Arguments of `imagent data`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a dataset of the synthetic multi-image world
    Synth {
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How many samples [default: 1000]
        #[arg(long, value_name = "N")]
        samples: Option<usize>,
        /// Seed of the world [default: 1]
        #[arg(long, value_name = "SEED")]
        seed: Option<u64>,
        /// Changes a setting of the world: `world.images=[2,3]`, `world.questions.read=1`
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Read every sample and image of a folder and list what is wrong
    Check {
        /// The folder
        path: PathBuf,
    },
    /// Count samples by kind, images and zooms needed
    Stats {
        /// The folder
        path: PathBuf,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a dataset of hard questions about several images, by agents that check each other
    Pipeline {
        /// The pipeline
        config: PathBuf,
        /// The folder to keep everything in [default: the config's]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Changes a setting
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Print counts and costs as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the questions of a pipeline on a page, to accept, edit or reject them
    Review {
        /// The folder of the pipeline
        path: PathBuf,
        /// The port on this machine; 0 takes a free one
        #[arg(long, value_name = "PORT", default_value_t = 8001)]
        port: u16,
    },
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Synth { out, samples, seed, sets } => {
            let given = [("samples", samples.map(|n| n.to_string())), ("seed", seed.map(|n| n.to_string()))];
            let given = given.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
            synth(&out, given.chain(sets))
        }
        Command::Check { path } => {
            let report = check(&path);
            if report.is_clean() {
                return print(&format!("{report}\n"));
            }
            Err(InputError(report.to_string()).into())
        }
        Command::Stats { path, json } => stats(&path, json),
        Command::Pipeline { config, out, sets, json } => super::pipeline::run(&config, out, sets, json),
        Command::Review { path, port } => super::pipeline::review(path, port),
    }
}

fn synth(out: &std::path::Path, sets: impl Iterator<Item = String>) -> Result<()> {
    let mut document = Document::default();
    for set in sets {
        document.set(&set, &toml::Table::new()).map_err(imagent::Error::from)?;
    }
    let config: SynthConfig = document.decode().map_err(imagent::Error::from)?;
    let made = ensure_synth(&config, out).map_err(imagent::Error::from)?;
    let how = if made.written { "written to" } else { "already in" };
    print(&format!("{} samples with {} images {how} {}\n", made.samples, made.images, out.display()))
}

fn stats(path: &std::path::Path, json: bool) -> Result<()> {
    let folder = Folder::open(path).map_err(imagent::Error::from)?;
    let mut counts: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for position in 0..folder.len() {
        let sample = folder.sample(position).map_err(imagent::Error::from)?;
        let zooms = sample.zooms_needed.map_or_else(|| "unknown".to_owned(), |zooms| zooms.to_string());
        for (what, value) in
            [("kind", sample.kind), ("images", sample.images.len().to_string()), ("zooms needed", zooms)]
        {
            *counts.entry(what).or_default().entry(value).or_default() += 1;
        }
    }
    if json {
        let all = serde_json::json!({"samples": folder.len(), "images": folder.image_files(), "counts": counts});
        return print(&format!("{all:#}\n"));
    }
    let mut rows = vec![vec!["samples".to_owned(), String::new(), folder.len().to_string()]];
    rows.push(vec!["image files".to_owned(), String::new(), folder.image_files().to_string()]);
    let line = |what: &str, value: &String, count: &usize| vec![what.to_owned(), value.clone(), count.to_string()];
    rows.extend(counts.iter().flat_map(|(what, of)| of.iter().map(move |(value, count)| line(what, value, count))));
    print(&table(&["what", "value", "count"], &rows))
}
