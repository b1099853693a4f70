//! A run with everything that it leaves on disk: metrics, trajectories, checkpoints, report; and going on after a stop.
//!
//! * `folder`: the run folder, and whether it may be written to;
//! * [`checkpoint`]: weights and optimiser state, to the bit;
//! * `observer`: what happens after each step;
//! * [`profile`]: where time and memory go;
//! * [`watch`]: who is told about progress.

pub mod checkpoint;
pub(crate) mod folder;
mod observer;
pub mod profile;
pub mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imagent_analysis::alarms::AlarmConfig;
use imagent_analysis::{EvalTable, EventWriter, MetricsWriter, read_metrics, write_report};
use imagent_core::{MaskSet, PolicyOptimizer, Reward, Toolbox};
use imagent_models::ops::Kernels;
use imagent_models::policy::QwenPolicy;

pub use folder::RunFolder;
pub use watch::{Quiet, Watch};

use crate::config::{Config, Schedule};
use crate::error::Error;
use crate::experiment::Experiment;
use observer::RunObserver;

/// Where and how a run leaves its files.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run folder.
    pub dir: PathBuf,
    /// Goes on from the folder's latest checkpoint, where there is one.
    pub resume: bool,
    /// What is saved as `config.toml`.
    pub config: String,
    /// What happens between the steps.
    pub schedule: Schedule,
    /// When to speak up.
    pub alarms: AlarmConfig,
    /// The checkpoint folder that the model was read from: its tokenizer and templates go into checkpoints.
    pub model_dir: PathBuf,
    /// Set from elsewhere to end the run after the step in progress.
    pub interrupt: Arc<AtomicBool>,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Steps done in the whole run.
    pub steps: usize,
    /// Held-out figures before training.
    pub before: Option<EvalTable>,
    /// Held-out figures after training.
    pub after: Option<EvalTable>,
}

/// Builds what a config names and trains it in the folder `dir`: `imagent train CONFIG --out DIR`, for a program with
/// plug-ins of its own.
///
/// # Errors
/// As [`Config::build`] and [`train`].
pub fn train_config(config: Config, dir: &Path, watch: &mut dyn Watch) -> Result<Outcome, Error> {
    let (text, schedule, alarms) = (config.to_toml(), config.train.schedule(), config.alarms.clone());
    let mut parts = config.build()?;
    let options = RunOptions {
        dir: dir.to_owned(),
        resume: false,
        config: text,
        schedule,
        alarms,
        model_dir: parts.model_dir.clone(),
        interrupt: Arc::default(),
    };
    train(&mut parts.experiment, &options, watch)
}

/// Trains, evaluates before and after, and keeps a run folder.
///
/// Resumed or not, a run leaves the same `metrics.jsonl` (times aside) and the same weights. The reference policy,
/// where the optimiser asks for one, is the model that the run started from.
///
/// # Errors
/// Whatever stops the run; [`Error::Interrupted`] leaves a checkpoint to go on from.
pub fn train<D, T, R, M, O>(
    experiment: &mut Experiment<QwenPolicy<D>, T, R, M, O>,
    options: &RunOptions,
    watch: &mut dyn Watch,
) -> Result<Outcome, Error>
where
    D: Kernels,
    T: Toolbox + ?Sized,
    R: Reward + ?Sized,
    M: MaskSet + ?Sized,
    O: PolicyOptimizer + ?Sized,
{
    experiment.settings.validate()?;
    let folder = RunFolder::create(&options.dir, options.resume, &options.config)?;
    if experiment.optimizer.needs_reference() {
        experiment.policy.freeze_reference().map_err(Error::OpenModel)?;
    }
    let start = match folder.latest_checkpoint()? {
        Some(dir) => checkpoint::load(&mut experiment.policy, &dir, experiment.settings.seed)?,
        None => 0,
    };
    let mut metrics = MetricsWriter::open(&folder.metrics())?;
    metrics.truncate_after(start)?;
    let events = match start {
        0 => EventWriter::create(&folder.tensorboard())?,
        _ => EventWriter::resume(&folder.tensorboard(), start)?,
    };
    if start < experiment.settings.steps {
        folder.forget_end()?;
    }
    watch.begin(start, experiment.settings.steps);

    let observer = RunObserver::new(&folder, options, metrics, events, watch, &experiment.settings);
    let steps = run_steps(experiment, start, observer)?;

    let rows = read_metrics(&folder.metrics())?;
    let table = |step: usize| rows.iter().find(|row| row.step == step).and_then(observer::eval_table);
    let outcome = Outcome { steps, before: table(0), after: table(steps) };
    write_report(&options.dir)?;
    if options.interrupt.load(std::sync::atomic::Ordering::Relaxed) && steps < experiment.settings.steps {
        let kept = format!("{} is kept, go on with --resume", folder.checkpoint(steps).display());
        return Err(Error::Interrupted { step: steps, kept });
    }
    Ok(outcome)
}

/// The evaluation before the first step, where it is not there yet, and all steps.
fn run_steps<D, T, R, M, O>(
    experiment: &mut Experiment<QwenPolicy<D>, T, R, M, O>,
    start: usize,
    mut observer: RunObserver<'_>,
) -> Result<usize, Error>
where
    D: Kernels,
    T: Toolbox + ?Sized,
    R: Reward + ?Sized,
    M: MaskSet + ?Sized,
    O: PolicyOptimizer + ?Sized,
{
    let Experiment { policy, toolbox, reward, masks, optimizer, source, held_out, settings, eval_sampling } =
        experiment;
    let (toolbox, reward, masks, optimizer) = (&**toolbox, &**reward, &**masks, &**optimizer);
    let plan = held_out.as_deref().map(|source| crate::experiment::EvalPlan::new(source, settings, eval_sampling));
    let mut evaluate = |policy: &mut QwenPolicy<D>, count: usize, watch: &mut dyn FnMut(usize, usize) -> bool| {
        plan.as_ref().map(|plan| plan.run(policy, toolbox, reward, count, watch)).transpose().map(Option::flatten)
    };
    observer.before(policy, &mut evaluate, start)?;
    let _span = tracing::trace_span!("training").entered();
    let mut failure = None;
    let done = imagent_algorithms::train(
        policy,
        toolbox,
        reward,
        masks,
        optimizer,
        &**source,
        settings,
        start,
        &mut |policy: &mut QwenPolicy<D>, report: &imagent_algorithms::StepReport, batch: &imagent_core::TrainBatch| {
            observer.after_step(policy, report, batch, &mut evaluate).map_err(|error| {
                let reason = error.to_string();
                failure = Some(error);
                imagent_algorithms::TrainError::Observer { step: report.step, reason }
            })
        },
    );
    match failure {
        Some(error) => Err(error),
        None => Ok(done?),
    }
}
