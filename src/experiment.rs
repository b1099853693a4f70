//! The parts of a run as one value: composed at compile time, or from a config with boxed plug-ins. Both go through the
//! same generic functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use imagent_algorithms::{TrainError, TrainObserver, TrainSettings, rollout_metrics, train};
use imagent_core::{
    Group, Mask, MaskSet, Policy, PolicyError, PolicyOptimizer, Reward, RolloutRequest, Sample, SampleSource, Sampling,
    Tool, Toolbox, Trajectory, rollout,
};

/// The round of evaluations: none of training's, and always the same, so that equal weights give equal figures.
const EVAL_ROUND: u64 = u64::MAX;
/// Samples rolled out at once in an evaluation. Figures do not depend on it.
const EVAL_BATCH: usize = 32;

/// Policy, tools, reward, masks, optimiser, data and settings.
///
/// `T`, `R`, `M` and `O` are concrete types (statically dispatched), or `dyn` ones: see [`DynExperiment`].
pub struct Experiment<P, T: ?Sized, R: ?Sized, M: ?Sized, O: ?Sized> {
    /// What is trained.
    pub policy: P,
    /// What it can call.
    pub toolbox: Box<T>,
    /// What trajectories are worth.
    pub reward: Box<R>,
    /// Which tokens the loss counts.
    pub masks: Box<M>,
    /// The policy-gradient method.
    pub optimizer: Box<O>,
    /// What to train on.
    pub source: Box<dyn SampleSource>,
    /// What to evaluate on.
    pub held_out: Option<Box<dyn SampleSource>>,
    /// How long, how many and how far.
    pub settings: TrainSettings,
    /// How tokens are drawn in evaluations.
    pub eval_sampling: Sampling,
}

/// An experiment whose plug-ins were named in a config.
pub type DynExperiment<P> = Experiment<P, Vec<Box<dyn Tool>>, dyn Reward, Vec<Box<dyn Mask>>, dyn PolicyOptimizer>;

/// Figures of held-out samples, and the trajectories behind them.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// By name, as [`rollout_metrics`] computes them.
    pub metrics: BTreeMap<String, f64>,
    /// The graded trajectories, one group a sample.
    pub groups: Vec<Group>,
}

impl Evaluation {
    /// The figures of graded trajectories, one group a sample.
    pub fn of(groups: Vec<Group>) -> Self {
        let mut metrics = rollout_metrics(&groups);
        // A group of one has no spread: the figure would say nothing.
        metrics.remove("flat_groups");
        Self { metrics, groups }
    }
}

impl<P, T, R, M, O> Experiment<P, T, R, M, O>
where
    P: Policy,
    T: Toolbox,
    R: Reward,
    M: MaskSet,
    O: PolicyOptimizer,
{
    /// An experiment from parts known at compile time; nothing is held out, and evaluations are greedy.
    pub fn new(
        policy: P,
        (toolbox, reward): (T, R),
        (masks, optimizer): (M, O),
        source: impl SampleSource + 'static,
        settings: TrainSettings,
    ) -> Self {
        Self {
            policy,
            toolbox: Box::new(toolbox),
            reward: Box::new(reward),
            masks: Box::new(masks),
            optimizer: Box::new(optimizer),
            source: Box::new(source),
            held_out: None,
            settings,
            eval_sampling: Sampling::greedy(),
        }
    }
}

impl<P, T, R, M, O> Experiment<P, T, R, M, O>
where
    P: Policy,
    T: Toolbox + ?Sized,
    R: Reward + ?Sized,
    M: MaskSet + ?Sized,
    O: PolicyOptimizer + ?Sized,
{
    /// Trains from `first_step` to the last step; see [`imagent_algorithms::train()`].
    ///
    /// # Errors
    /// A setting out of range, a sample that cannot be read, a failing model or observer.
    pub fn train(&mut self, first_step: usize, observer: &mut dyn TrainObserver<P>) -> Result<usize, TrainError> {
        let Self { policy, toolbox, reward, masks, optimizer, source, settings, .. } = self;
        let (toolbox, reward, masks, optimizer) = (&**toolbox, &**reward, &**masks, &**optimizer);
        train(policy, toolbox, reward, masks, optimizer, &**source, settings, first_step, observer)
    }

    /// Evaluates on the held-out samples; without any, the evaluation is empty.
    ///
    /// # Errors
    /// A sample that cannot be read, or a failing model.
    pub fn evaluate(&mut self) -> Result<Evaluation, TrainError> {
        let Self { policy, toolbox, reward, held_out, settings, eval_sampling, .. } = self;
        let Some(source) = held_out else { return Ok(Evaluation::default()) };
        let plan = EvalPlan::new(&**source, settings, eval_sampling);
        let done = plan.run(policy, &**toolbox, &**reward, 0, &mut |_, _| true)?;
        Ok(done.unwrap_or_default())
    }

    /// The episode that an evaluation has of a sample.
    ///
    /// # Errors
    /// When the model fails.
    pub fn play(&mut self, sample: &Arc<Sample>) -> Result<Trajectory, TrainError> {
        let missing = || TrainError::Evaluate(PolicyError::Stopped);
        self.play_all(&[Arc::clone(sample)])?.into_iter().next().ok_or_else(missing)
    }

    /// The same of several samples at once, in order.
    ///
    /// # Errors
    /// When the model fails.
    pub fn play_all(&mut self, samples: &[Arc<Sample>]) -> Result<Vec<Trajectory>, TrainError> {
        let request = eval_request(&self.settings, &self.eval_sampling);
        let groups = rollout(&mut self.policy, &*self.toolbox, samples, &request).map_err(TrainError::Evaluate)?;
        Ok(groups.into_iter().flatten().collect())
    }
}

/// What an evaluation asks of a rollout.
pub(crate) fn eval_request(settings: &TrainSettings, sampling: &Sampling) -> RolloutRequest {
    RolloutRequest { group_size: 1, sampling: sampling.clone(), ..settings.request(EVAL_ROUND) }
}

/// How held-out samples are rolled out.
pub(crate) struct EvalPlan<'a> {
    source: &'a dyn SampleSource,
    request: RolloutRequest,
}

impl<'a> EvalPlan<'a> {
    pub(crate) fn new(source: &'a dyn SampleSource, settings: &TrainSettings, sampling: &Sampling) -> Self {
        Self { source, request: eval_request(settings, sampling) }
    }

    /// Rolls out the first `count` samples (0: all). `watch(done, all)` is asked after each batch whether to go on;
    /// `None` if not.
    pub(crate) fn run<P, T, R>(
        &self,
        policy: &mut P,
        toolbox: &T,
        reward: &R,
        count: usize,
        watch: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Evaluation>, TrainError>
    where
        P: Policy + ?Sized,
        T: Toolbox + ?Sized,
        R: Reward + ?Sized,
    {
        let _span = tracing::trace_span!("evaluation").entered();
        let all = if count == 0 { self.source.len() } else { count.min(self.source.len()) };
        let positions: Vec<usize> = (0..all).collect();
        let mut groups = Vec::with_capacity(all);
        for batch in positions.chunks(EVAL_BATCH) {
            let (_, more) =
                imagent_algorithms::evaluate(policy, toolbox, reward, self.source, batch, EVAL_BATCH, &self.request)?;
            groups.extend(more);
            if !watch(groups.len(), all) {
                return Ok(None);
            }
        }
        Ok(Some(Evaluation::of(groups)))
    }
}
