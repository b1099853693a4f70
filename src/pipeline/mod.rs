//! Questions about several images, made by agents that check each other: the images are put together, a question is written,
//! answered by others, judged, and kept if it is hard but can be answered; then somebody looks at it.
//!
//! * [`config`]: the file: images, roles, who plays them;
//! * [`bank`]: the images and what is known of them;
//! * [`item`]: what goes from step to step;
//! * `claim`: the folder, and what the roles are told; `prompts`: those texts;
//! * `keep`: the file that each step leaves, and goes on with; [`journal`]: what served models replied;
//! * `agents`: what each role does with one item; `rules`: roles without a model; `ask`: roles of served models;
//! * `export`: the dataset; [`summary`]: counts, reasons and costs;
//! * [`review`]: what people say of the questions, and the page on which they say it.
//!
//! The steps are those of IMAgent's MIFG-QA (arXiv 2512.08980), whose roles and limits are not published: these are ours.
//! [ADR 27](https://github.com/imagent-rs/imagent/blob/main/docs/adr/0027-question-pipeline.md) says why it is built like this.

pub mod bank;
pub mod config;
pub mod item;
pub mod journal;
pub mod review;
pub mod summary;

mod agents;
mod ask;
mod claim;
mod export;
mod keep;
mod prompts;
mod rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use imagent_analysis::record::write_atomic;
use imagent_core::chat::ChatModel;
use imagent_models::image_processor::ImageProcessor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use self::agents::Agents;
use self::bank::Bank;
use self::config::PipelineConfig;
pub use self::export::DATASET;
use self::item::{Group, Question};
use self::journal::Journal;
use self::keep::{Line, Pace, Work};
use self::summary::{StepSummary, Summary};
use crate::config::EndpointConfig;
use crate::error::Error;

/// The steps, in order: the role and the file that it leaves.
pub const STEPS: [(&str, &str); 5] = [
    ("grouper", "1-groups.jsonl"),
    ("writer", "2-questions.jsonl"),
    ("answerer", "3-answers.jsonl"),
    ("verifier", "4-verdicts.jsonl"),
    ("difficulty", "5-difficulty.jsonl"),
];
/// The config that a folder was made with.
pub const CONFIG: &str = "config.toml";
/// Counts, reasons and costs.
pub const SUMMARY: &str = "summary.json";

/// A served model.
pub struct Served {
    /// The model.
    pub model: Box<dyn ChatModel>,
    /// How images are sent.
    pub view: ImageProcessor,
    /// Its settings.
    pub endpoint: EndpointConfig,
}

/// What a pipeline tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A step has done so many of its items.
    Items {
        /// The role.
        step: &'a str,
        /// How many are done.
        done: usize,
        /// How many there are.
        items: usize,
    },
    /// A step is done.
    Step(&'a StepSummary),
}

/// An error that names a file.
fn wrong(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::BadFile { path: path.to_owned(), problem: problem.to_string() }
}

/// How a served model is reached; done when it is first asked.
pub type Connect<'a> = dyn Fn(&EndpointConfig) -> Result<Served, Error> + Sync + 'a;

