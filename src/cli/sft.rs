//! `imagent sft`: a model trained on conversations; or, where the file has stages, a nano base model from nothing, with a gate on each
//! stage.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use imagent::config::Document;
use imagent::sft::dialogue::run as run_sft;
use imagent::sft::{Course, Learnt, Progress, SftConfig, SftOptions, SftWatch, Stage, StageReport, run as run_course};
use imagent_analysis::MetricsRow;
use imagent_analysis::record::write_atomic;
use indicatif::{ProgressBar, ProgressStyle};

use super::{InputError, interrupt, print};

/// Arguments of `imagent sft`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The settings: of a training on conversations, or a course with `[[stages]]`
    config: PathBuf,
    /// Changes a setting: `sft.batch=16`, `stages.0.steps=100`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The run folder [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the latest checkpoint, or after the last stage that has one
    #[arg(long)]
    resume: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let document = Document::read(&args.config).map_err(imagent::Error::from)?;
    if document.table().contains_key("stages") { course(args) } else { conversations(args) }
}

fn conversations(args: Args) -> Result<()> {
    let config = SftConfig::read(&args.config, &args.sets).map_err(imagent::Error::from)?;
    let dir = args.out.unwrap_or_else(|| PathBuf::from("runs").join(&config.name));
    let options = SftOptions { dir, resume: args.resume, interrupt: interrupt::watch() };
    let mut told = Updates { bar: std::io::stderr().is_terminal().then(bar), steps: 0 };
    let done = run_sft(&config, &options, &mut told)?;
    let best =
        done.best.map(|(step, loss)| format!("held out    {loss:.4} nats a token after step {step}, the best\n"));
    print(&format!("updates     {}\n{}model       {}\n", done.steps, best.unwrap_or_default(), done.model.display()))
}

/// A bar on a terminal, a line every ten updates elsewhere.
struct Updates {
    bar: Option<ProgressBar>,
    steps: usize,
}

impl SftWatch for Updates {
    fn begin(&mut self, done: usize, steps: usize) {
        self.steps = steps;
        if let Some(bar) = &self.bar {
            bar.set_length(steps as u64);
            bar.set_position(done as u64);
        }
    }

    fn step(&mut self, row: &MetricsRow) {
        let loss =
            row.metrics.get("sft/loss").map_or("nothing to train on".to_owned(), |loss| format!("loss {loss:.4}"));
        match &self.bar {
            Some(bar) => {
                bar.set_position(row.step as u64);
                bar.set_message(loss);
            }
            None if row.step.is_multiple_of(10) || row.step == self.steps => {
                line(&self.bar, &format!("step {}/{}  {loss}", row.step, self.steps));
            }
            None => {}
        }
    }

    fn validated(&mut self, step: usize, loss: f64) {
        line(&self.bar, &format!("held out after {step} updates  loss {loss:.4}"));
    }
}

fn line(bar: &Option<ProgressBar>, text: &str) {
    match bar {
        Some(bar) => bar.println(text),
        // A reader that has gone away must not end the run.
        None => drop(writeln!(std::io::stderr(), "{text}")),
    }
}

fn course(args: Args) -> Result<()> {
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
        line(&self.bar, text);
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
