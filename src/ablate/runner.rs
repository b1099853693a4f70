//! Runs what is left of an ablation, each run as `imagent train` in a process of its own: one that fails, or takes all memory, leaves
//! the others alone.
//!
//! A run's process goes on until its standard input closes, which it takes for a request to finish the step and keep a checkpoint:
//! so it ends in good order also when this process is killed. Its log file is locked for as long as it lives, so that
//! two processes never write one run.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use imagent_analysis::ablation::{is_finished, last_step};

use super::{Plan, PlannedEval, PlannedRun, State};
use crate::error::Error;

/// How often processes are looked after.
const TICK: Duration = Duration::from_millis(100);
/// How long a run that another process is just ending is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How runs are run.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// The program: this one.
    pub program: PathBuf,
    /// Runs at a time, at least 1.
    pub jobs: usize,
    /// Threads of all runs together.
    pub threads: usize,
    /// Set from elsewhere to end all runs after their step in progress.
    pub interrupt: Arc<AtomicBool>,
}

/// What came of the runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Runs that are whole, those found so included.
    pub done: usize,
    /// Name and reason of runs that failed.
    pub failed: Vec<String>,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

/// What is told of the work.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// A run was found whole.
    Reused(&'a PlannedRun),
    /// A run starts, after so many steps that were found.
    Started(&'a PlannedRun, usize),
    /// A run is done, in this time.
    Done(&'a PlannedRun, Duration),
    /// A run failed, for this reason.
    Failed(&'a PlannedRun, String),
    /// Where things stand.
    Progress {
        /// Runs that are done or have failed.
        over: usize,
        /// The runs in progress, with the steps that they have done.
        live: Vec<(&'a PlannedRun, usize)>,
        /// Time that is probably left; `None` before anything is known.
        left: Option<Duration>,
    },
}

struct Live<'a> {
    run: &'a PlannedRun,
    child: Child,
    since: Instant,
    found: usize,
    /// The evaluation that is made; none while it trains.
    eval: Option<&'a PlannedEval>,
}

/// Runs all that is not done.
///
/// # Errors
/// When a process cannot be started or a folder cannot be read; a run that fails is told in the summary.
pub fn run_all(plan: &Plan, options: &RunnerOptions, tell: &mut dyn FnMut(&Event<'_>)) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let mut queue = VecDeque::new();
    for run in &plan.runs {
        match run.state()? {
            State::Done => {
                summary.done += 1;
                tell(&Event::Reused(run));
            }
            State::New => queue.push_back((run, 0)),
            State::Trained => queue.push_back((run, run.steps)),
            State::Cut(step) => queue.push_back((run, step)),
        }
    }
    let mut work = Work { options, live: Vec::new(), begun: Instant::now(), steps_done: 0, told: Instant::now() };
    let worked = work.through(queue, &mut summary, tell);
    // Whatever happened, no run is left behind on its own.
    work.end_all();
    worked.map(|()| summary)
}

struct Work<'a> {
    options: &'a RunnerOptions,
    live: Vec<Live<'a>>,
    begun: Instant,
    /// Steps of runs that ended here, without those that were found.
    steps_done: usize,
    told: Instant,
}

impl<'a> Work<'a> {
    fn through(
        &mut self,
        mut queue: VecDeque<(&'a PlannedRun, usize)>,
        summary: &mut Summary,
        tell: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), Error> {
        loop {
            summary.interrupted = self.options.interrupt.load(Ordering::Relaxed);
            if summary.interrupted {
                // Closing their input asks the runs to end.
                self.live.iter_mut().for_each(|live| drop(live.child.stdin.take()));
            }
            while !summary.interrupted
                && self.live.len() < self.options.jobs.max(1)
                && let Some((run, found)) = queue.pop_front()
            {
                tell(&Event::Started(run, found));
                let eval = if run.state()? == State::Trained { run.next_eval()? } else { None };
                let child = start(run, eval, self.options)?;
                self.live.push(Live { run, child, since: Instant::now(), found, eval });
            }
            if self.live.is_empty() {
                return Ok(());
            }
            self.collect(summary, tell)?;
            if self.told.elapsed() > Duration::from_secs(1) {
                self.told = Instant::now();
                self.progress(&queue, summary, tell);
            }
            std::thread::sleep(TICK);
        }
    }

    /// Takes the runs that have ended.
    fn collect(&mut self, summary: &mut Summary, tell: &mut dyn FnMut(&Event<'_>)) -> Result<(), Error> {
        let mut at = 0;
        while at < self.live.len() {
            let live = &mut self.live[at];
            let Some(status) = live.child.try_wait().map_err(io(&live.run.dir))? else {
                at += 1;
                continue;
            };
            let run = live.run;
            let reason = outcome(run, live.eval, status)?;
            // A run's evaluations follow it in its place.
            if reason.is_none()
                && !self.options.interrupt.load(Ordering::Relaxed)
                && let Some(eval) = run.next_eval()?
            {
                live.child = start(run, Some(eval), self.options)?;
                live.eval = Some(eval);
                continue;
            }
            let Live { since, found, .. } = self.live.remove(at);
            self.steps_done += steps(run).saturating_sub(found);
            match reason {
                None if run.next_eval()?.is_some() => {}
                None => {
                    summary.done += 1;
                    tell(&Event::Done(run, since.elapsed()));
                }
                Some(_) if self.options.interrupt.load(Ordering::Relaxed) => {}
                Some(reason) => {
                    tell(&Event::Failed(run, reason.clone()));
                    summary.failed.push(format!("{}: {reason}", run.name()));
                }
            }
        }
        Ok(())
    }

    fn progress(&self, queue: &VecDeque<(&'a PlannedRun, usize)>, summary: &Summary, tell: &mut dyn FnMut(&Event<'_>)) {
        let live: Vec<(&PlannedRun, usize)> = self.live.iter().map(|live| (live.run, steps(live.run))).collect();
        let here: usize = live.iter().zip(&self.live).map(|((_, done), live)| done.saturating_sub(live.found)).sum();
        let waiting: usize = queue.iter().map(|(run, found)| run.steps.saturating_sub(*found)).sum();
        let going: usize = live.iter().map(|(run, done)| run.steps.saturating_sub(*done)).sum();
        let done = self.steps_done + here;
        let left = (done > 0).then(|| self.begun.elapsed().mul_f64((waiting + going) as f64 / done as f64));
        tell(&Event::Progress { over: summary.done + summary.failed.len(), live, left });
    }

    fn end_all(&mut self) {
        for live in &mut self.live {
            drop(live.child.stdin.take());
        }
        for live in &mut self.live {
            // It ends by itself; there is nobody left to tell if not.
            let _ = live.child.wait();
        }
    }
}

/// Steps that a run has done; what cannot be read just now counts as none.
fn steps(run: &PlannedRun) -> usize {
    last_step(&run.dir.join("metrics.jsonl")).unwrap_or(0)
}

/// Why the run, or the evaluation of it, is not whole, if so.
fn outcome(run: &PlannedRun, eval: Option<&PlannedEval>, status: ExitStatus) -> Result<Option<String>, Error> {
    let whole = match eval {
        Some(eval) => eval.is_done()?,
        None => is_finished(&run.dir)?,
    };
    if status.success() && whole {
        return Ok(None);
    }
    let text = fs::read(log_path(eval.map_or(&run.dir, |eval| &eval.dir))).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let said = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
    let said = said.map_or_else(|| format!("it ended with {status}"), str::to_owned);
    Ok(Some(eval.map_or_else(|| said.clone(), |eval| format!("evaluation {}: {said}", eval.name))))
}

/// Where a process writes what it says: beside the folder that it fills.
fn log_path(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".log");
    dir.with_file_name(name)
}

fn start(run: &PlannedRun, eval: Option<&PlannedEval>, options: &RunnerOptions) -> Result<Child, Error> {
    let dir = eval.map_or(&run.dir, |eval| &eval.dir);
    let log = open_log(dir)?;
    clear_stale(dir)?;
    let mut command = Command::new(&options.program);
    command.arg(if eval.is_some() { "eval" } else { "train" }).arg(&run.base);
    let sets = eval.map_or(&run.sets, |eval| &eval.sets);
    command.args(sets.iter().flat_map(|set| ["--set", set]));
    match eval {
        Some(_) => {
            command.args(run.checkpoint().iter().flat_map(|model| [Path::new("--model"), model]));
            command.arg("--save").arg(dir);
        }
        None => {
            command.arg("--out").arg(dir).args(["--resume", "--until-input-ends"]);
        }
    }
    let threads = (options.threads / options.jobs.max(1)).max(1);
    command.env("RAYON_NUM_THREADS", threads.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    own_group(&mut command);
    command.spawn().map_err(io(&options.program))
}

/// The terminal's Ctrl-C is for this process alone, which asks the runs to end.
#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_: &mut Command) {}

/// The log file of a run, emptied and locked; the process that inherits it holds the lock.
fn open_log(dir: &Path) -> Result<File, Error> {
    let path = log_path(dir);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io(parent))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io(&path))?;
    let since = Instant::now();
    // A lock of Windows would keep the process itself from writing.
    while cfg!(unix) {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if since.elapsed() < PATIENCE => std::thread::sleep(TICK),
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(Error::Io { path, source }),
        }
    }
    file.set_len(0).map_err(io(&path))?;
    Ok(file)
}

/// Removes what a process leaves that is killed before its first file is whole: it would look like somebody else's.
fn clear_stale(dir: &Path) -> Result<(), Error> {
    let staged = dir.join(".config.toml.tmp");
    if staged.is_file() && !dir.join("config.toml").exists() {
        fs::remove_file(&staged).map_err(io(&staged))?;
    }
    Ok(())
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
