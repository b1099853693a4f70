//! A benchmark from the first item to the last: what is played is written down at once, so that a run goes on where it stopped.
//!
//! ```text
//! DIR/
//!   config.toml        the resolved config
//!   bench.toml         which benchmark, and how it is asked; another one, or another config, is refused
//!   rollouts.jsonl     a line an item: the trajectory, how it was asked, and its figures as `parts`
//!   rollouts-2-of-4.jsonl   the same of a part, until all are joined
//!   judged.jsonl       what a judge said, where there was one
//!   eval.json          the tables, once every item is there
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use imagent_analysis::ablation::{EVAL_FIGURES, EVAL_ROLLOUTS};
use imagent_analysis::record::{LinesWriter, read_lines, write_atomic};
use imagent_analysis::{AnalysisError, TrajectoryRecord, write_rollouts};
use imagent_core::chat::ChatError;
use imagent_core::{BoxFrame, Policy, Sample, Score, ScoredTrajectory, Toolbox, Trajectory};
use imagent_data::formats::{Entry, FOLDER, Reader};
use serde::{Deserialize, Serialize};

use super::judge::Judge;
use super::official::Reading;
use super::report::{Counted, Report};
use super::score::{OFFICIAL, STRICT, Scores, Scoring, reply};
use super::{Bench, BenchError, Form};
use crate::error::Error;
use crate::run::folder::{remove, same_run};

/// Items played at once. Figures do not depend on it.
const BATCH: usize = 32;
/// How often, and how long, the one that would report waits for other parts to let go of their files.
const PATIENCE: (u32, Duration) = (20, Duration::from_millis(100));
/// What a run may have otherwise when it goes on: figures do not depend on it, or the last run says.
const FREE: [&str; 12] = [
    "alarms",
    "data.eval.cache_mib",
    "data.eval.limit",
    "endpoint.at_once",
    "endpoint.connect_timeout",
    "endpoint.max_wait",
    "endpoint.retries",
    "endpoint.timeout",
    "endpoint.url",
    "judge",
    "model.device",
    "name",
];

/// What part is run, and how.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The folder of the transcript.
    pub dir: PathBuf,
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
    /// The resolved config.
    pub config: String,
}

impl BenchOptions {
    /// Whether the benchmark can be run so; `judged`: with a judge.
    ///
    /// # Errors
    /// A dataset of another format, a part that does not exist, a judge for a benchmark without one.
    pub fn check(&self, bench: &Bench, reader: &dyn Reader, judged: bool) -> Result<(), BenchError> {
        let (shard, shards) = self.shard;
        if shard < 1 || shard > shards {
            return Err(BenchError::Shard { shard, shards });
        }
        if judged && !bench.has_judge() {
            return Err(BenchError::NoJudge { bench: bench.name });
        }
        // A folder of ours may have been imported from the benchmark.
        let found = reader.format();
        if found != FOLDER && !bench.formats.contains(&found) {
            let wanted = bench.formats.iter().chain([&FOLDER]).copied().collect::<Vec<_>>().join(" or ");
            return Err(BenchError::Format { bench: bench.name, wanted, found });
        }
        Ok(())
    }
}

/// A line of the transcript.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    /// The item's number among all, counted from 0.
    number: usize,
    /// The form in which it was asked.
    form: String,
    /// The rows of the table that it counts in.
    rows: Vec<String>,
    /// What the benchmark's own rule, or its judge, read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read: Option<String>,
    /// Whether no rule decides it and the protocol asks a judge.
    for_judge: bool,
    /// What was played; its reward is the strict figure.
    #[serde(flatten)]
    record: TrajectoryRecord,
}

/// Plays samples.
pub trait Player {
    /// A trajectory for each sample, in order, or why there is none. After one that speaks against all others nothing comes.
    fn episodes(&mut self, samples: &[Arc<Sample>]) -> Vec<Result<Trajectory, Error>>;
}

/// Plays nothing: for a transcript that is whole.
pub struct Nobody;

impl Player for Nobody {
    fn episodes(&mut self, _: &[Arc<Sample>]) -> Vec<Result<Trajectory, Error>> {
        Vec::new()
    }
}

