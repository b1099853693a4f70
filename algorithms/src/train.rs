//! The training loop: one function that reads in the order in which data flows. Plug-ins live at its edges.
//!
//! It runs in one process. Several would have to sum gradients, which are the model's, so a seam for workers belongs to
//! [`Policy`] and not here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use imagent_core::{
    Group, MaskSet, Policy, PolicyError, PolicyOptimizer, Reward, RolloutRequest, Sample, SampleSource, Toolbox,
    TrainBatch, Trajectory, rollout,
};

use crate::ahead::beside;
use crate::error::TrainError;
use crate::metrics::rollout_metrics;
use crate::refill::Refill;
use crate::sampler::SampleCursor;
use crate::settings::TrainSettings;
use crate::update::{minibatches, prepare, update_all};

/// What came of a step. All but `seconds` is a function of config, data and seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepReport {
    /// The step, counted from 0.
    pub step: usize,
    /// Figures by name; see [`crate::METRICS`].
    pub metrics: BTreeMap<String, f64>,
    /// Wall time by stage: `rollout`, `reward`, `score`, `update`.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With the next step.
    Continue,
    /// No: the run ends after this step, in good order.
    Stop,
}

/// Watches a run: logs, saves checkpoints, evaluates.
pub trait TrainObserver<P> {
    /// Called after each step, with its report and its rows (those left out of the updates included).
    ///
    /// # Errors
    /// Whatever makes it useless to go on, as [`TrainError::Observer`].
    fn on_step(&mut self, policy: &mut P, report: &StepReport, batch: &TrainBatch) -> Result<Flow, TrainError>;
}

/// An observer that is a function.
impl<P, F> TrainObserver<P> for F
where
    F: FnMut(&mut P, &StepReport, &TrainBatch) -> Result<Flow, TrainError>,
{
    fn on_step(&mut self, policy: &mut P, report: &StepReport, batch: &TrainBatch) -> Result<Flow, TrainError> {
        self(policy, report, batch)
    }
}

/// Trains `policy` from step `first_step` (0, or where a checkpoint left off) to the last step of `settings`.
///
/// Returns the number of steps done in the whole run, those before `first_step` included: the `first_step` of whoever
/// goes on. A step is a function of the seed, its number and the policy, so a resumed run gives the same reports.
///
/// Of each step: samples by [`SampleCursor`]; `group_size` rollouts each; rewards; advantages
/// and masks; the log-probabilities that the loss needs; then for each of `epochs` passes, the groups in a seeded order
/// cut into `minibatches` parts, one update each. Flat groups are left out of the updates where the settings say so, and
/// replaced by groups of further samples, drawn by seed and step, for up to `refill_rounds` rounds; figures and the observer
/// have all of them. A part without weight or without gradient is skipped and counted as `update/skipped`. While a step
/// computes, the samples of the next are made ready on other threads ([`SampleSource::prefetch`]).
///
/// With an `importance_cap`, the policy scores the sampled tokens before the first update. Ratios are against these scores,
/// and a token's policy loss has the factor `min(exp(scored − sampled), importance_cap)`.
///
/// # Errors
/// A setting out of range, a sample that cannot be read, a failing model or observer.
#[allow(clippy::too_many_arguments, reason = "the parts of a run, each named once")]
pub fn train<P, T, R, M, O>(
    policy: &mut P,
    toolbox: &T,
    reward: &R,
    masks: &M,
    optimizer: &O,
    source: &dyn SampleSource,
    settings: &TrainSettings,
    first_step: usize,
    observer: &mut dyn TrainObserver<P>,
) -> Result<usize, TrainError>
where
    P: Policy,
    T: Toolbox + ?Sized,
    R: Reward + ?Sized,
    M: MaskSet + ?Sized,
    O: PolicyOptimizer + ?Sized,
{
    settings.validate()?;
    let cursor = cursor(source, settings)?;
    let encoder = policy.encoder();
    beside(source, &*encoder, |ahead| {
        for step in first_step..settings.steps {
            let failed = |stage| move |source| TrainError::Policy { step, stage, source };
            let mut watch = Stopwatch::start();
            ahead.want(&cursor, step + 1..settings.steps);

            let mut groups = Vec::new();
            let mut draws = cursor.draws(step);
            let mut refill = Refill::new(&cursor, step, settings);
            while !draws.is_empty() {
                let mut rollouts = Vec::new();
                for draw in draws {
                    let samples = read(source, &draw.positions)?;
                    let request = settings.request(draw.round);
                    rollouts.extend(roll(policy, toolbox, samples, &request).map_err(failed("rollout"))?);
                }
                watch.lap("rollout");

                groups.extend(grade(rollouts, reward));
                draws = refill.next(&groups).into_iter().collect();
                watch.lap("reward");
            }
            let mut metrics = rollout_metrics(&groups);
            metrics.extend(refill.metrics());

            let kept: Vec<bool> = groups.iter().map(|group| !(settings.drop_flat_groups && group.is_flat())).collect();
            let mut batch = TrainBatch::new(groups, optimizer, masks);
            metrics.extend(prepare(policy, optimizer, &mut batch, &kept, settings).map_err(failed("score"))?);
            watch.lap("score");

            let parts = minibatches(&batch, &kept, settings, step);
            metrics.extend(update_all(policy, optimizer, &batch, &parts, settings).map_err(failed("update"))?);
            watch.lap("update");

            let report = StepReport { step, metrics, seconds: watch.laps };
            if observer.on_step(policy, &report, &batch)? == Flow::Stop {
                return Ok(step + 1);
            }
        }
        Ok(settings.steps.max(first_step))
    })
}

