//! Benchmarks: published questions put to a model as their authors put them, and the score that their own evaluator gives, with a
//! strict one beside it.
//!
//! * this page: the benchmarks, what each asks and how its items join in one figure;
//! * [`official`]: replies as the benchmarks' own evaluators read them;
//! * [`score`]: a played item to its scores;
//! * [`mod@run`]: all items, a transcript of each, going on after a stop, shards;
//! * [`report`]: tables by task, with intervals.

pub mod official;
pub mod report;
pub mod run;
pub mod score;

use std::path::Path;
use std::sync::Arc;

use imagent_core::{RgbImage, Sample, seed};
use imagent_data::formats::{Answer, Entry};
use rand::seq::SliceRandom;

pub use report::Report;
pub use run::{BenchError, BenchOptions, Player, run};

/// How the figures of items become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// The mean over all items.
    Items,
    /// The mean over tasks of the mean over their items.
    Tasks,
}

/// A benchmark.
pub struct Bench {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// The formats that it is published in; empty takes any.
    pub formats: &'static [&'static str],
    /// How its authors join the figures of items.
    pub join: Join,
    /// How options are put: as published, and, where the right one always comes first there, in an order drawn for each item.
    pub orders: &'static [Order],
    /// What is asked, as the benchmark's authors (or lmms-eval) put it.
    ask: fn(&Entry) -> String,
    /// The task of an item, for the table.
    task: fn(&Entry) -> String,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The order of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As in the file.
    Published,
    /// Drawn from the seed and the item's id.
    Shuffled,
}

impl Order {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Shuffled => "shuffled",
        }
    }
}

const PUBLISHED: &[Order] = &[Order::Published];
const LETTER: &str = "Answer with the option's letter from the given choices directly.";

/// All benchmarks.
pub const BENCHES: [Bench; 10] = [
    Bench {
        name: "vstar",
        about: "V*Bench from its annotations, options in file order (the first is always right) and shuffled",
        formats: &["vstar"],
        join: Join::Items,
        orders: &[Order::Published, Order::Shuffled],
        ask: |entry| format!("{}\n{}\n{LETTER}", entry.question, listed(entry, "(", ") ")),
        task: |entry| entry.kind.clone(),
    },
    Bench {
        name: "vstar-questions",
        about: "V*Bench's test_questions.jsonl, options in its own shuffled order",
        formats: &["vstar_questions"],
        join: Join::Items,
        orders: PUBLISHED,
        ask: |entry| published(entry).unwrap_or_else(|| entry.prompt()),
        task: |entry| entry.kind.clone(),
    },
    Bench {
        name: "hrbench",
        about: "HR-Bench 4K or 8K, the mean over the four orders of options",
        formats: &["hrbench"],
        join: Join::Items,
        orders: PUBLISHED,
        ask: |entry| {
            let listed = listed(entry, "", ". ");
            format!(
                "{}\nOptions:\n{listed}\nPlease select the correct answer from the options above. \n",
                entry.question
            )
        },
        task: |entry| entry.kind.clone(),
    },
    Bench {
        name: "mme-realworld",
        about: "MME-RealWorld, by category",
        formats: &["mme_realworld"],
        join: Join::Items,
        orders: PUBLISHED,
        ask: |entry| {
            let listed = listed(entry, "(", ") ");
            format!(
                "{} The choices are listed below:\n{listed}\nSelect the best answer to the above multiple-choice question based on the \
                 image. Respond with only the letter (A, B, C, D, or E) of the correct option.\nThe best answer is: ",
                entry.question
            )
        },
        task: mme_task,
    },
    Bench {
        name: "mig",
        about: "MIG-Bench, Acc@0.5, the mean over its ten tasks",
        formats: &["mig_bench"],
        join: Join::Tasks,
        orders: PUBLISHED,
        // The second mark opens again where it should close: so the authors ask.
        ask: |entry| {
            format!(
                "{}Format:<|box_start|>(x1,y1),(x2,y2)<|box_start|>. Don't generate addtional words.",
                entry.question
            )
        },
        task: |entry| entry.kind.clone(),
    },
    Bench {
        name: "blink",
        about: "BLINK's validation split, the mean over its tasks",
        formats: &["blink"],
        join: Join::Tasks,
        orders: PUBLISHED,
        ask: |entry| published(entry).unwrap_or_else(|| entry.prompt()),
        task: |entry| entry.kind.clone(),
    },
    Bench {
        name: "muir",
        about: "MuirBench",
        formats: &["muirbench"],
        join: Join::Items,
        orders: PUBLISHED,
        ask: |entry| {
            let listed = listed(entry, "(", ") ");
            let hint = "Hint: Please provide the correct option letter, such as A, B, C, D, directly.";
            format!("Question: {}\nChoices:\n{listed}\n{hint}\nAnswer:", entry.question)
        },
        task: |entry| entry.kind.clone(),
    },
    Bench {
        name: "mantis",
        about: "Mantis-Eval, multiple choice and short answers",
        formats: &["mantis"],
        join: Join::Items,
        orders: PUBLISHED,
        ask: mantis,
        task: |entry| if entry.options.is_empty() { "short-answer" } else { "multi-choice" }.to_owned(),
    },
    Bench {
        name: "mmiu",
        about: "MMIU, the mean over its tasks",
        formats: &["mmiu"],
        join: Join::Tasks,
        orders: PUBLISHED,
        ask: |entry| {
            format!(
                "{}\n{}\nPlease answer the option directly like A,B,C,D...",
                entry.question,
                listed(entry, "", ": ")
            )
        },
        task: |entry| entry.kind.clone(),
    },
    Bench {
        name: "mifg",
        about: "any dataset of questions with gold answers, MIFG-QA for one; strict scoring only",
        formats: &[],
        join: Join::Items,
        orders: PUBLISHED,
        ask: Entry::prompt,
        task: |entry| entry.kind.clone(),
    },
];

