//! What happens after each step: figures, trajectories, evaluations, checkpoints; and stopping when asked.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use imagent_algorithms::{Flow, StepReport, TrainError, TrainSettings};
use imagent_analysis::alarms::{Alarm, Alarms, write_alarms};
use imagent_analysis::record::{rollouts_file, row_weights, write_atomic};
use imagent_analysis::{
    EvalTable, EventWriter, ImageCodec, MetricsRow, MetricsWriter, TrajectoryRecord, read_metrics, write_rollouts,
};
use imagent_core::{ScoredTrajectory, TrainBatch, TrainRow};
use imagent_models::ops::Kernels;
use imagent_models::policy::QwenPolicy;

use super::{RunFolder, RunOptions, Watch, checkpoint};
use crate::attention::image_shares;
use crate::config::is_due;
use crate::error::Error;
use crate::experiment::Evaluation;

/// What names of held-out figures start with in `metrics.jsonl`.
const EVAL: &str = "eval/";
/// Trajectories of the last evaluation saved with their images and tokens, for the report.
const SHOWN: usize = 32;
/// Those of a step, and of any other evaluation.
const SHOWN_ON_THE_WAY: usize = 8;
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
    alarms: Alarms,
    told: Vec<Alarm>,
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
        let alarms = Alarms::new(options.alarms.clone());
        let (steps, seed) = (settings.steps, settings.seed);
        Self { folder, options, metrics, events, watch, alarms, told: Vec::new(), steps, seed }
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
        rows.iter().for_each(|row| self.told.extend(self.alarms.push(row)));
        if !self.told.is_empty() || self.folder.alarms().exists() {
            write_alarms(&self.folder.alarms(), &self.told)?;
        }
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
            let records = self.trained_records(policy, batch, done)?;
            write_rollouts(&self.folder.dir().join(rollouts_file(done)), &records)?;
        }
        if last || is_due(schedule.eval_every, done) {
            let count = if last { 0 } else { schedule.eval_samples };
            row.metrics.extend(self.evaluate(policy, evaluate, done, count)?);
        }
        self.append(&row)?;
        self.sound_alarms(&row)?;
        let stop = self.interrupted();
        if last || stop || is_due(schedule.checkpoint_every, done) {
            checkpoint::save(policy, &self.folder.checkpoint(done), &self.options.model_dir, done, self.seed)?;
        }
        Ok(if stop { Flow::Stop } else { Flow::Continue })
    }

    fn sound_alarms(&mut self, row: &MetricsRow) -> Result<(), Error> {
        let fired = self.alarms.push(row);
        if fired.is_empty() {
            return Ok(());
        }
        fired.iter().for_each(|alarm| self.watch.alarm(alarm));
        self.told.extend(fired);
        Ok(write_alarms(&self.folder.alarms(), &self.told)?)
    }

    /// A step's trajectories; the first of each of its first groups with images, tokens and loss weights.
    fn trained_records<D: Kernels>(
        &self,
        policy: &QwenPolicy<D>,
        batch: &TrainBatch,
        step: usize,
    ) -> Result<Vec<TrajectoryRecord>, Error> {
        let folder = format!("rollouts/step-{step:06}");
        let is_first = |i: usize| i == 0 || batch.rows[i - 1].group != batch.rows[i].group;
        let record = |(i, row): (usize, &TrainRow)| {
            let record = TrajectoryRecord::from(row);
            if row.group >= SHOWN_ON_THE_WAY || !is_first(i) {
                return Ok(record);
            }
            let weights = row_weights(row);
            self.shown(policy, record, &row.scored, Some(&weights), &folder)
        };
        batch.rows.iter().enumerate().map(record).collect()
    }

    /// A record with what the report needs to show it.
    fn shown<D: Kernels>(
        &self,
        policy: &QwenPolicy<D>,
        record: TrajectoryRecord,
        scored: &ScoredTrajectory,
        weights: Option<&[f32]>,
        folder: &str,
    ) -> Result<TrajectoryRecord, Error> {
        let tokenizer = &policy.codec().tokenizer;
        // A token that is no whole letter by itself is shown as a replacement mark.
        let text = |id: u32| tokenizer.decode(&[id], false).unwrap_or_default();
        let record = record.with_tokens(&scored.trajectory, weights, Some(&text));
        Ok(record.with_image_files(&scored.trajectory.shelf, self.folder.dir(), folder, CODEC, SIDE)?)
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
        self.save_held_out(policy, &evaluation, step)?;
        let first = evaluation.groups.iter().flat_map(|group| &group.members);
        let first = first.take(self.options.schedule.attention_samples);
        let shares = image_shares(policy, first).map_err(Error::OpenModel)?;
        Ok(evaluation.metrics.into_iter().chain(shares).map(|(name, value)| (format!("{EVAL}{name}"), value)).collect())
    }

    /// `eval-before`, `eval-after` or `eval-NNNNNN`: trajectories, and for the first two the figures by themselves.
    fn save_held_out<D: Kernels>(
        &self,
        policy: &QwenPolicy<D>,
        evaluation: &Evaluation,
        step: usize,
    ) -> Result<(), Error> {
        let dir = self.folder.dir();
        let name = match step {
            0 => "eval-before".to_owned(),
            _ if step == self.steps => "eval-after".to_owned(),
            _ => format!("eval-{step:06}"),
        };
        let shown = if step == self.steps { SHOWN } else { SHOWN_ON_THE_WAY };
        let members = evaluation.groups.iter().flat_map(|group| &group.members);
        let record = |(i, scored): (usize, &ScoredTrajectory)| {
            let record = TrajectoryRecord::from(scored);
            if i >= shown { Ok(record) } else { self.shown(policy, record, scored, None, &format!("rollouts/{name}")) }
        };
        let records = members.enumerate().map(record).collect::<Result<Vec<_>, Error>>()?;
        write_rollouts(&dir.join("rollouts").join(format!("{name}.jsonl")), &records)?;
        if step == 0 || step == self.steps {
            let text = serde_json::to_vec_pretty(&evaluation.metrics).unwrap_or_default();
            write_atomic(&dir.join(format!("{name}.json")), &text)?;
        }
        Ok(())
    }
}
