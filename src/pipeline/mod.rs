//! Questions about several images, made by agents that check each other: the images are put together, a question is written,
//! answered by others, judged, and kept if it is hard but can be answered; then somebody looks at it.
//!
//! * [`config`]: the file: images, roles, who plays them;
//! * [`bank`]: the images and what is known of them;
//! * [`item`]: what goes from step to step;
//! * `keep`: the file that each step leaves, and goes on with;
//! * `roles`: what each role does with one item; `rules`: roles without a model; `ask`: roles of served models;
//! * [`summary`]: counts, reasons and costs;
//! * [`review`]: what people say of the questions, and the page on which they say it.
//!
//! The steps are those of IMAgent's MIFG-QA (arXiv 2512.08980), whose roles and limits are not published: these are ours.

pub mod bank;
pub mod config;
pub mod item;
pub mod keep;
pub mod review;
pub mod summary;

mod ask;
mod roles;
mod rules;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use imagent_analysis::record::write_atomic;
use imagent_core::Sample;
use imagent_core::chat::ChatModel;
use imagent_data::write_folder;
use imagent_models::image_processor::ImageProcessor;
use serde_json::json;

use self::bank::Bank;
use self::config::PipelineConfig;
use self::item::{Difficulty, Group, Question, Verdict, Votes};
use self::keep::{Cost, Line, Place, step};
use self::review::{Decision, Review};
use self::roles::Office;
use self::rules::Shelf;
use self::summary::{StepSummary, Summary};
use crate::config::EndpointConfig;
use crate::error::Error;

/// The files of the steps, in order.
pub const STEPS: [&str; 5] =
    ["1-groups.jsonl", "2-questions.jsonl", "3-answers.jsonl", "4-verdicts.jsonl", "5-difficulty.jsonl"];
/// The config that a folder was made with.
pub const CONFIG: &str = "config.toml";
/// The dataset folder within.
pub const DATASET: &str = "dataset";
/// Keys of the config that may change between runs of one pipeline.
const FREE: [&str; 5] = ["endpoints", "prices", "reviewed", "groups", "out"];

/// What the roles are told, by role.
pub(crate) type Prompts = BTreeMap<&'static str, String>;

/// A served model.
pub struct Served {
    /// The model.
    pub model: Box<dyn ChatModel>,
    /// How images are sent.
    pub view: ImageProcessor,
    /// Its settings.
    pub endpoint: EndpointConfig,
}

/// An error that names a file.
pub(crate) fn wrong(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::BadFile { path: path.to_owned(), problem: problem.to_string() }
}

/// Runs what is left of a pipeline and writes its dataset. `served` are the models by the names of their endpoints; `tell` is told of
/// each step that is done.
///
/// # Errors
/// When a file is wrong or a model cannot be asked; what was done by then is kept.
pub fn run(
    config: &PipelineConfig,
    served: &BTreeMap<String, Served>,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&StepSummary),
) -> Result<Summary, Error> {
    let folder = config.folder();
    let prompts = claim(config, &folder)?;
    let bank = Bank::open(&config.images, config.seed)?;
    if bank.len() < config.size[0] {
        return Err(wrong(Path::new("images"), format!("{} images are fewer than a group has", bank.len())));
    }
    let office = Office { config, shelf: Shelf::new(&bank), bank, prompts, served };
    let mut summary = Summary::default();
    let mut note = |name: &str, endpoint: &str, lines: &mut dyn Iterator<Item = (Option<&str>, Cost)>| {
        let step = StepSummary::of(name, lines, config.prices.get(endpoint));
        tell(&step);
        summary.steps.push(step);
    };
    let place = |endpoint: &str| {
        let at_once = served.get(endpoint).map_or(1, |served| served.endpoint.at_once);
        Place { folder: &folder, at_once, stop }
    };
    let (grouper, answerer) = (&config.grouper.role.endpoint, &config.answerer.role.endpoint);
    let ids: Vec<(String, ())> = (0..config.groups).map(|i| (format!("g{i:06}"), ())).collect();
    let groups: Vec<Line<Group>> = step(&place(grouper), STEPS[0], &ids, &|id, ()| office.group(id))?;
    note("grouper", grouper, &mut outcomes(&groups));
    let items = asked_of(&groups, config.questions);
    let questions: Vec<Line<Question>> =
        step(&place(&config.writer.endpoint), STEPS[1], &items, &|id, group| office.write(id, group))?;
    note("writer", &config.writer.endpoint, &mut outcomes(&questions));
    let items = kept(&questions);
    let votes: Vec<Line<Votes>> = step(&place(answerer), STEPS[2], &items, &|id, asked| office.answer(id, asked))?;
    note("answerer", answerer, &mut outcomes(&votes));
    let items = both(&items, &votes);
    let verdicts: Vec<Line<Verdict>> =
        step(&place(&config.verifier.endpoint), STEPS[3], &items, &|id, item| office.verify(id, item))?;
    note("verifier", &config.verifier.endpoint, &mut outcomes(&verdicts));
    let items: Vec<(String, Question)> =
        both(&items, &verdicts).into_iter().map(|(id, ((asked, _), _))| (id, asked)).collect();
    let base = &config.difficulty.endpoint;
    let hard: Vec<Line<Difficulty>> = step(&place(base), STEPS[4], &items, &|id, asked| office.difficulty(id, asked))?;
    note("difficulty", base, &mut outcomes(&hard));
    let (export, dataset) = export(&office, &both(&items, &hard), &folder)?;
    tell(&export);
    summary.steps.push(export);
    summary.dataset = dataset;
    write_atomic(&folder.join("summary.json"), format!("{:#}\n", json!(summary)).as_bytes())?;
    Ok(summary)
}

