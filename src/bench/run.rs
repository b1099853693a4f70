//! A benchmark from the first item to the last: what is played is written down at once, so that a run goes on where it stopped.
//!
//! ```text
//! OUT/
//!   bench.json         what is run; another benchmark, model or setting is refused
//!   items.jsonl        a line an item: question, turns, reply, scores; items-2-of-4.jsonl of a shard
//!   result.json        the tables, once every item is there
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imagent_core::{BoxFrame, Sample, Toolbox, Trajectory};
use imagent_data::DataError;
use imagent_data::formats::{Entry, Reader};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::report::Report;
use super::score::{Scores, reply, score};
use super::{Bench, Order};

/// Items played at once. Scores do not depend on it.
const BATCH: usize = 32;

/// Why a benchmark did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// There is no such benchmark.
    #[error("{name:?} is none of {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The dataset is of another format.
    #[error("{bench} is read from the format {wanted}, and this is {found}")]
    Format {
        /// The benchmark.
        bench: &'static str,
        /// What it takes.
        wanted: String,
        /// What there is.
        found: &'static str,
    },
    /// A shard that does not exist.
    #[error("shard {shard} of {shards}: count from 1 to {shards}")]
    Shard {
        /// Which one.
        shard: usize,
        /// Of how many.
        shards: usize,
    },
    /// The output folder is of another run.
    #[error("{path}: holds a run with another `{key}` ({found}, not {wanted})", path = path.display())]
    Other {
        /// The folder.
        path: PathBuf,
        /// The first key that differs.
        key: String,
        /// Its value there.
        found: String,
        /// Its value here.
        wanted: String,
    },
    /// A line that this program did not write.
    #[error("{path}:{line}: {problem}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The dataset is refused.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model failed.
    #[error(transparent)]
    Play(#[from] imagent_algorithms::TrainError),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BenchError {
    let path = path.to_owned();
    move |source| BenchError::Io { path, source }
}

/// What part is run, and how.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Where the transcript goes.
    pub out: PathBuf,
    /// Only the first so many rows of the dataset.
    pub limit: Option<usize>,
    /// Which part of how many, counted from 1: every so-manieth item.
    pub shard: (usize, usize),
    /// What the model's boxes count.
    pub frame: BoxFrame,
    /// Asks the bare question; how to answer is the config's to say.
    pub plain: bool,
    /// Draws orders of options, resamples of intervals, and what an official rule draws.
    pub seed: u64,
    /// What else makes this run what it is, for `bench.json`: model, tools, limits …
    pub settings: Value,
}

/// One turn of a transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// What the model wrote.
    pub text: String,
    /// What it was told then, where it called a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<String>,
}

/// A line of `items.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The item's number among all, counted from 0.
    pub number: usize,
    /// The entry's id, with the order of options where it is not the published one.
    pub id: String,
    /// The order of options.
    pub order: String,
    /// Its row in the table.
    pub task: String,
    /// What dependent items have in common.
    pub cluster: String,
    /// What was asked.
    pub question: String,
    /// The gold answer.
    pub gold: String,
    /// What was said.
    pub turns: Vec<Said>,
    /// What was graded.
    pub reply: String,
    /// Why the episode ended.
    pub end: String,
    /// What it is worth.
    pub scores: Scores,
}

/// Plays samples: a trajectory for each, in order.
pub trait Player {
    /// Plays them.
    ///
    /// # Errors
    /// When the model fails.
    fn play(&mut self, samples: &[Arc<Sample>]) -> Result<Vec<Trajectory>, imagent_algorithms::TrainError>;
}

