//! Runs a course: stage after stage, each ending in a checkpoint and a gate.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dfdx::prelude::Cpu;
use imagent_algorithms::evaluate;
use imagent_core::{RolloutRequest, TokenLoss, TokenScores, Tool, Weights, derive};
use imagent_data::{Task, WorldSource};
use imagent_models::adamw::AdamWConfig;
use imagent_models::checkpoint::CheckpointWriter;
use imagent_models::config::Dtype;
use imagent_models::lora::PeftAdapter;
use imagent_models::nano;
use imagent_models::policy::{QwenPolicy, policy_error};
use imagent_rewards::Accuracy;
use rayon::prelude::*;
use serde::Serialize;

use super::batch::{Demonstration, Demonstrator, draw, stage_lesson};
use super::config::{Course, Gate, Stage};
use crate::config::{Model, open_model_seeded};
use crate::error::Error;

/// Names the seeds of held-out lessons and episodes, which no stage teaches.
const HELD_OUT: u64 = 0x6865_6c64;

/// What one stage came to.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    /// The stage.
    pub stage: String,
    /// Updates.
    pub steps: u64,
    /// Lessons taught.
    pub lessons: u64,
    /// Seconds of wall time.
    pub seconds: f64,
    /// Figures on held-out lessons and episodes.
    pub figures: BTreeMap<String, f64>,
    /// Gates that do not hold.
    pub failed: Vec<String>,
}

/// Mean probabilities in the batch of an update; `None` where a batch has none of the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Learnt {
    /// Of the tokens that are taught.
    pub taught: Option<f64>,
    /// Of the words that label image cells.
    pub labels: Option<f64>,
}

/// What a course tells while it runs.
pub trait Progress {
    /// After an update.
    fn step(&mut self, stage: &Stage, step: u64, learnt: Learnt);
    /// After a stage, whether its gate holds or not.
    ///
    /// # Errors
    /// When the report cannot be kept.
    fn stage(&mut self, report: &StageReport) -> std::io::Result<()>;
}

/// Runs a course in `dir`; stages that have a checkpoint there are not run again.
///
/// # Errors
/// When a gate does not hold (what was learnt is kept in a folder `….failed`), the model fails, or a file cannot be written.
pub fn run(course: &Course, dir: &Path, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
    let start = dir.join("checkpoints").join("start");
    let from_nothing = course.model.is_none();
    if from_nothing && !start.join("config.json").is_file() {
        let words: Vec<&str> = course.words.iter().map(String::as_str).collect();
        let phrases: Vec<&str> = course.phrases.iter().map(String::as_str).collect();
        nano::init(&start, &course.nano, &words, &phrases, course.seed).map_err(Error::SaveModel)?;
    }
    let mut model = from_nothing.then_some(start);
    for (index, stage) in course.stages.iter().enumerate() {
        let out = dir.join("checkpoints").join(format!("{:02}-{}", index + 1, stage.name));
        if !is_checkpoint(&out) {
            run_stage(course, index, model.as_deref(), &out, progress)?;
        }
        model = Some(out);
    }
    let last = dir.join("model");
    let opened = open(course, course.stages.len() - 1, model.as_deref())?;
    save(&opened, &last, Dtype::F16)?;
    Ok(last)
}

/// Settings of one stage's optimiser: its own rate, and a schedule that ends with it.
fn adamw(course: &Course, stage: &Stage) -> AdamWConfig {
    AdamWConfig { learning_rate: stage.learning_rate, total_steps: stage.steps, ..course.adamw.clone() }
}

fn is_checkpoint(dir: &Path) -> bool {
    dir.join("config.json").is_file() || PeftAdapter::is_at(dir)
}

/// Opens the checkpoint of the stage before, or what the course starts from.
fn open(course: &Course, index: usize, before: Option<&Path>) -> Result<Model, Error> {
    let mut model = course.model.clone().unwrap_or_default();
    if let Some(before) = before {
        // An adapter names the model that it goes on.
        model.path = before.to_string_lossy().into_owned();
        model.adapter.clear();
    }
    open_model_seeded(&model, &adamw(course, &course.stages[index]), course.seed)
}

