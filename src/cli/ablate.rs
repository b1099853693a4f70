//! `imagent ablate`: the arms of an experiment over seeds, compared.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use imagent::Error;
use imagent::ablate::runner::Event;
use imagent::ablate::{AblationConfig, Plan, PlannedRun, RunnerOptions, run_all, write_results};
use indicatif::{ProgressBar, ProgressStyle};

use super::{InputError, interrupt, print};

/// Arguments of `imagent ablate`.
///
/// Runs every arm with every seed into DIR/ARM/seed-N, as `imagent train` would. The same command again reuses what is done and goes
/// on where it was cut off.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Base config, arms and seeds
    config: PathBuf,
    /// Changes a setting of the base, for all arms; an arm's own changes come after
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The ablation's folder [default: runs/NAME, NAME being that of the file]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs at a time; they share the threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    if args.jobs == 0 {
        return Err(InputError("--jobs: must be at least 1".to_owned()).into());
    }
    let ablation = AblationConfig::read(&args.config, &args.sets).map_err(Error::from)?;
    let dir = args.out.unwrap_or_else(|| PathBuf::from("runs").join(&ablation.name));
    let plan = Plan::new(&ablation, &args.sets, &dir)?;
    plan.prepare()?;
    let options = RunnerOptions {
        program: std::env::current_exe().context("cannot find this program")?,
        jobs: args.jobs,
        threads: rayon::current_num_threads(),
        interrupt: interrupt::watch(),
    };
    let runs = plan.runs.len();
    let mut teller = Teller::new(runs);
    let summary = run_all(&plan, &options, &mut |event| teller.tell(event))?;
    teller.finish();
    let comparison = write_results(&dir)?;
    let report = dir.join("report.html");
    if args.json {
        print(&format!("{}\n", String::from_utf8_lossy(&comparison.json())))?;
    } else {
        print(&format!("{}report      {}\n", comparison.text(), report.display()))?;
    }
    if summary.interrupted && summary.done < runs {
        return Err(Error::InterruptedAblation { done: summary.done, runs }.into());
    }
    match summary.failed {
        failed if failed.is_empty() => Ok(()),
        failed => Err(Error::FailedRuns { runs, failed }.into()),
    }
}

/// A bar on a terminal, lines elsewhere.
struct Teller {
    runs: usize,
    begun: usize,
    /// What was told last of runs in progress.
    said: Option<(usize, usize)>,
    bar: Option<ProgressBar>,
}

impl Teller {
    fn new(runs: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(runs as u64));
        // The template is a constant that parses.
        if let (Some(bar), Ok(style)) =
            (&bar, ProgressStyle::with_template("{bar:24} {pos}/{len} runs  {elapsed}  {msg}"))
        {
            bar.set_style(style);
        }
        Self { runs, begun: 0, said: None, bar }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // A reader that has gone away must not end the runs.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    fn begin(&mut self, run: &PlannedRun) -> String {
        self.begun += 1;
        format!("run {}/{}  {}", self.begun, self.runs, run.name())
    }

    fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Reused(run) => {
                let head = self.begin(run);
                self.line(&format!("{head}  done already"));
                self.advance();
            }
            Event::Started(run, 0) if run.steps > 0 => {
                let head = self.begin(run);
                self.line(&format!("{head}  started, {} steps", run.steps));
            }
            Event::Started(run, found) if *found >= run.steps => {
                let head = self.begin(run);
                self.line(&format!("{head}  trained already, to be evaluated"));
            }
            Event::Started(run, found) => {
                let head = self.begin(run);
                self.line(&format!("{head}  goes on after about step {found} of {}", run.steps));
            }
            Event::Done(run, took) => {
                self.line(&format!("{}  done in {}", run.name(), time(*took)));
                self.advance();
            }
            Event::Failed(run, reason) => {
                self.line(&format!("{}  failed: {reason}", run.name()));
                self.advance();
            }
            Event::Progress { over, live, left } => self.progress(*over, live, *left),
        }
    }

    fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    fn progress(&mut self, over: usize, live: &[(&PlannedRun, usize)], left: Option<Duration>) {
        let left = left.map(|left| format!("  about {} left", time(left))).unwrap_or_default();
        let runs: Vec<String> = live.iter().map(|(run, at)| format!("{} {at}/{}", run.name(), run.steps)).collect();
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}{left}", runs.join(", "))),
            None => {
                // A log wants to know now and then, not every second.
                let key = (over, live.iter().map(|(_, at)| at).sum::<usize>() / 10);
                if !left.is_empty() && self.said != Some(key) {
                    self.said = Some(key);
                    self.line(&format!("{over}/{} runs over; {}{left}", self.runs, runs.join(", ")));
                }
            }
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