/// What came of items, for the summary.
fn outcomes<T>(lines: &[Line<T>]) -> impl Iterator<Item = (Option<&str>, Cost)> {
    lines.iter().map(|line| (line.rejected.as_deref(), line.cost))
}

/// Items that go on, with what goes on.
fn kept<T: Clone>(lines: &[Line<T>]) -> Vec<(String, T)> {
    lines.iter().filter_map(|line| Some((line.id.clone(), line.kept.clone()?))).collect()
}

/// Items with what a step found of them, where they go on.
fn both<A: Clone, B: Clone>(items: &[(String, A)], lines: &[Line<B>]) -> Vec<(String, (A, B))> {
    let pair = |((id, item), line): (&(String, A), &Line<B>)| Some((id.clone(), (item.clone(), line.kept.clone()?)));
    items.iter().zip(lines).filter_map(pair).collect()
}

/// The questions that are to be asked of each group.
fn asked_of(groups: &[Line<Group>], count: usize) -> Vec<(String, Group)> {
    let each = |(id, group): (String, Group)| (0..count).map(move |i| (format!("{id}-q{i}"), group.clone()));
    kept(groups).into_iter().flat_map(each).collect()
}

/// Makes the folder, or checks that it is that of this config; returns what the roles are told.
fn claim(config: &PipelineConfig, folder: &Path) -> Result<Prompts, Error> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    let told = config.roles().into_iter().map(|(name, role)| {
        let text = match role.prompt.as_str() {
            "" => default_prompt(name).to_owned(),
            path => fs::read_to_string(path).map_err(io(Path::new(path)))?,
        };
        Ok((name, text))
    });
    let told = told.collect::<Result<Prompts, Error>>()?;
    let file = folder.join(CONFIG);
    let wanted = config.to_toml();
    if file.is_file() {
        let found = fs::read_to_string(&file).map_err(io(&file))?;
        same(&file, &found, &wanted)?;
        for (name, role) in config.roles().into_iter().filter(|(_, role)| !role.endpoint.is_empty()) {
            let path = prompt_file(folder, name);
            if fs::read_to_string(&path).map_err(io(&path))? != told[name] {
                let from = if role.prompt.is_empty() { "that of the program" } else { &role.prompt };
                return Err(wrong(&path, format!("is not the text of {from}; a pipeline goes on with its own texts")));
            }
        }
    } else if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::Occupied { path: folder.to_owned(), what: "other files" });
    }
    for (name, text) in &told {
        write_atomic(&prompt_file(folder, name), text.as_bytes())?;
    }
    write_atomic(&file, wanted.as_bytes())?;
    Ok(told)
}

fn prompt_file(folder: &Path, name: &str) -> PathBuf {
    folder.join("prompts").join(format!("{name}.txt"))
}

/// The text that comes with the program.
fn default_prompt(role: &str) -> &'static str {
    match role {
        "grouper" => include_str!("../../configs/pipeline/prompts/grouper.txt"),
        "writer" => include_str!("../../configs/pipeline/prompts/writer.txt"),
        "answerer" => include_str!("../../configs/pipeline/prompts/answerer.txt"),
        _ => include_str!("../../configs/pipeline/prompts/verifier.txt"),
    }
}

/// Whether two configs are of one pipeline.
fn same(file: &Path, found: &str, wanted: &str) -> Result<(), Error> {
    let read = |text: &str| toml::from_str::<toml::Table>(text).map_err(|error| wrong(file, error.message()));
    let (mut found, mut wanted) = (read(found)?, read(wanted)?);
    FREE.iter().for_each(|key| {
        found.remove(*key);
        wanted.remove(*key);
    });
    let differs = wanted.iter().find(|(key, value)| found.get(*key) != Some(*value));
    match differs {
        None => Ok(()),
        Some((key, _)) => {
            Err(wrong(file, format!("the pipeline there has another `{key}`; choose another folder as `out`")))
        }
    }
}

/// Writes the dataset of what is left, as people have judged it.
fn export(
    office: &Office<'_>,
    items: &[(String, (Question, Difficulty))],
    folder: &Path,
) -> Result<(StepSummary, usize), Error> {
    let reviews = review::read(folder)?;
    let (mut seen, mut samples, mut lines) = (HashSet::new(), Vec::<Sample>::new(), Vec::new());
    for (id, (asked, found)) in items {
        let review = reviews.get(id);
        let why = match review.map(|review| review.decision) {
            Some(Decision::Reject) => Some("by hand"),
            None if office.config.reviewed => Some("not looked at yet"),
            _ if !seen.insert((asked.images.clone(), asked.question.clone())) => Some("asked already"),
            _ => None,
        };
        lines.push((why, Cost::default()));
        if why.is_none() {
            samples.push(sample(office, id, asked, found, review)?);
        }
    }
    let kept = samples.len();
    let path = folder.join(DATASET);
    if path.exists() {
        fs::remove_dir_all(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    }
    if kept > 0 {
        write_folder(&path, &samples)?;
    }
    Ok((StepSummary::of("export", &mut lines.into_iter(), None), kept))
}

fn sample(
    office: &Office<'_>,
    id: &str,
    asked: &Question,
    found: &Difficulty,
    review: Option<&Review>,
) -> Result<Sample, Error> {
    let mut sample = office.sample(id, asked)?;
    if let Some(Review { decision: Decision::Edit, question, answer, .. }) = review {
        sample.question.clone_from(question);
        sample.answer.clone_from(answer);
    }
    let looked = review.map_or(json!(false), |review| json!(review.decision));
    sample.meta = [("without_tools", json!(found.without)), ("with_tools", json!(found.with)), ("reviewed", looked)]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect();
    Ok(sample)
}
