//! The updates, validation on the way, checkpoints to go on from, and the model with the best held-out loss at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use imagent_algorithms::SampleCursor;
use imagent_analysis::{EventWriter, MetricsRow, MetricsWriter, read_metrics};
use imagent_core::{Sample, SampleSource, TokenLoss, TokenScores, Weights};
use imagent_models::codec::Codec;
use imagent_models::config::Dtype;
use imagent_models::policy::policy_error;
use rayon::prelude::*;

use super::config::SftConfig;
use super::example::{Example, Examples, LeftOut};
use super::stopping::Stopping;
use crate::config::{Model, open_dataset, open_model_seeded};
use crate::error::Error;
use crate::run::{RunFolder, checkpoint};
use crate::sft::course::save;

/// The held-out loss in `metrics.jsonl`.
const VALIDATION: &str = "sft/validation_loss";

/// Where and how a fine-tuning leaves its files.
#[derive(Clone, Debug)]
pub struct SftOptions {
    /// The run folder.
    pub dir: PathBuf,
    /// Goes on from the folder's latest checkpoint, where there is one.
    pub resume: bool,
    /// Set from elsewhere to end the run after the update in progress.
    pub interrupt: Arc<AtomicBool>,
}

/// What came of a fine-tuning.
#[derive(Clone, Debug, PartialEq)]
pub struct SftOutcome {
    /// Updates done; fewer than were planned where the held-out loss no longer fell.
    pub steps: usize,
    /// The step whose model is kept, and its held-out loss, where one is measured.
    pub best: Option<(usize, f64)>,
    /// The folder of the model that is kept.
    pub model: PathBuf,
}

/// Who is told about progress.
pub trait SftWatch {
    /// Before the first update: how many are done, and how many there will be at most.
    fn begin(&mut self, done: usize, steps: usize);
    /// After an update, with its figures.
    fn step(&mut self, row: &MetricsRow);
    /// After a validation.
    fn validated(&mut self, step: usize, loss: f64);
}

/// Mean negative log-likelihood of the taught tokens of a batch, each counting the same, and its derivative.
///
/// ```
/// use imagent_core::TokenScores;
/// let scores = TokenScores { logprobs: vec![-1.0, -3.0], entropies: Vec::new() };
/// let loss = imagent::sft::token_loss(&scores);
/// assert_eq!((loss.value, loss.d_logprobs), (2.0, vec![-0.5, -0.5]));
/// ```
pub fn token_loss(scores: &TokenScores) -> TokenLoss {
    let count = scores.logprobs.len().max(1) as f64;
    TokenLoss {
        value: scores.logprobs.iter().map(|&logprob| -f64::from(logprob)).sum::<f64>() / count,
        d_logprobs: vec![(-1.0 / count) as f32; scores.logprobs.len()],
        d_entropies: Vec::new(),
        metrics: BTreeMap::new(),
    }
}

/// A fine-tuning in progress.
struct Tuner<'a> {
    config: &'a SftConfig,
    source: Box<dyn SampleSource>,
    held_out: Option<Box<dyn SampleSource>>,
    model: Model,
    folder: RunFolder,
    steps: usize,
    stopping: Stopping,
}

/// Trains on conversations and keeps a run folder: `config.toml`, `metrics.jsonl`, `tensorboard/`, `checkpoints/` (the latest, and the one
/// with the best held-out loss) and `model/`, the latter's weights.
///
/// Resumed or not, a run leaves the same `metrics.jsonl` (times aside) and the same model.
///
/// # Errors
/// Whatever stops the run; [`Error::Interrupted`] leaves a checkpoint to go on from.
pub fn run(config: &SftConfig, options: &SftOptions, watch: &mut dyn SftWatch) -> Result<SftOutcome, Error> {
    let text = config.to_toml();
    RunFolder::check(&options.dir, options.resume, &text)?;
    let source = open_dataset(&config.data.train, "data.train.path")?;
    let held_out = config.data.eval.as_ref().map(|eval| open_dataset(eval, "data.eval.path")).transpose()?;
    let steps = (source.len() * config.sft.epochs).div_ceil(config.sft.batch);
    let mut model = open_model_seeded(&config.model, &config.adamw(steps), config.seed)?;
    model.policy.limits.max_rows = config.sft.max_rows;
    check(config, model.policy.codec(), &*source, "data.train")?;
    held_out.as_deref().map_or(Ok(()), |source| check(config, model.policy.codec(), source, "data.eval"))?;
    let folder = RunFolder::create(&options.dir, options.resume, &text)?;
    let stopping = Stopping::new(config.sft.patience, config.sft.min_delta);
    Tuner { config, source, held_out, model, folder, steps, stopping }.run(options, watch)
}