/// The benchmark of this name.
///
/// # Errors
/// When there is none; names those that are.
pub fn named(name: &str) -> Result<&'static Bench, BenchError> {
    static ALL: [Bench; 10] = BENCHES;
    ALL.iter()
        .find(|bench| bench.name == name)
        .ok_or_else(|| BenchError::Unknown { name: name.to_owned(), known: BENCHES.map(|bench| bench.name).join(", ") })
}

/// Writes the figures to `result.json` in the folder of a run.
///
/// # Errors
/// When it cannot be written.
pub fn write_result(out: &Path, text: &str) -> Result<(), BenchError> {
    run::replace(&out.join("result.json"), text)
}

impl Bench {
    /// The entry with its options in an order, and the same whenever it is asked for.
    pub fn ordered(&self, entry: &Entry, order: Order, seed: u64) -> Entry {
        let (mut entry, id) = (entry.clone(), seed::text(&entry.id));
        if order == Order::Published {
            return entry;
        }
        let mut places: Vec<usize> = (0..entry.options.len()).collect();
        places.shuffle(&mut seed::rng(seed, &[id]));
        if let Answer::Choice(gold) = entry.answer {
            let old = (gold as usize).saturating_sub('A' as usize);
            let new = places.iter().position(|&place| place == old).unwrap_or(old);
            entry.answer = Answer::Choice(('A'..='Z').nth(new).unwrap_or(gold));
        }
        entry.options = places.iter().map(|&place| entry.options[place].clone()).collect();
        entry.id = format!("{}~{}", entry.id, order.name());
        entry
    }

    /// The entry, images and all, as it is put to the model.
    pub fn sample(&self, entry: &Entry, images: Vec<Arc<RgbImage>>) -> Sample {
        Sample { question: (self.ask)(entry), ..entry.sample(images) }
    }

    /// The item's row in the table.
    pub fn task(&self, entry: &Entry) -> String {
        (self.task)(entry)
    }

    /// What items that are not independent have in common: HR-Bench asks each question four times.
    pub fn cluster(&self, entry: &Entry) -> String {
        if self.name != "hrbench" {
            return entry.id.clone();
        }
        let mut options: Vec<&str> = entry.options.iter().map(String::as_str).collect();
        options.sort_unstable();
        format!("{}\n{}", entry.question, options.join("\n"))
    }
}