/// Rolls out and grades the samples at `positions`, `batch` samples at a time; figures over all of them.
///
/// # Errors
/// A sample that cannot be read, or a failing model.
pub fn evaluate<P, T, R>(
    policy: &mut P,
    toolbox: &T,
    reward: &R,
    source: &dyn SampleSource,
    positions: &[usize],
    batch: usize,
    request: &RolloutRequest,
) -> Result<(BTreeMap<String, f64>, Vec<Group>), TrainError>
where
    P: Policy + ?Sized,
    T: Toolbox + ?Sized,
    R: Reward + ?Sized,
{
    let mut groups = Vec::new();
    for positions in positions.chunks(batch.max(1)) {
        let samples = read(source, positions)?;
        groups.extend(grade(roll(policy, toolbox, samples, request).map_err(TrainError::Evaluate)?, reward));
    }
    Ok((rollout_metrics(&groups), groups))
}

fn cursor(source: &dyn SampleSource, settings: &TrainSettings) -> Result<SampleCursor, TrainError> {
    if source.is_empty() {
        return Err(TrainError::NoSamples);
    }
    Ok(SampleCursor { samples: source.len(), per_step: settings.prompts_per_step, seed: settings.seed })
}

fn read(source: &dyn SampleSource, positions: &[usize]) -> Result<Vec<Arc<Sample>>, TrainError> {
    let get = |&position| source.get(position).map_err(|source| TrainError::Sample { position, source });
    positions.iter().map(get).collect()
}

type Rollouts = Vec<(Arc<Sample>, Vec<Trajectory>)>;

fn roll<P, T>(
    policy: &mut P,
    toolbox: &T,
    samples: Vec<Arc<Sample>>,
    request: &RolloutRequest,
) -> Result<Rollouts, PolicyError>
where
    P: Policy + ?Sized,
    T: Toolbox + ?Sized,
{
    let trajectories = rollout(policy, toolbox, &samples, request)?;
    Ok(samples.into_iter().zip(trajectories).collect())
}

fn grade<R: Reward + ?Sized>(rollouts: Rollouts, reward: &R) -> Vec<Group> {
    rollouts.into_iter().map(|(sample, trajectories)| Group::grade(sample, trajectories, reward)).collect()
}

/// Wall time by stage.
struct Stopwatch {
    since: Instant,
    laps: BTreeMap<&'static str, f64>,
}

impl Stopwatch {
    fn start() -> Self {
        Self { since: Instant::now(), laps: BTreeMap::new() }
    }

    fn lap(&mut self, stage: &'static str) {
        *self.laps.entry(stage).or_default() += self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
    }
}
