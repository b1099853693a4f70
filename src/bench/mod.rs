//! Benchmarks: published questions put to a model as their authors put them, and the score that their own evaluator gives, with a
//! strict one beside it.
//!
//! * this page: the benchmarks, and how their items join in one figure;
//! * `ask`: questions as their authors put them;
//! * [`official`]: replies as the benchmarks' own evaluators read them;
//! * [`score`]: a played item to its figures;
//! * [`judge`]: replies that no rule decides, and what a judge model says of them;
//! * [`mod@run`]: all items, a transcript of each, going on after a stop, shards;
//! * [`report`]: tables by task, with intervals.
//!
//! [ADR 28](https://github.com/imagent-rs/imagent/blob/main/docs/adr/0028-benchmarks.md) says why it is built like this.

mod ask;
pub mod judge;
pub mod official;
pub mod report;
pub mod run;
pub mod score;

use imagent_core::{BoxFrame, seed};
use imagent_data::formats::{Answer, Entry};
use rand::seq::SliceRandom;
use serde_json::Value;

use self::official::Reading;

pub use judge::Judge;
pub use report::Report;
pub use run::{BenchOptions, Nobody, Player, is_played, run};

/// Why a benchmark did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// There is no such benchmark.
    #[error("--bench {name}: is none of {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The dataset is of another format.
    #[error("--bench {bench} takes a dataset of the format {wanted}, and this is {found}")]
    Format {
        /// The benchmark.
        bench: &'static str,
        /// What it takes.
        wanted: String,
        /// What there is.
        found: &'static str,
    },
    /// A shard that does not exist.
    #[error("--shard {shard}/{shards}: count from 1 to {shards}")]
    Shard {
        /// Which one.
        shard: usize,
        /// Of how many.
        shards: usize,
    },
    /// There is nothing to judge.
    #[error("--judge: the protocol of {bench} has no judge")]
    NoJudge {
        /// The benchmark.
        bench: &'static str,
    },
    /// The transcript is of other items.
    #[error("{}: item {number} is {found:?} there, and {wanted:?} in the dataset", path.display())]
    OtherItem {
        /// The transcript.
        path: std::path::PathBuf,
        /// The item's number.
        number: usize,
        /// Its id there.
        found: String,
        /// Its id in the dataset.
        wanted: String,
    },
}

/// How the figures of items become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// The mean over all items.
    Items,
    /// The mean over tasks of the mean over their items.
    Tasks,
}

/// In which form an item is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As published.
    Published,
    /// Its options in an order that is drawn from the seed and the item's id.
    Shuffled,
    /// The answer is to name the image besides the box.
    Named,
}

impl Form {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Shuffled => "shuffled",
            Self::Named => "named",
        }
    }

    /// The entry in this form; the same whenever it is asked for.
    pub fn of(self, entry: &Entry, seed: u64) -> Entry {
        let mut entry = entry.clone();
        if self == Self::Shuffled {
            shuffle(&mut entry, seed);
        }
        if self != Self::Published {
            entry.id = format!("{}~{}", entry.id, self.name());
        }
        entry
    }
}

fn shuffle(entry: &mut Entry, seed: u64) {
    let mut places: Vec<usize> = (0..entry.options.len()).collect();
    places.shuffle(&mut seed::rng(seed, &[seed::text(&entry.id)]));
    if let Answer::Choice(gold) = entry.answer {
        let new = places.iter().zip('A'..='Z').find(|(place, _)| position(gold) == **place);
        entry.answer = Answer::Choice(new.map_or(gold, |(_, letter)| letter));
    }
    entry.options = places.iter().map(|&place| entry.options[place].clone()).collect();
}

/// Which option a letter stands for, counted from 0.
fn position(letter: char) -> usize {
    (letter as usize).saturating_sub('A' as usize)
}

/// A benchmark's own way to score.
#[derive(Clone, Copy)]
enum Official {
    /// A reply is read as an option, or compared with the gold text; what is left open may be a judge's. The number is a seed.
    Reply(fn(&Entry, &str, u64) -> Reading),
    /// The same, and what is left open goes to a judge by the protocol.
    ReplyOrJudge(fn(&Entry, &str) -> Reading),
    /// MIG-Bench's boxes.
    Boxes,
    /// It has none.
    Unpublished,
}

/// A benchmark.
pub struct Bench {
    /// Its name on the command line.
    pub name: &'static str,
    /// The formats that it is published in; a folder of ours is taken always.
    pub formats: &'static [&'static str],
    /// How its authors join the figures of items.
    pub join: Join,
    /// In which forms each item is asked.
    forms: &'static [Form],
    /// What is asked.
    ask: fn(&Entry) -> String,
    /// Its own scoring.
    official: Official,
    /// The rows of the table that an item counts in; tasks are joined by the first.
    rows: fn(&Entry) -> Vec<String>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const PUBLISHED: &[Form] = &[Form::Published];

