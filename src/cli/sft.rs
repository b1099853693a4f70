//! `imagent sft`: a nano base model from nothing, stage by stage, with a gate on each.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use imagent::sft::{Course, Learnt, Progress, Stage, StageReport, run as run_course};
use imagent_analysis::record::write_atomic;
use indicatif::{ProgressBar, ProgressStyle};

use super::{InputError, print};

/// Arguments of `imagent sft`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The course
    config: PathBuf,
    /// Changes a setting: `batch=16`, `stages.0.steps=100`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The run folder [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on after the last stage that has a checkpoint
    #[arg(long)]
    resume: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let course = Course::read(&args.config, &args.sets).map_err(imagent::Error::from)?;
    let dir = args.out.unwrap_or_else(|| PathBuf::from("runs").join(&course.name));
    let resolved = toml::to_string(&course).context("the course cannot be written as TOML")?;
    let config = dir.join("config.toml");
    match std::fs::read_to_string(&config) {
        Ok(_) if !args.resume => {
            let problem = "holds a run already; continue it with --resume, or choose another folder with --out";
            return Err(InputError(format!("{}: {problem}", dir.display())).into());
        }
        Ok(found) if found != resolved => {
            let problem = "is of another course; only a run with its own course can be resumed";
            return Err(InputError(format!("{}: {problem}", config.display())).into());
        }
        Ok(_) => {}
        Err(_) => write_atomic(&config, resolved.as_bytes())?,
    }
    let mut told = Told { bar: std::io::stderr().is_terminal().then(bar), log: dir.join("stages.jsonl") };
    let model = run_course(&course, &dir, &mut told)?;
    print(&format!("model  {}\n", model.display()))
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    // The template is a constant that parses.
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {elapsed}  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// A bar on a terminal, a line every 50 updates elsewhere; stages as lines of a file.
struct Told {
    bar: Option<ProgressBar>,
    log: PathBuf,
}

impl Told {
    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // A reader that has gone away must not end the run.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }
}

impl Progress for Told {
    fn step(&mut self, stage: &Stage, step: u64, learnt: Learnt) {
        let said = |name, mean: Option<f64>| mean.map_or(String::new(), |mean| format!("  {name} {mean:.3}"));
        let learnt = said("taught", learnt.taught) + &said("labels", learnt.labels);
        match &self.bar {
            Some(bar) => {
                bar.set_length(stage.steps);
                bar.set_position(step);
                bar.set_message(format!("{}{learnt}", stage.name));
            }
            None if step.is_multiple_of(50) => {
                self.line(&format!("{} {step}/{}{learnt}", stage.name, stage.steps));
            }
            None => {}
        }
    }

    fn stage(&mut self, report: &StageReport) -> std::io::Result<()> {
        let figures: String = report.figures.iter().map(|(name, value)| format!("  {name} {value:.3}")).collect();
        self.line(&format!("{} done in {:.0} s{figures}", report.stage, report.seconds));
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        writeln!(log, "{}", serde_json::to_string(report)?)
    }
}