impl<P, T, R, M, O> Player for crate::Experiment<P, T, R, M, O>
where
    P: Policy,
    T: Toolbox + ?Sized,
    R: imagent_core::Reward + ?Sized,
    M: imagent_core::MaskSet + ?Sized,
    O: imagent_core::PolicyOptimizer + ?Sized,
{
    fn episodes(&mut self, samples: &[Arc<Sample>]) -> Vec<Result<Trajectory, Error>> {
        match self.play_all(samples) {
            Ok(played) => played.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error.into())],
        }
    }
}

/// A benchmark on a dataset.
struct Course<'a> {
    reader: &'a dyn Reader,
    options: &'a BenchOptions,
    scoring: Scoring,
    forms: Vec<Form>,
}

/// Whether all items of this part are written down, so that nobody has to be asked.
///
/// # Errors
/// As [`run`].
pub fn is_played(
    bench: &'static Bench,
    reader: &dyn Reader,
    options: &BenchOptions,
    judged: bool,
) -> Result<bool, Error> {
    if !options.dir.is_dir() {
        return Ok(false);
    }
    let course = Course::new(bench, reader, options, judged)?;
    let lines = course.lines()?;
    Ok(course.wanted().filter(|&number| course.is_mine(number)).all(|number| lines.contains_key(&number)))
}