/// All benchmarks.
pub static BENCHES: [Bench; 9] = [
    Bench {
        name: "vstar",
        formats: &["vstar", "vstar_questions"],
        join: Join::Items,
        forms: &[Form::Published, Form::Shuffled],
        ask: ask::vstar,
        official: Official::Reply(|_, reply, _| official::vstar(reply)),
        rows: by_kind,
    },
    Bench {
        name: "hrbench",
        formats: &["hrbench"],
        join: Join::Items,
        forms: PUBLISHED,
        ask: ask::hrbench,
        official: Official::ReplyOrJudge(|entry, reply| official::hrbench(reply, &entry.options)),
        rows: |entry| {
            let order = meta(entry, "cycle_category").map(|order| format!("order {order}"));
            std::iter::once(entry.kind.clone()).chain(order).collect()
        },
    },
    Bench {
        name: "mme-realworld",
        formats: &["mme_realworld"],
        join: Join::Items,
        forms: PUBLISHED,
        ask: ask::mme_realworld,
        official: Official::Reply(|entry, reply, _| official::mme_realworld(reply, &entry.options)),
        rows: mme_rows,
    },
    Bench {
        name: "mig",
        formats: &["mig_bench"],
        join: Join::Tasks,
        forms: &[Form::Published, Form::Named],
        ask: ask::mig,
        official: Official::Boxes,
        rows: by_kind,
    },
    Bench {
        name: "blink",
        formats: &["blink"],
        join: Join::Tasks,
        forms: PUBLISHED,
        ask: ask::blink,
        official: Official::ReplyOrJudge(|entry, reply| official::blink(reply, entry.options.len())),
        rows: by_kind,
    },
    Bench {
        name: "muir",
        formats: &["muirbench"],
        join: Join::Items,
        forms: PUBLISHED,
        ask: ask::muirbench,
        official: Official::Reply(|entry, reply, seed| drawn(official::muirbench(reply, &entry.options), entry, seed)),
        rows: by_kind,
    },
    Bench {
        name: "mantis",
        formats: &["mantis"],
        join: Join::Items,
        forms: PUBLISHED,
        ask: ask::mantis,
        official: Official::Reply(|entry, reply, _| match &entry.answer {
            Answer::Choice(gold) => official::mantis_choice(reply, &entry.options, *gold),
            Answer::Text(gold) => Reading::Compared(official::mantis_text(reply, gold)),
            Answer::Box(_) => Reading::Nothing,
        }),
        rows: |entry| vec![if entry.options.is_empty() { "short-answer" } else { "multi-choice" }.to_owned()],
    },
    Bench {
        name: "mmiu",
        formats: &["mmiu"],
        join: Join::Tasks,
        forms: PUBLISHED,
        ask: ask::mmiu,
        official: Official::ReplyOrJudge(|_, reply| official::mmiu(reply)),
        rows: by_kind,
    },
    Bench {
        name: "mifg",
        formats: &[],
        join: Join::Items,
        forms: PUBLISHED,
        ask: Entry::prompt,
        official: Official::Unpublished,
        rows: by_kind,
    },
];

/// The benchmark of this name.
///
/// # Errors
/// When there is none; names those that are.
pub fn named(name: &str) -> Result<&'static Bench, BenchError> {
    let known = || BENCHES.iter().map(|bench| bench.name).collect::<Vec<_>>().join(", ");
    let found = BENCHES.iter().find(|bench| bench.name == name);
    found.ok_or_else(|| BenchError::Unknown { name: name.to_owned(), known: known() })
}

impl Bench {
    /// Whether its protocol asks a judge model what no rule decides.
    pub fn has_judge(&self) -> bool {
        matches!(self.official, Official::ReplyOrJudge(_))
    }

    /// The forms in which items like this one are asked; a bare question has no room for others than the order of its options.
    /// Options that stand in a published question stay where they are.
    pub fn forms(&self, entry: &Entry, plain: bool) -> Vec<Form> {
        let fits = |form: &Form| match form {
            Form::Published => true,
            Form::Shuffled => !entry.meta.contains_key(ask::PROMPT),
            Form::Named => !plain,
        };
        self.forms.iter().copied().filter(fits).collect()
    }

    /// What is asked. `frame` is what the model's boxes count; with `plain` it is the bare question and its options.
    pub fn question(&self, entry: &Entry, form: Form, frame: BoxFrame, plain: bool) -> String {
        match form {
            _ if plain => entry.prompt(),
            Form::Named => ask::image_and_box(entry, frame),
            Form::Published | Form::Shuffled => (self.ask)(entry),
        }
    }

    /// The rows of the table that an item counts in.
    pub fn rows(&self, entry: &Entry) -> Vec<String> {
        (self.rows)(entry)
    }

    /// What items that are not independent have in common: HR-Bench asks each question four times.
    pub fn cluster(&self, entry: &Entry) -> u64 {
        if self.name != "hrbench" {
            return seed::text(&entry.id);
        }
        let mut texts = vec![entry.question.as_str()];
        texts.extend(entry.options.iter().map(String::as_str));
        texts[1..].sort_unstable();
        seed::text(&texts.join("\n"))
    }
}

fn by_kind(entry: &Entry) -> Vec<String> {
    vec![entry.kind.clone()]
}