/// The options, a line each, their letters between `before` and `after`.
fn listed(entry: &Entry, before: &str, after: &str) -> String {
    let lines = ('A'..='Z').zip(&entry.options).map(|(letter, option)| format!("{before}{letter}{after}{option}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The prompt that was published with the row.
fn published(entry: &Entry) -> Option<String> {
    Some(entry.meta.get("prompt")?.as_str()?.to_owned())
}

fn mantis(entry: &Entry) -> String {
    if entry.options.is_empty() {
        let tail = "You can first give your analysis, and then give your final answer as \"Final Answer:\"";
        return format!(
            "Given the images, answer the following short answer vqa question:\nQ: {}\n{tail}",
            entry.question
        );
    }
    let lines = ('A'..='Z').zip(&entry.options).map(|(letter, option)| format!("\n ({letter}) {option}"));
    format!("{}{}\n{LETTER}", entry.question, lines.collect::<String>())
}

/// Task and subtask, however the edition names them.
fn mme_task(entry: &Entry) -> String {
    let text = |key: &str| entry.meta.get(key).and_then(|value| value.as_str());
    match (text("Task"), text("Subtask")) {
        (Some(task), Some(subtask)) => format!("{task}/{subtask}"),
        _ => entry.kind.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn entry(id: &str) -> Entry {
        Entry {
            id: id.into(),
            pictures: Vec::new(),
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
        let bench = named("vstar").unwrap();
        let mut golds = BTreeSet::new();
        for n in 0..50 {
            let shuffled = bench.ordered(&entry(&n.to_string()), Order::Shuffled, 7);
            let Answer::Choice(gold) = shuffled.answer else { continue };
            golds.insert(gold);
            assert_eq!(shuffled.options[gold as usize - 'A' as usize], "red");
            assert_eq!(shuffled, bench.ordered(&entry(&n.to_string()), Order::Shuffled, 7), "the same each time");
            let mut options = shuffled.options.clone();
            options.sort();
            assert_eq!(options, ["blue", "grey", "pink", "red"]);
        }
        assert_eq!(golds.into_iter().collect::<String>(), "ABCD");
        assert_eq!(bench.ordered(&entry("x"), Order::Published, 7), entry("x"));
    }

    #[test]
    fn questions_are_put_as_their_authors_put_them() {
        let ask = |name: &str, entry: &Entry| (named(name).unwrap().ask)(entry);
        let plain = entry("x");
        let listed = "(A) red\n(B) blue\n(C) grey\n(D) pink";
        assert_eq!(ask("vstar", &plain), format!("Which?\n{listed}\n{LETTER}"));
        assert_eq!(
            ask("hrbench", &plain),
            "Which?\nOptions:\nA. red\nB. blue\nC. grey\nD. pink\nPlease select the correct answer from the options above. \n"
        );
        assert!(
            ask("mme-realworld", &plain)
                .starts_with(&format!("Which? The choices are listed below:\n{listed}\nSelect"))
        );
        assert!(ask("mme-realworld", &plain).ends_with("correct option.\nThe best answer is: "));
        assert!(ask("muir", &plain).starts_with(&format!("Question: Which?\nChoices:\n{listed}\nHint: Please")));
        assert_eq!(ask("mantis", &plain), format!("Which?\n {}\n{LETTER}", listed.replace('\n', "\n ")));
        let short = Entry { options: Vec::new(), ..plain.clone() };
        assert!(ask("mantis", &short).ends_with(
            "Q: Which?\nYou can first give your analysis, and then give your final answer as \"Final Answer:\""
        ));
        assert!(ask("mig", &short).starts_with("Which?Format:<|box_start|>(x1,y1),(x2,y2)<|box_start|>."));
        let mut published = plain.clone();
        published.meta.insert("prompt".into(), "As printed".into());
        assert_eq!([ask("blink", &published), ask("vstar-questions", &published)], ["As printed"; 2]);
        assert!(named("nonsense").unwrap_err().to_string().contains("none of vstar, vstar-questions, hrbench"));
    }
}