/// Writes a model's weights, with the files beside them.
pub(super) fn save(model: &Model, out: &Path, dtype: Dtype) -> Result<(), Error> {
    let write = || {
        let writer = CheckpointWriter::new(out)?;
        model.policy.write(&writer, dtype)?;
        writer.aux(&model.dir)?;
        writer.finish()
    };
    write().map_err(Error::SaveModel)
}

fn run_stage(
    course: &Course,
    index: usize,
    before: Option<&Path>,
    out: &Path,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let stage = &course.stages[index];
    let watch = std::time::Instant::now();
    let mut model = open(course, index, before)?;
    let policy = &mut model.policy;
    let codec = Arc::clone(policy.codec());
    let demonstrator =
        Demonstrator { codec: &codec, toolbox: &course.tools, prompt: &course.prompt, limits: &course.limits };
    let seed = derive(course.seed, &[index as u64]);
    for step in 0..stage.steps {
        let lessons = step * course.batch..(step + 1) * course.batch;
        let learnt = update(course, stage, policy, &demonstrator, seed, lessons)?;
        progress.step(stage, step + 1, learnt);
    }
    let mut report = StageReport {
        stage: stage.name.clone(),
        steps: stage.steps,
        lessons: stage.steps * course.batch,
        seconds: watch.elapsed().as_secs_f64(),
        figures: taught_figures(stage, policy, &demonstrator, course.seed)?,
        failed: Vec::new(),
    };
    if stage.gate.episodes > 0 {
        report.figures.extend(episode_figures(course, stage, policy)?);
    }
    report.failed = failures(&stage.gate, &report.figures);
    progress.stage(&report).map_err(|source| Error::Io { path: out.to_owned(), source })?;
    if report.failed.is_empty() {
        return save(&model, out, Dtype::F32);
    }
    let kept = out.with_extension("failed");
    save(&model, &kept, Dtype::F32)?;
    Err(Error::Gate { stage: stage.name.clone(), failed: report.failed.join("; "), kept })
}

/// One update; returns the mean probabilities of what it taught.
fn update(
    course: &Course,
    stage: &Stage,
    policy: &mut QwenPolicy<Cpu>,
    demonstrator: &Demonstrator<'_>,
    seed: u64,
    lessons: Range<u64>,
) -> Result<Learnt, Error> {
    let make = |i| match draw(stage, seed, i) {
        Some(lesson) => demonstrator.run(&lesson).map(Some),
        None => Ok(None),
    };
    let made: Result<Vec<_>, _> = lessons.into_par_iter().map(make).collect();
    let demonstrations: Vec<Demonstration> = made?.into_iter().flatten().collect();
    let sequences: Vec<_> = demonstrations.iter().map(|one| one.sequence(true)).collect();
    let taught: Vec<bool> = (demonstrations.iter())
        .flat_map(|one| (0..one.taught.len() + one.labels.len()).map(|i| i < one.taught.len()))
        .collect();
    let mut learnt = Learnt::default();
    policy.update_sequences(&sequences, 1.0, &mut |scores| {
        let mean = |kind: bool| mean_probability(scores.logprobs.iter().zip(&taught).filter(|(_, t)| **t == kind));
        learnt = Learnt { taught: mean(true), labels: mean(false) };
        lesson_loss(scores, &taught, course.label_weight)
    })?;
    Ok(learnt)
}

fn mean_probability<'a>(tokens: impl Iterator<Item = (&'a f32, &'a bool)>) -> Option<f64> {
    let probabilities: Vec<f64> = tokens.map(|(logprob, _)| f64::from(logprob.exp())).collect();
    (!probabilities.is_empty()).then(|| probabilities.iter().sum::<f64>() / probabilities.len() as f64)
}