/// Plays what is not yet written down, and reports once all is there: `None` if it was told to stop, or while other parts are missing.
///
/// `watch(done)` is told how many items of this part are there, and says whether to go on.
///
/// # Errors
/// As [`BenchOptions::check`]; a folder of another run, a failing model or judge. Items without an answer do not keep others from being
/// played; the first is the error.
pub fn run(
    bench: &'static Bench,
    reader: &dyn Reader,
    player: &mut dyn Player,
    judge: Option<&mut Judge<'_>>,
    options: &BenchOptions,
    watch: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Report>, Error> {
    let course = Course::new(bench, reader, options, judge.is_some())?;
    agree(&options.dir.join("config.toml"), &options.config)?;
    agree(&options.dir.join("bench.toml"), &course.settings())?;
    let mut transcript = LinesWriter::open(&course.own_file())?;
    let there = course.lines()?;
    let mine: Vec<usize> = course.wanted().filter(|&number| course.is_mine(number)).collect();
    let left: Vec<usize> = mine.iter().copied().filter(|number| !there.contains_key(number)).collect();
    let mut done = mine.len() - left.len();
    drop(there);
    if !left.is_empty() {
        // They would not be those of all items.
        remove(&options.dir.join(EVAL_FIGURES))?;
    }
    let mut unanswered = Unanswered::default();
    for batch in left.chunks(BATCH) {
        let (before, played) = (done, course.play(batch, player)?);
        let all_told = played.len() == batch.len();
        for line in played {
            match line {
                Ok(line) => {
                    transcript.append(&line)?;
                    done += 1;
                }
                Err(error) => unanswered.add(error),
            }
        }
        if !watch(done) {
            return Ok(None);
        }
        if !all_told || done == before {
            break;
        }
    }
    unanswered.told()?;
    drop(transcript);
    let Some(parts) = course.hold_parts()? else { return Ok(None) };
    let lines = course.lines()?;
    if course.wanted().any(|number| !lines.contains_key(&number)) {
        return Ok(None);
    }
    course.finish(lines, judge, parts).map(Some)
}

impl<'a> Course<'a> {
    fn new(
        bench: &'static Bench,
        reader: &'a dyn Reader,
        options: &'a BenchOptions,
        judged: bool,
    ) -> Result<Self, Error> {
        options.check(bench, reader, judged)?;
        let scoring = Scoring { bench, frame: options.frame, seed: options.seed, judged };
        let forms = bench.forms(&reader.entry(0)?, options.plain);
        Ok(Self { reader, options, scoring, forms })
    }

    /// How the benchmark is asked.
    fn settings(&self) -> String {
        #[derive(Serialize)]
        struct Settings {
            bench: &'static str,
            plain: bool,
            frame: BoxFrame,
        }
        let BenchOptions { plain, frame, .. } = *self.options;
        // Names and a truth value are TOML.
        toml::to_string(&Settings { bench: self.scoring.bench.name, plain, frame }).unwrap_or_default()
    }

    /// The numbers of the items that are to be reported.
    fn wanted(&self) -> std::ops::Range<usize> {
        0..self.options.limit.unwrap_or(usize::MAX).min(self.reader.len()) * self.forms.len()
    }

    fn is_mine(&self, number: usize) -> bool {
        let (shard, shards) = self.options.shard;
        number % shards == shard - 1
    }

    /// The file that this part is written to.
    fn own_file(&self) -> PathBuf {
        let (shard, shards) = self.options.shard;
        let part = format!("rollouts-{shard}-of-{shards}.jsonl");
        self.options.dir.join(if shards == 1 { EVAL_ROLLOUTS } else { &part })
    }

    /// An item's entry in its form.
    fn entry(&self, number: usize) -> Result<(Form, Entry), Error> {
        let form = self.forms[number % self.forms.len()];
        Ok((form, form.of(&self.reader.entry(number / self.forms.len())?, self.options.seed)))
    }

    fn play(&self, numbers: &[usize], player: &mut dyn Player) -> Result<Vec<Result<Line, Error>>, Error> {
        let (mut entries, mut samples) = (Vec::new(), Vec::new());
        for &number in numbers {
            let (form, entry) = self.entry(number)?;
            let images = self.reader.sample(number / self.forms.len())?.images;
            let question = self.scoring.bench.question(&entry, form, self.options.frame, self.options.plain);
            samples.push(Arc::new(Sample { question, ..entry.sample(images) }));
            entries.push((number, form, entry));
        }
        let played = player.episodes(&samples);
        let line = |((number, form, entry), played): ((usize, Form, Entry), Result<Trajectory, Error>)| {
            let scored = ScoredTrajectory { trajectory: played?, score: Score::default() };
            let record = TrajectoryRecord::from(&scored);
            Ok(self.line(number, form, &entry, record))
        };
        Ok(entries.into_iter().zip(played).map(line).collect())
    }

    /// A line with the figures of what was played.
    fn line(&self, number: usize, form: Form, entry: &Entry, record: TrajectoryRecord) -> Line {
        let scores = self.scoring.of(entry, &record);
        let (rows, for_judge) = (self.scoring.bench.rows(entry), scores.open);
        let mut line = Line { number, form: form.name().to_owned(), rows, read: None, for_judge, record };
        line.take(scores);
        line
    }

    /// All lines of the folder by number, with figures as they are given now. The joined file is read last: a part that goes while this
    /// reads is in it.
    fn lines(&self) -> Result<BTreeMap<usize, Line>, Error> {
        let mut lines = BTreeMap::new();
        for path in self.parts()?.into_iter().chain([self.options.dir.join(EVAL_ROLLOUTS)]) {
            let read: Vec<Line> = match read_lines(&path) {
                Err(imagent_analysis::AnalysisError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    continue;
                }
                read => read?,
            };
            for old in read {
                let line = self.again(&path, old)?;
                lines.insert(line.number, line);
            }
        }
        Ok(lines)
    }

    /// A line that was written before.
    fn again(&self, path: &Path, old: Line) -> Result<Line, Error> {
        let (form, entry) = self.entry(old.number)?;
        if entry.id != old.record.sample {
            let (path, number, found, wanted) = (path.to_owned(), old.number, old.record.sample, entry.id);
            return Err(BenchError::OtherItem { path, number, found, wanted }.into());
        }
        Ok(self.line(old.number, form, &entry, old.record))
    }

    /// The files of parts.
    fn parts(&self) -> Result<Vec<PathBuf>, Error> {
        let dir = &self.options.dir;
        let failed = |source| Error::Io { path: dir.clone(), source };
        let mut parts = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("rollouts-") && name.ends_with(".jsonl") {
                parts.push(path);
            }
        }
        parts.sort();
        Ok(parts)
    }

    /// The files of parts, which nobody else writes to as long as these are held; `None` while somebody does.
    fn hold_parts(&self) -> Result<Option<Vec<(PathBuf, LinesWriter)>>, Error> {
        for attempt in 0..PATIENCE.0 {
            if attempt > 0 {
                std::thread::sleep(PATIENCE.1);
            }
            let hold = |path: PathBuf| Ok((path.clone(), LinesWriter::open(&path)?));
            match self.parts()?.into_iter().map(hold).collect::<Result<Vec<_>, AnalysisError>>() {
                Err(AnalysisError::Busy { .. }) => {}
                held => return Ok(Some(held?)),
            }
        }
        Ok(None)
    }

    /// Has the judge heard, writes the transcript whole, counts, and writes the figures last.
    fn finish(
        &self,
        mut lines: BTreeMap<usize, Line>,
        judge: Option<&mut Judge<'_>>,
        parts: Vec<(PathBuf, LinesWriter)>,
    ) -> Result<Report, Error> {
        let name = judge.as_ref().map(|judge| judge.name().to_owned());
        let unreadable = judge.map_or(Ok(Vec::new()), |judge| self.judge(&mut lines, judge))?;
        write_rollouts(&self.options.dir.join(EVAL_ROLLOUTS), &lines.values().collect::<Vec<_>>())?;
        for (path, held) in parts {
            fs::remove_file(&path).map_err(|source| Error::Io { path, source })?;
            drop(held);
        }
        let mut items = Vec::new();
        for (number, Line { rows, for_judge, record, .. }) in lines {
            if self.wanted().contains(&number) {
                let (form, entry) = self.entry(number)?;
                let (cluster, unreadable) = (self.scoring.bench.cluster(&entry), unreadable.contains(&number));
                items.push(Counted { form, rows, cluster, figures: record.parts, for_judge, unreadable });
            }
        }
        let report = Report::new(self.scoring.bench, name, &items, self.options.seed);
        write_atomic(&self.options.dir.join(EVAL_FIGURES), report.json().as_bytes())?;
        Ok(report)
    }

    /// Puts what no rule decides to the judge; the numbers of what it left open.
    fn judge(&self, lines: &mut BTreeMap<usize, Line>, judge: &mut Judge<'_>) -> Result<Vec<usize>, Error> {
        let mut open = Vec::new();
        for line in lines.values().filter(|line| line.for_judge && self.wanted().contains(&line.number)) {
            let (_, entry) = self.entry(line.number)?;
            open.push((line.number, judge.case(&entry, &reply(&line.record)), entry));
        }
        judge.hear(open.iter().map(|(_, case, _)| case.clone()))?;
        let mut unreadable = Vec::new();
        for (number, case, entry) in open {
            let reading = judge.verdict(&case, &entry.options);
            if reading == Reading::Judge {
                unreadable.push(number);
            }
            if let Some(line) = lines.get_mut(&number) {
                let figures = std::mem::take(&mut line.record.parts);
                let mut scores = Scores { figures, ..Scores::default() };
                scores.take(OFFICIAL, &entry.answer, &reading);
                line.take(scores);
            }
        }
        Ok(unreadable)
    }
}

/// Items that nobody answered.
#[derive(Default)]
struct Unanswered {
    items: usize,
    first: Option<Error>,
}

impl Unanswered {
    fn add(&mut self, error: Error) {
        self.items += 1;
        self.first.get_or_insert(error);
    }

    fn told(self) -> Result<(), Error> {
        match self.first {
            None => Ok(()),
            Some(Error::Chat(ChatError::Failed(problem))) if self.items > 1 => {
                Err(Error::Chat(ChatError::Failed(format!("{problem} (and {} more items)", self.items - 1))))
            }
            Some(error) => Err(error),
        }
    }
}

impl Line {
    /// Takes these figures.
    fn take(&mut self, scores: Scores) {
        self.record.reward = scores.figures.get(STRICT).copied().unwrap_or_default();
        self.record.parts = scores.figures;
        self.read = scores.read;
    }
}

/// Writes down what is run, or compares with what was written.
fn agree(path: &Path, wanted: &str) -> Result<(), Error> {
    let found = match fs::read_to_string(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(write_atomic(path, wanted.as_bytes())?),
        Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
    };
    same_run(path, &found, wanted, &FREE)
}
