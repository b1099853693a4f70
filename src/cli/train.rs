//! `imagent train`: reinforcement learning from a config.

use std::path::PathBuf;

use anyhow::Result;
use imagent::config::Config;
use imagent::run::profile::Profile;
use imagent::run::{self, Outcome, RunFolder, RunOptions};
use imagent_analysis::before_after;

use super::{interrupt, print, progress};

/// Arguments of `imagent train`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run's settings
    config: PathBuf,
    /// Changes a setting: `train.steps=20`, `masks.0.type=action`, `tools=[]`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The run folder [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Prints where time and memory went, by parts of a step
    #[arg(long)]
    profile: bool,
    /// Go on from the run folder's latest checkpoint
    #[arg(long)]
    resume: bool,
    /// Ends the run in good order when standard input closes: for a program that runs this one
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let config = Config::read(&args.config, &args.sets).map_err(imagent::Error::from)?;
    let dir = args.out.unwrap_or_else(|| PathBuf::from("runs").join(&config.name));
    let (text, schedule, alarms) = (config.to_toml(), config.train.schedule(), config.alarms.clone());
    // Before anything slow is done, and again when the run starts.
    RunFolder::check(&dir, args.resume, &text)?;
    let mut parts = config.build()?;
    let interrupt = interrupt::watch();
    if args.until_input_ends {
        interrupt::watch_input(&interrupt);
    }
    let options = RunOptions {
        dir: dir.clone(),
        resume: args.resume,
        config: text,
        schedule,
        alarms,
        model_dir: parts.model_dir.clone(),
        interrupt,
    };
    let profile = args.profile.then(Profile::start).transpose()?;
    let outcome = run::train(&mut parts.experiment, &options, progress::reporter().as_mut())?;
    let Outcome { before, after, steps } = outcome;
    let table = before_after(before.as_ref(), after.as_ref());
    let checkpoint = dir.join("checkpoints").join(format!("step-{steps:06}"));
    let report = dir.join("report.html");
    if let Some(profile) = profile {
        print(&format!("{}\n", profile.table()))?;
    }
    print(&format!("{table}\ncheckpoint  {}\nreport      {}\n", checkpoint.display(), report.display()))
}
