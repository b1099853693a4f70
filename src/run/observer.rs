//! What happens after each step: figures, trajectories, evaluations, checkpoints; and stopping when asked.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use imagent_algorithms::{Flow, StepReport, TrainError, TrainSettings};
use imagent_analysis::record::{rollouts_file, write_atomic};
use imagent_analysis::{
    EvalTable, EventWriter, ImageCodec, MetricsRow, MetricsWriter, TrajectoryRecord, read_metrics, write_rollouts,
};
use imagent_core::{ScoredTrajectory, TrainBatch};
use imagent_models::ops::Kernels;
use imagent_models::policy::QwenPolicy;

use super::{RunFolder, RunOptions, Watch, checkpoint};
use crate::config::is_due;
use crate::error::Error;
use crate::experiment::Evaluation;

/// What names of held-out figures start with in `metrics.jsonl`.
const EVAL: &str = "eval/";
/// Held-out trajectories saved with their images, for the report.
const SHOWN: usize = 32;
/// How their images are saved: for people to look at.
const CODEC: ImageCodec = ImageCodec::Jpeg(85);
/// Longest side of a saved image.
const SIDE: u32 = 448;

/// Evaluates the policy on the first so many held-out samples (0: all); `None` without any, or when stopped.
pub(super) type Evaluate<'a, D> = dyn FnMut(&mut QwenPolicy<D>, usize, &mut dyn FnMut(usize, usize) -> bool) -> Result<Option<Evaluation>, TrainError>
    + 'a;

/// The held-out figures of a row.
pub(super) fn eval_table(row: &MetricsRow) -> Option<EvalTable> {
    let figure = |(name, value): (&String, &f64)| Some((name.strip_prefix(EVAL)?.to_owned(), *value));
    let table: EvalTable = row.metrics.iter().filter_map(figure).collect();
    (!table.is_empty()).then_some(table)
}

/// Writes what a run leaves on disk.
pub(super) struct RunObserver<'a> {
    folder: &'a RunFolder,
    options: &'a RunOptions,
    metrics: MetricsWriter,
    events: EventWriter,
    watch: &'a mut dyn Watch,
    steps: usize,
    seed: u64,
}

impl<'a> RunObserver<'a> {
    pub(super) fn new(
        folder: &'a RunFolder,
        options: &'a RunOptions,
        metrics: MetricsWriter,
        events: EventWriter,
        watch: &'a mut dyn Watch,
        settings: &TrainSettings,
    ) -> Self {
        Self { folder, options, metrics, events, watch, steps: settings.steps, seed: settings.seed }
    }

    fn interrupted(&self) -> bool {
        self.options.interrupt.load(Ordering::Relaxed)
    }

    /// Evaluates before the first step, unless that was done.
    pub(super) fn before<D: Kernels>(
        &mut self,
        policy: &mut QwenPolicy<D>,
        evaluate: &mut Evaluate<'_, D>,
        start: usize,
    ) -> Result<(), Error> {
        let rows = read_metrics(&self.folder.metrics())?;
        if start > 0 || rows.iter().any(|row| row.step == 0) {
            rows.iter().filter(|row| row.step == 0).filter_map(eval_table).for_each(|t| self.watch.evaluated(0, &t));
            return Ok(());
        }
        let row = MetricsRow { step: 0, metrics: self.evaluate(policy, evaluate, 0, 0)?, ..MetricsRow::default() };
        if self.interrupted() {
            let kept = "nothing was trained yet, start again with --resume".to_owned();
            return Err(Error::Interrupted { step: 0, kept });
        }
        if !row.metrics.is_empty() {
            self.append(&row)?;
        }
        Ok(())
    }

    /// Everything that follows a step.
    pub(super) fn after_step<D: Kernels>(
        &mut self,
        policy: &mut QwenPolicy<D>,
        report: &StepReport,
        batch: &TrainBatch,
        evaluate: &mut Evaluate<'_, D>,
    ) -> Result<Flow, Error> {
        let (done, schedule) = (report.step + 1, &self.options.schedule);
        let last = done == self.steps;
        let mut row = MetricsRow {
            step: done,
            metrics: report.metrics.clone(),
            seconds: report.seconds.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        };
        self.watch.step(report);
        if is_due(schedule.rollouts_every, done) {
            let records: Vec<TrajectoryRecord> = batch.rows.iter().map(TrajectoryRecord::from).collect();
            write_rollouts(&self.folder.dir().join(rollouts_file(done)), &records)?;
        }
        if last || is_due(schedule.eval_every, done) {
            let count = if last { 0 } else { schedule.eval_samples };
            row.metrics.extend(self.evaluate(policy, evaluate, done, count)?);
        }
        self.append(&row)?;
        let stop = self.interrupted();
        if last || stop || is_due(schedule.checkpoint_every, done) {
            checkpoint::save(policy, &self.folder.checkpoint(done), &self.options.model_dir, done, self.seed)?;
        }
        Ok(if stop { Flow::Stop } else { Flow::Continue })
    }

    fn append(&mut self, row: &MetricsRow) -> Result<(), Error> {
        self.metrics.append(row)?;
        Ok(self.events.row(row)?)
    }

    /// Held-out figures under their names in `metrics.jsonl`; saves the trajectories. An evaluation after a step is
    /// always finished, as the step's row is whole or absent.
    fn evaluate<D: Kernels>(
        &mut self,
        policy: &mut QwenPolicy<D>,
        evaluate: &mut Evaluate<'_, D>,
        step: usize,
        count: usize,
    ) -> Result<BTreeMap<String, f64>, Error> {
        let interrupt = &self.options.interrupt;
        let watch = &mut *self.watch;
        let mut on_batch = |done: usize, all: usize| {
            watch.evaluating(done, all);
            step > 0 || !interrupt.load(Ordering::Relaxed)
        };
        let Some(evaluation) = evaluate(policy, count, &mut on_batch)? else { return Ok(BTreeMap::new()) };
        self.watch.evaluated(step, &evaluation.metrics);
        self.save_held_out(&evaluation, step)?;
        Ok(evaluation.metrics.into_iter().map(|(name, value)| (format!("{EVAL}{name}"), value)).collect())
    }

    /// `eval-before`, `eval-after` or `eval-NNNNNN`: trajectories, and for the first two the figures by themselves.
    fn save_held_out(&self, evaluation: &Evaluation, step: usize) -> Result<(), Error> {
        let dir = self.folder.dir();
        let name = match step {
            0 => "eval-before".to_owned(),
            _ if step == self.steps => "eval-after".to_owned(),
            _ => format!("eval-{step:06}"),
        };
        let shown = if step == self.steps { SHOWN } else { 0 };
        let members = evaluation.groups.iter().flat_map(|group| &group.members);
        let record = |(i, scored): (usize, &ScoredTrajectory)| {
            let record = TrajectoryRecord::from(scored);
            if i >= shown {
                return Ok(record);
            }
            record.with_image_files(&scored.trajectory.shelf, dir, &format!("rollouts/{name}"), CODEC, SIDE)
        };
        let records = members.enumerate().map(record).collect::<Result<Vec<_>, _>>()?;
        write_rollouts(&dir.join("rollouts").join(format!("{name}.jsonl")), &records)?;
        if step == 0 || step == self.steps {
            let text = serde_json::to_vec_pretty(&evaluation.metrics).unwrap_or_default();
            write_atomic(&dir.join(format!("{name}.json")), &text)?;
        }
        Ok(())
    }
}