/// That a dataset has something to train on: what is wrong with its first rows is told before there is a run.
fn check(config: &SftConfig, codec: &Codec, source: &dyn SampleSource, key: &str) -> Result<(), Error> {
    let positions: Vec<usize> = (0..source.len()).collect();
    for part in positions.chunks(config.sft.batch) {
        if !examples(config, codec, source, part)?.0.is_empty() {
            return Ok(());
        }
    }
    let problem = "none of its samples can be trained on: all are too long or rejected".to_owned();
    Err(Error::BadTrajectory { id: key.to_owned(), problem })
}

/// The examples at some positions, and how many samples are left out.
fn examples(
    config: &SftConfig,
    codec: &Codec,
    source: &dyn SampleSource,
    positions: &[usize],
) -> Result<(Vec<Example>, usize), Error> {
    let maker = Examples::new(codec, config)?;
    let read = |&position: &usize| -> Result<Arc<Sample>, Error> {
        source.get(position).map_err(|source| imagent_algorithms::TrainError::Sample { position, source }.into())
    };
    let make = |position: &usize| maker.of(&*read(position)?);
    let made: Vec<Result<Example, LeftOut>> = positions.par_iter().map(make).collect::<Result<_, _>>()?;
    let all = made.len();
    let examples: Vec<Example> = made.into_iter().filter_map(Result::ok).collect();
    let left_out = all - examples.len();
    Ok((examples, left_out))
}

/// The log of a run.
struct Log {
    metrics: MetricsWriter,
    events: EventWriter,
}

impl Log {
    fn open(folder: &RunFolder, start: usize) -> Result<Self, Error> {
        let mut metrics = MetricsWriter::open(&folder.metrics())?;
        metrics.truncate_after(start)?;
        let events = match start {
            0 => EventWriter::create(&folder.tensorboard())?,
            _ => EventWriter::resume(&folder.tensorboard(), start)?,
        };
        Ok(Self { metrics, events })
    }

    fn append(&mut self, row: &MetricsRow) -> Result<(), Error> {
        self.metrics.append(row)?;
        Ok(self.events.row(row)?)
    }
}