/// Runs what is left of a pipeline and writes its dataset.
///
/// # Errors
/// When a file is wrong or a model cannot be asked; what was done by then is kept.
pub fn run(
    config: &PipelineConfig,
    connect: &Connect<'_>,
    stop: &AtomicBool,
    tell: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Summary, Error> {
    let folder = config.folder();
    let bank = Bank::open(&config.images, config.seed)?;
    if bank.len() < config.size[1] {
        let problem = format!("{} images are fewer than the largest group has", bank.len());
        return Err(wrong(Path::new("images"), problem));
    }
    let claim = claim::claim(config, &folder)?;
    bank.pin(&folder)?;
    let journal = Journal::open(&folder)?;
    let models = Models::new(&config.endpoints, connect);
    let agents = Agents { config, bank: &bank, prompts: &claim.prompts, models: &models, journal: &journal };
    let mut run = Run { agents: &agents, folder, stop, tell, steps: Vec::new() };
    let ids: Vec<(String, ())> = (0..config.groups).map(|i| (format!("g{i:06}"), ())).collect();
    let groups = run.step(0, &ids, &|id, ()| agents.group(id))?;
    let questions = run.step(1, &to_ask(&groups, config.questions), &|id, group| agents.write(id, group))?;
    let items = kept(&questions);
    let votes = run.step(2, &items, &|id, asked| agents.answer(id, asked))?;
    let items = both(&items, &votes);
    let verdicts = run.step(3, &items, &|id, item| agents.verify(id, item))?;
    let sound = both(&items, &verdicts).into_iter().map(|(id, ((asked, _), _))| (id, asked));
    let items: Vec<(String, Question)> = sound.collect();
    let difficulties = run.step(4, &items, &|id, asked| agents.difficulty(id, asked))?;
    let export = export::export(&agents, &both(&items, &difficulties), &run.folder)?;
    run.done(export);
    let summary = Summary { steps: run.steps };
    write_atomic(&run.folder.join(SUMMARY), format!("{:#}\n", json!(summary)).as_bytes())?;
    Ok(summary)
}

/// The served models, each connected when it is first asked: a pipeline whose steps are done needs none.
struct Models<'a> {
    endpoints: &'a BTreeMap<String, EndpointConfig>,
    connect: &'a Connect<'a>,
    connected: Mutex<BTreeMap<String, Arc<Served>>>,
}

impl<'a> Models<'a> {
    fn new(endpoints: &'a BTreeMap<String, EndpointConfig>, connect: &'a Connect<'a>) -> Self {
        Self { endpoints, connect, connected: Mutex::default() }
    }

    /// The model of an endpoint; `None` if there is no such endpoint.
    fn get(&self, name: &str) -> Result<Option<Arc<Served>>, Error> {
        let Some(endpoint) = self.endpoints.get(name) else { return Ok(None) };
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(served) = connected.get(name) {
            return Ok(Some(Arc::clone(served)));
        }
        let served = Arc::new((self.connect)(endpoint)?);
        connected.insert(name.to_owned(), Arc::clone(&served));
        Ok(Some(served))
    }
}

/// A pipeline under way.
struct Run<'a> {
    agents: &'a Agents<'a>,
    folder: PathBuf,
    stop: &'a AtomicBool,
    tell: &'a mut (dyn FnMut(Progress<'_>) + Send),
    steps: Vec<StepSummary>,
}

impl Run<'_> {
    fn step<I: Sync, T: Serialize + DeserializeOwned + Send>(
        &mut self,
        number: usize,
        items: &[(String, I)],
        work: &Work<'_, I, T>,
    ) -> Result<Vec<Line<T>>, Error> {
        let (step, file) = STEPS[number];
        let config = self.agents.config;
        let endpoint = config.endpoint_of(step);
        let at_once = config.endpoints.get(endpoint).map_or_else(rayon::current_num_threads, |model| model.at_once);
        let tell = &mut *self.tell;
        let mut count = |done| tell(Progress::Items { step, done, items: items.len() });
        let pace = Pace { at_once, stop: self.stop, tell: &mut count };
        let lines = keep::step(self.folder.join(file), pace, items, work)?;
        let summary = StepSummary::of(step, lines.iter().map(Line::rejected));
        self.done(summary.costing(self.agents.journal.cost(step), config.prices.get(endpoint)));
        Ok(lines)
    }

    fn done(&mut self, step: StepSummary) {
        (self.tell)(Progress::Step(&step));
        self.steps.push(step);
    }
}

/// Items that go on, with what goes on.
fn kept<T: Clone>(lines: &[Line<T>]) -> Vec<(String, T)> {
    lines.iter().filter_map(|line| Some((line.id.clone(), line.kept()?.clone()))).collect()
}

/// Items with what a step found of them, where they go on.
fn both<A: Clone, B: Clone>(items: &[(String, A)], lines: &[Line<B>]) -> Vec<(String, (A, B))> {
    let pair = |((id, item), line): (&(String, A), &Line<B>)| Some((id.clone(), (item.clone(), line.kept()?.clone())));
    items.iter().zip(lines).filter_map(pair).collect()
}

/// The questions that are to be asked of each group.
fn to_ask(groups: &[Line<Group>], count: usize) -> Vec<(String, Group)> {
    let each = |(id, group): (String, Group)| (0..count).map(move |i| (format!("{id}-q{i}"), group.clone()));
    kept(groups).into_iter().flat_map(each).collect()
}