/// Mean negative log-likelihood of what is taught, plus `label_weight` times that of labels.
fn lesson_loss(scores: &TokenScores, taught: &[bool], label_weight: f64) -> TokenLoss {
    let count = taught.iter().filter(|&&t| t).count().max(1) as f64;
    let labels = (taught.len() as f64 - count).max(1.0);
    let weight = |t: bool| if t { 1.0 / count } else { label_weight / labels };
    TokenLoss {
        value: scores.logprobs.iter().zip(taught).map(|(&logprob, &t)| -f64::from(logprob) * weight(t)).sum(),
        d_logprobs: taught.iter().map(|&t| -weight(t) as f32).collect(),
        d_entropies: Vec::new(),
        metrics: BTreeMap::new(),
    }
}

/// Mean probability of taught tokens on held-out lessons, by task.
fn taught_figures(
    stage: &Stage,
    policy: &QwenPolicy<Cpu>,
    demonstrator: &Demonstrator<'_>,
    seed: u64,
) -> Result<BTreeMap<String, f64>, Error> {
    let mut figures = BTreeMap::new();
    for &task in stage.gate.taught.keys() {
        let held_out = derive(seed, &[HELD_OUT]);
        let run = |i| demonstrator.run(&stage_lesson(task, stage, held_out, i));
        let lessons: Vec<_> = (0..stage.gate.lessons).into_par_iter().map(run).collect::<Result<_, _>>()?;
        let sequences: Vec<_> = lessons.iter().map(|one| one.sequence(false)).collect();
        let scores = policy.score_sequences(&sequences, 1.0, Weights::Current).map_err(policy_error)?;
        let sum: f64 = scores.logprobs.iter().map(|logprob| f64::from(logprob.exp())).sum();
        figures.insert(taught_name(task), sum / scores.logprobs.len().max(1) as f64);
    }
    Ok(figures)
}

fn taught_name(task: Task) -> String {
    format!("taught/{}", serde_json::to_string(&task).unwrap_or_default().trim_matches('"'))
}

/// Metrics of sampled episodes on held-out samples of the stage's world.
fn episode_figures(
    course: &Course,
    stage: &Stage,
    policy: &mut QwenPolicy<Cpu>,
) -> Result<BTreeMap<String, f64>, Error> {
    let seed = derive(course.seed, &[HELD_OUT, 1]);
    let source = WorldSource::new(stage.world.clone(), seed, stage.gate.episodes as usize)?;
    let positions: Vec<usize> = (0..stage.gate.episodes as usize).collect();
    let request = RolloutRequest {
        group_size: 1,
        sampling: course.sampling.clone(),
        limits: course.limits.clone(),
        prompt: course.prompt.clone(),
        seed,
        round: 0,
    };
    let tools: &Vec<Box<dyn Tool>> = &course.tools;
    let reward = Accuracy::default();
    Ok(evaluate(policy, tools, &reward, &source, &positions, 64, &request)?.0)
}

/// The gates that figures do not pass.
fn failures(gate: &Gate, figures: &BTreeMap<String, f64>) -> Vec<String> {
    // A figure that is not there, or not a number, passes no gate.
    let holds = |name: &str, test: &dyn Fn(f64) -> bool| figures.get(name).is_some_and(|&value| test(value));
    let told = |name: &str| figures.get(name).map_or("missing".to_owned(), |value| format!("{value:.3}"));
    let taught = gate.taught.iter().map(|(&task, &least)| (taught_name(task), least));
    let least = taught.chain(gate.at_least.iter().map(|(name, &least)| (name.clone(), least)));
    let low = least.filter(|(name, least)| !holds(name, &|value| value >= *least));
    let low = low.map(|(name, least)| format!("{name} is {}, wanted at least {least}", told(&name)));
    let high = gate.at_most.iter().filter(|(name, most)| !holds(name, &|value| value <= **most));
    low.chain(high.map(|(name, most)| format!("{name} is {}, wanted at most {most}", told(name)))).collect()
}