impl Tuner<'_> {
    fn run(mut self, options: &SftOptions, watch: &mut dyn SftWatch) -> Result<SftOutcome, Error> {
        let start = match self.folder.latest_checkpoint()? {
            Some(dir) => checkpoint::load(&mut self.model.policy, &dir, self.config.seed)?,
            None => 0,
        };
        let mut log = Log::open(&self.folder, start)?;
        let codec = Arc::clone(self.model.policy.codec());
        let mut stopped = self.replay()?;
        watch.begin(start, self.steps);
        if start == 0 && self.stopping.best().is_none() {
            stopped = self.validate_first(&codec, &mut log, watch)?;
        }
        let mut step = start;
        while step < self.steps && !stopped {
            let mut row = self.update(&codec, step)?;
            step += 1;
            let due = step == self.steps || (self.config.sft.eval_every > 0 && step % self.config.sft.eval_every == 0);
            if due {
                stopped = self.validate(&codec, &mut row, watch)?;
            }
            watch.step(&row);
            log.append(&row)?;
            let stop = options.interrupt.load(Ordering::Relaxed);
            if due || stop {
                self.keep(step)?;
            }
            if stop && step < self.steps && !stopped {
                let kept = format!("{} is kept, go on with --resume", self.folder.checkpoint(step).display());
                return Err(Error::Interrupted { step, kept });
            }
        }
        let model = self.finish(step)?;
        Ok(SftOutcome { steps: step, best: self.stopping.best(), model })
    }

    /// What validation has come to in the rows that are logged already.
    fn replay(&mut self) -> Result<bool, Error> {
        let rows = read_metrics(&self.folder.metrics())?;
        let losses = rows.iter().filter_map(|row| Some((row.step, *row.metrics.get(VALIDATION)?)));
        Ok(losses.fold(false, |_, (step, loss)| self.stopping.push(step, loss)))
    }

    /// The loss before the first update.
    fn validate_first(&mut self, codec: &Codec, log: &mut Log, watch: &mut dyn SftWatch) -> Result<bool, Error> {
        let mut row = MetricsRow::default();
        let stopped = self.validate(codec, &mut row, watch)?;
        if !row.metrics.is_empty() {
            // A best loss at the start means that the model is kept as it was.
            self.keep(0)?;
            log.append(&row)?;
        }
        Ok(stopped)
    }

    /// One update, and its figures.
    fn update(&mut self, codec: &Codec, step: usize) -> Result<MetricsRow, Error> {
        let watch = Instant::now();
        let cursor =
            SampleCursor { samples: self.source.len(), per_step: self.config.sft.batch, seed: self.config.seed };
        // The last step has what is left of the last epoch.
        let all = self.source.len() * self.config.sft.epochs;
        let count = self.config.sft.batch.min(all - step * self.config.sft.batch);
        let positions: Vec<usize> = cursor.positions(step).into_iter().take(count).collect();
        let (examples, left_out) = examples(self.config, codec, &*self.source, &positions)?;
        let sequences: Vec<_> = examples.iter().map(Example::sequence).collect();
        let tokens: usize = sequences.iter().map(|sequence| sequence.targets.len()).sum();
        let mut row = MetricsRow { step: step + 1, ..MetricsRow::default() };
        let mut figure = |name: &str, value: f64| _ = row.metrics.insert(name.to_owned(), value);
        figure("sft/left_out", left_out as f64);
        figure("sft/tokens", tokens as f64);
        if tokens > 0 {
            let report = self.model.policy.update_sequences(&sequences, 1.0, &mut token_loss)?;
            figure("sft/loss", report.loss.value);
            figure("update/grad_norm", report.grad_norm);
            figure("update/learning_rate", report.learning_rate);
        }
        row.seconds.insert("update".to_owned(), watch.elapsed().as_secs_f64());
        Ok(row)
    }

    /// Measures the held-out loss, where something is held out; true when it is time to stop.
    fn validate(&mut self, codec: &Codec, row: &mut MetricsRow, watch: &mut dyn SftWatch) -> Result<bool, Error> {
        let Some(source) = &self.held_out else { return Ok(false) };
        let clock = Instant::now();
        let positions: Vec<usize> = (0..source.len()).collect();
        let (mut sum, mut tokens) = (0.0, 0usize);
        for part in positions.chunks(self.config.sft.batch) {
            let (examples, _) = examples(self.config, codec, &**source, part)?;
            let sequences: Vec<_> = examples.iter().map(Example::sequence).collect();
            let scores = self.model.policy.score_sequences(&sequences, 1.0, Weights::Current).map_err(policy_error)?;
            sum -= scores.logprobs.iter().map(|&logprob| f64::from(logprob)).sum::<f64>();
            tokens += scores.logprobs.len();
        }
        let loss = sum / tokens as f64;
        row.metrics.insert(VALIDATION.to_owned(), loss);
        row.seconds.insert("validation".to_owned(), clock.elapsed().as_secs_f64());
        watch.validated(row.step, loss);
        Ok(self.stopping.push(row.step, loss))
    }

    /// Keeps a checkpoint of this step, and of those before only the best.
    fn keep(&self, step: usize) -> Result<(), Error> {
        let Model { policy, dir, .. } = &self.model;
        checkpoint::save(policy, &self.folder.checkpoint(step), dir, step, self.config.seed)?;
        let best = self.stopping.best().map(|(best, _)| best);
        let kept = [Some(step), best].map(|step| step.map(|step| self.folder.checkpoint(step)));
        for old in self.folder.checkpoints()? {
            if !kept.contains(&Some(old.clone())) {
                std::fs::remove_dir_all(&old).map_err(|source| Error::Io { path: old.clone(), source })?;
            }
        }
        Ok(())
    }

    /// Writes the best model, or the last one where nothing is held out.
    fn finish(&mut self, last: usize) -> Result<PathBuf, Error> {
        let best = self.stopping.best().map_or(last, |(best, _)| best);
        if best != last {
            self.model.policy.read(&self.folder.checkpoint(best)).map_err(Error::OpenModel)?;
        }
        let out = self.folder.dir().join("model");
        save(&self.model, &out, Dtype::F32)?;
        Ok(out)
    }
}