/// A value of a row's `meta` as text.
fn meta(entry: &Entry, key: &str) -> Option<String> {
    match entry.meta.get(key)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// MME-RealWorld: the task, the subtask within it and the category within that. Categories of attributes are one
/// (`eval_your_results.py`). The editions in base64 have the first two in one column.
fn mme_rows(entry: &Entry) -> Vec<String> {
    let parts = [meta(entry, "Task"), meta(entry, "Subtask"), meta(entry, "Category")];
    let [task, subtask, category] = match parts {
        [Some(task), Some(subtask), category] => [Some(task), Some(subtask), category],
        _ => {
            let (task, subtask) = entry.kind.split_once('/').unwrap_or((&entry.kind, ""));
            let subtask = Some(subtask.to_owned()).filter(|name| !name.is_empty());
            [Some(task.to_owned()), subtask, meta(entry, "l2-category")]
        }
    };
    let category = category.map(|name| name.to_lowercase()).map(|name| match name.split('/').next() {
        Some(first) if name.contains("attribute") => format!("{first}/attribute"),
        _ => name,
    });
    let parts: Vec<String> = [task, subtask, category].into_iter().map_while(|part| part).collect();
    (1..=parts.len()).map(|depth| parts[..depth].join("/")).collect()
}

/// MuirBench draws an option where it reads none; here by seed and id, there by the state of Python's generator.
fn drawn(reading: Reading, entry: &Entry, seed: u64) -> Reading {
    let count = entry.options.len() as u64;
    if reading != Reading::Nothing || count == 0 {
        return reading;
    }
    let draw = seed::derive(seed, &[seed::text(&entry.id)]) % count;
    ('A'..='Z').nth(draw as usize).map_or(Reading::Nothing, Reading::Letter)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    pub(super) fn entry(id: &str) -> Entry {
        Entry {
            id: id.into(),
            pictures: Vec::new(),
            later_pictures: Vec::new(),
            question: "Which?".into(),
            options: ["red", "blue", "grey", "pink"].map(str::to_owned).into(),
            answer: Answer::Choice('A'),
            kind: "direct_attributes".into(),
            zooms_needed: None,
            gold: Vec::new(),
            conversation: Vec::new(),
            meta: serde_json::Map::new(),
        }
    }

    #[test]
    fn shuffled_options_keep_the_right_one() {
        let mut golds = BTreeSet::new();
        for n in 0..50 {
            let shuffled = Form::Shuffled.of(&entry(&n.to_string()), 7);
            let Answer::Choice(gold) = shuffled.answer else { continue };
            golds.insert(gold);
            assert_eq!(shuffled.options[position(gold)], "red");
            assert_eq!(shuffled, Form::Shuffled.of(&entry(&n.to_string()), 7), "the same each time");
            let options: BTreeSet<&str> = shuffled.options.iter().map(String::as_str).collect();
            assert_eq!(options.into_iter().collect::<Vec<_>>(), ["blue", "grey", "pink", "red"]);
        }
        assert_eq!(golds.into_iter().collect::<String>(), "ABCD");
        assert_eq!(Form::Published.of(&entry("x"), 7), entry("x"));
        let mut printed = entry("x");
        printed.meta.insert(ask::PROMPT.into(), "(A) red".into());
        let vstar = named("vstar").unwrap();
        assert_eq!(vstar.forms(&printed, false), [Form::Published]);
        assert_eq!(vstar.forms(&entry("x"), true), [Form::Published, Form::Shuffled]);
    }

    #[test]
    fn the_four_orders_of_a_question_are_one_cluster() {
        let (hrbench, one) = (named("hrbench").unwrap(), entry("1"));
        let mut turned = Entry { id: "2".into(), ..one.clone() };
        turned.options.rotate_left(1);
        assert_eq!(hrbench.cluster(&one), hrbench.cluster(&turned));
        assert_ne!(hrbench.cluster(&one), hrbench.cluster(&Entry { question: "Where?".into(), ..turned.clone() }));
        assert_ne!(named("blink").unwrap().cluster(&one), named("blink").unwrap().cluster(&turned));
        turned.meta.insert("cycle_category".into(), 3.into());
        assert_eq!(hrbench.rows(&turned), ["direct_attributes", "order 3"]);
    }

    #[test]
    fn mme_realworld_has_rows_of_three_depths() {
        let rows = |kind: &str, pairs: &[(&str, &str)]| {
            let meta = pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
            named("mme-realworld").unwrap().rows(&Entry { kind: kind.into(), meta, ..entry("x") })
        };
        let files = [("Task", "Perception"), ("Subtask", "Monitoring"), ("Category", "Person/Attribute/Color")];
        let wanted = ["Perception", "Perception/Monitoring", "Perception/Monitoring/person/attribute"];
        assert_eq!(rows("Monitoring", &files), wanted);
        assert_eq!(rows("Perception/Monitoring", &[("l2-category", "person/attribute_colour")]), wanted);
        assert_eq!(rows("Perception", &[]), ["Perception"]);
    }

    #[test]
    fn an_unknown_name_is_told_those_that_are() {
        assert!(named("nonsense").unwrap_err().to_string().contains("none of vstar, hrbench, mme-realworld, mig"));
    }
}