/// Runs what is not yet written down, and reports once all is there: `None` if it was told to stop, or while other shards are missing.
///
/// `watch(done, all)` is asked after each batch whether to go on.
///
/// # Errors
/// A dataset of another format, an output folder of another run, a failing model.
pub fn run(
    bench: &Bench,
    reader: &dyn Reader,
    player: &mut dyn Player,
    options: &BenchOptions,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<Report>, BenchError> {
    check(bench, reader, options)?;
    let rows = options.limit.unwrap_or(usize::MAX).min(reader.len());
    let all: Vec<(usize, Order)> = bench.orders.iter().flat_map(|order| (0..rows).map(|row| (row, *order))).collect();
    fs::create_dir_all(&options.out).map_err(io(&options.out))?;
    agree(bench, options, rows)?;
    let mut items = written(&options.out)?;
    let (shard, shards) = options.shard;
    let mine = (0..all.len()).filter(|number| number % shards == shard - 1);
    let left: Vec<usize> = mine.filter(|number| !items.contains_key(number)).collect();
    let mut transcript = Transcript::open(options)?;
    let of_shard = (0..all.len()).filter(|number| number % shards == shard - 1).count();
    for batch in left.chunks(BATCH) {
        let entries =
            batch.iter().map(|&number| entry(bench, reader, all[number], options)).collect::<Result<Vec<_>, _>>()?;
        let samples: Vec<Arc<Sample>> = entries.iter().map(|(_, sample)| Arc::clone(sample)).collect();
        let played = player.play(&samples)?;
        for ((&number, (entry, sample)), trajectory) in batch.iter().zip(&entries).zip(&played) {
            let scores = score(bench, entry, trajectory, options.frame, options.seed);
            let item = item(bench, number, all[number].1, (entry, sample), trajectory, scores);
            transcript.add(&item)?;
            items.insert(number, item);
        }
        let done = items.keys().filter(|number| *number % shards == shard - 1).count();
        if !watch(done, of_shard) {
            return Ok(None);
        }
    }
    if items.len() < all.len() {
        return Ok(None);
    }
    let items: Vec<Item> = items.into_values().collect();
    Ok(Some(Report::new(bench, &items, options.seed)))
}

fn check(bench: &Bench, reader: &dyn Reader, options: &BenchOptions) -> Result<(), BenchError> {
    let (shard, shards) = options.shard;
    if shard < 1 || shard > shards {
        return Err(BenchError::Shard { shard, shards });
    }
    // A folder of ours may have been imported from the benchmark.
    let found = reader.format();
    if bench.formats.is_empty() || found == imagent_data::formats::FOLDER || bench.formats.contains(&found) {
        return Ok(());
    }
    Err(BenchError::Format { bench: bench.name, wanted: bench.formats.join(" or "), found })
}

/// An item as it is put to the model.
fn entry(
    bench: &Bench,
    reader: &dyn Reader,
    (row, order): (usize, Order),
    options: &BenchOptions,
) -> Result<(Entry, Arc<Sample>), BenchError> {
    let images = reader.sample(row)?.images;
    let entry = bench.ordered(&reader.entry(row)?, order, options.seed);
    let sample = if options.plain { entry.sample(images) } else { bench.sample(&entry, images) };
    Ok((entry, Arc::new(sample)))
}

fn item(
    bench: &Bench,
    number: usize,
    order: Order,
    (entry, sample): (&Entry, &Sample),
    trajectory: &Trajectory,
    scores: Scores,
) -> Item {
    let said = |turn: &imagent_core::TurnRecord| Said {
        text: turn.text.clone(),
        observation: turn.tool.as_ref().map(|tool| tool.text.clone()),
    };
    Item {
        number,
        id: entry.id.clone(),
        order: order.name().into(),
        task: bench.task(entry),
        cluster: bench.cluster(entry),
        question: sample.question.clone(),
        gold: sample.answer.clone(),
        turns: trajectory.turns.iter().map(said).collect(),
        reply: reply(trajectory),
        end: trajectory.end.name().into(),
        scores,
    }
}

/// Writes down what is run, or compares with what was written.
fn agree(bench: &Bench, options: &BenchOptions, rows: usize) -> Result<(), BenchError> {
    let mut wanted = serde_json::Map::new();
    wanted.insert("bench".into(), bench.name.into());
    wanted.insert("rows".into(), rows.into());
    wanted.insert("seed".into(), options.seed.into());
    wanted.insert("plain".into(), options.plain.into());
    wanted.insert("settings".into(), options.settings.clone());
    let path = options.out.join("bench.json");
    if !path.exists() {
        let wanted = Value::Object(wanted);
        return replace(&path, &format!("{wanted:#}\n"));
    }
    let text = fs::read_to_string(&path).map_err(io(&path))?;
    let broken = |problem: String| BenchError::Line { path: path.clone(), line: 1, problem };
    let found: serde_json::Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    match wanted.iter().find(|(key, value)| found.get(*key) != Some(value)) {
        None => Ok(()),
        Some((key, wanted)) => Err(BenchError::Other {
            path: options.out.clone(),
            key: key.clone(),
            found: found.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string),
            wanted: wanted.to_string(),
        }),
    }
}

/// Writes a file whole, or not at all.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), BenchError> {
    let part = path.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, text).map_err(io(&part))?;
    fs::rename(&part, path).map_err(io(path))
}

/// The items of all transcripts in the folder, by number. A last line that was cut off is passed over.
fn written(out: &Path) -> Result<BTreeMap<usize, Item>, BenchError> {
    let mut items = BTreeMap::new();
    for entry in fs::read_dir(out).map_err(io(out))? {
        let path = entry.map_err(io(out))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !(name.starts_with("items") && name.ends_with(".jsonl")) {
            continue;
        }
        let mut lines = BufReader::new(File::open(&path).map_err(io(&path))?);
        let (mut text, mut line) = (String::new(), 0);
        while lines.read_line(&mut text).map_err(io(&path))? > 0 {
            line += 1;
            if text.ends_with('\n') {
                let item: Item = serde_json::from_str(&text).map_err(|error| BenchError::Line {
                    path: path.clone(),
                    line,
                    problem: error.to_string(),
                })?;
                items.insert(item.number, item);
            }
            text.clear();
        }
    }
    Ok(items)
}

/// The transcript of a shard.
struct Transcript {
    path: PathBuf,
    file: File,
}

impl Transcript {
    /// Opens the file to go on after its last whole line.
    fn open(options: &BenchOptions) -> Result<Self, BenchError> {
        let (shard, shards) = options.shard;
        let name = if shards == 1 { "items.jsonl".to_owned() } else { format!("items-{shard}-of-{shards}.jsonl") };
        let path = options.out.join(name);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io(&path))?;
        let bytes = fs::read(&path).map_err(io(&path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).map_err(io(&path))?;
        Ok(Self { path, file })
    }

    fn add(&mut self, item: &Item) -> Result<(), BenchError> {
        let broken = |error: serde_json::Error| BenchError::Line {
            path: self.path.clone(),
            line: 0,
            problem: error.to_string(),
        };
        let line = serde_json::to_string(item).map_err(broken)?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(io(&self.path))
    }
}

impl<P, T, R, M, O> Player for crate::Experiment<P, T, R, M, O>
where
    P: imagent_core::Policy,
    T: Toolbox + ?Sized,
    R: imagent_core::Reward + ?Sized,
    M: imagent_core::MaskSet + ?Sized,
    O: imagent_core::PolicyOptimizer + ?Sized,
{
    fn play(&mut self, samples: &[Arc<Sample>]) -> Result<Vec<Trajectory>, imagent_algorithms::TrainError> {
        self.play_all(samples)
    }
}
