//! A played item to its figures: what the benchmark's own evaluator gives, and what a strict reading gives.

use std::collections::BTreeMap;

use imagent_analysis::TrajectoryRecord;
use imagent_core::{BoxFrame, EndReason, ImageSizes, Original, Size, WrittenBox};
use imagent_data::formats::{Answer, Entry, Region};
use imagent_rewards::Grader;

use super::official::{self, Reading};
use super::{Bench, Official};

/// The benchmark's own figure.
pub const OFFICIAL: &str = "official";
/// What is left of the benchmark's own figure without its judge: what no rule decides counts as wrong.
pub const RULE: &str = "rule";
/// The strict figure.
pub const STRICT: &str = "strict";

/// How items are scored.
#[derive(Clone, Copy, Debug)]
pub struct Scoring {
    /// The benchmark.
    pub bench: &'static Bench,
    /// What the model's boxes count.
    pub frame: BoxFrame,
    /// Draws where an official rule draws.
    pub seed: u64,
    /// Whether there is a judge for what no rule decides.
    pub judged: bool,
}

/// What an item is worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// By name, from 0 to 1.
    pub figures: BTreeMap<String, f64>,
    /// What the benchmark's own rule read.
    pub read: Option<String>,
    /// The benchmark's own protocol asks a judge here.
    pub open: bool,
}

/// What the model said in the end: its answer, or else its last turn, without what it thought.
pub fn reply(record: &TrajectoryRecord) -> String {
    let last = record.turns.last().map_or("", |turn| turn.text.as_str());
    record.answer.clone().unwrap_or_else(|| spoken(last).to_owned())
}

/// A text without the thought at its head.
pub(super) fn spoken(text: &str) -> &str {
    text.rsplit_once("</think>").map_or(text, |(_, spoken)| spoken).trim()
}

/// The letter of an option behind its text.
pub(super) fn with_letters(entry: &Entry) -> Vec<String> {
    ('A'..='Z').zip(&entry.options).map(|(letter, option)| format!("{letter}. {option}")).collect()
}

impl Scoring {
    /// The figures of an item.
    pub fn of(&self, entry: &Entry, record: &TrajectoryRecord) -> Scores {
        let reply = reply(record);
        let mut scores = match &entry.answer {
            Answer::Box(region) => self.boxed(entry, region, &reply, record),
            Answer::Choice(_) | Answer::Text(_) => self.read(entry, &reply),
        };
        if !matches!(record.end, EndReason::Answered | EndReason::NoAnswer) {
            scores.figures.insert(STRICT.into(), 0.0);
        }
        scores
    }

    /// The name of the benchmark's own figure.
    fn own(&self) -> &'static str {
        if self.bench.has_judge() && !self.judged { RULE } else { OFFICIAL }
    }

    fn read(&self, entry: &Entry, reply: &str) -> Scores {
        let reading = match self.bench.official {
            Official::Reply(read) => Some(read(entry, reply, self.seed)),
            Official::ReplyOrJudge(read) => Some(read(entry, reply)),
            Official::Boxes | Official::Unpublished => None,
        };
        let mut scores = Scores { open: reading == Some(Reading::Judge), ..Scores::default() };
        if let Some(reading) = reading {
            scores.take(self.own(), &entry.answer, &reading);
        }
        scores.figures.insert(STRICT.into(), strict(entry, reply));
        scores
    }

    /// MIG-Bench: the official reading knows nothing of pixels or of images; `converted` reads its numbers in the model's frame on the
    /// gold image; the strict one wants a single box, the image named where there are several, and the true frame.
    fn boxed(&self, entry: &Entry, gold: &Region, reply: &str, record: &TrajectoryRecord) -> Scores {
        let images = entry.pictures.len();
        let image = gold.image.unwrap_or(images);
        let found = record.images.iter().find(|found| found.index == image);
        let sizes =
            found.map(|found| ImageSizes { original: Size::new(found.width, found.height), shown: found.shown });
        let overlap = |corners: [f64; 4]| {
            let overlap = |sizes| gold.frame.read::<Original>(gold.corners, sizes).iou(self.frame.read(corners, sizes));
            sizes.as_ref().map_or(0.0, overlap)
        };
        let right =
            |found: &WrittenBox| found.image.map_or(images == 1, |named| gold.image.is_none_or(|it| it == named));
        let strict = WrittenBox::read(reply).filter(right).map_or(0.0, |found| overlap(found.corners));
        let mut scores = Scores::default();
        let mut figure = |name: &str, value: f64| scores.figures.insert(name.to_owned(), value);
        figure(STRICT, hit(strict, 0.5));
        figure("strict_iou", strict);
        if !matches!(self.bench.official, Official::Boxes) {
            return scores;
        }
        let found = official::mig_box(reply);
        let unit = sizes.as_ref().map_or(gold.corners, |sizes| fractions(gold, sizes));
        let iou = found.map_or(0.0, |found| official::mig_iou(unit, found));
        for (name, threshold) in [(OFFICIAL, 0.5), ("official@0.3", 0.3), ("official@0.7", 0.7)] {
            figure(name, hit(iou, threshold));
        }
        figure("official_iou", iou);
        figure("converted", hit(official::mig_numbers(reply).map_or(0.0, |(numbers, _)| overlap(numbers)), 0.5));
        scores.read = found.map(|found| format!("{found:?}"));
        scores
    }
}

impl Scores {
    /// Takes what was read as the benchmark's own figure of this name.
    pub(super) fn take(&mut self, name: &str, gold: &Answer, reading: &Reading) {
        let right = match reading {
            Reading::Letter(letter) => *gold == Answer::Choice(*letter),
            Reading::Compared(same) => *same,
            Reading::Nothing | Reading::Judge => false,
        };
        self.figures.insert(name.to_owned(), f64::from(u8::from(right)));
        self.read = if let Reading::Letter(letter) = reading { Some(letter.to_string()) } else { None };
    }
}

/// What the graders of rewards give.
fn strict(entry: &Entry, reply: &str) -> f64 {
    let options: Vec<&str> = entry.options.iter().map(String::as_str).collect();
    let graded = match &entry.answer {
        Answer::Choice(gold) => Grader::Choice {}.share(&gold.to_string(), reply, &options),
        Answer::Text(gold) => Grader::Exact {}.share(gold, reply, &options),
        Answer::Box(_) => None,
    };
    graded.unwrap_or(0.0)
}

fn hit(iou: f64, threshold: f64) -> f64 {
    f64::from(u8::from(iou >= threshold))
}

/// A gold box in fractions of its image: as it was published, or, in a folder of ours, from pixels of the file.
fn fractions(gold: &Region, sizes: &ImageSizes) -> [f64; 4] {
    if gold.frame == BoxFrame::Unit {
        return gold.corners;
    }
    let [x1, y1, x2, y2] = gold.frame.read::<Original>(gold.corners, sizes).to_array();
    let (width, height) = (f64::from(sizes.original.width), f64::from(sizes.original.height));
    [x1 / width, y1 / height, x2 / width, y2 / height]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use imagent_data::formats::Picture;

    use super::super::named;
    use super::super::tests::entry;
    use super::*;

    /// An episode on two images, 200 × 100 and 40 × 20 pixels, shown at half their size.
    fn answered(answer: &str, end: EndReason) -> TrajectoryRecord {
        let image = |index: usize, width: u32| {
            serde_json::json!({"index": index, "width": width, "height": width / 2,
                "shown": {"width": width / 2, "height": width / 4}})
        };
        let record = serde_json::json!({"sample": "x", "question": "", "gold": "", "answer": answer, "end": end, "reward": 0.0,
            "turns": [], "images": [image(1, 200), image(2, 40)]});
        serde_json::from_value(record).unwrap()
    }

    fn scores(bench: &str, entry: &Entry, reply: &str, end: EndReason, frame: BoxFrame) -> Scores {
        let scoring = Scoring { bench: named(bench).unwrap(), frame, seed: 1, judged: false };
        scoring.of(entry, &answered(reply, end))
    }

    #[test]
    fn a_choice_has_two_scores() {
        let mut entry = entry("x");
        (entry.answer, entry.options) = (Answer::Choice('B'), ["red", "dark blue"].map(str::to_owned).into());
        let of = |bench: &str, reply: &str, end| {
            let scores = scores(bench, &entry, reply, end, BoxFrame::Shown);
            let own = scores.figures.get(OFFICIAL).or(scores.figures.get(RULE)).copied();
            (own, scores.figures[STRICT], scores.open)
        };
        assert_eq!(of("hrbench", "B", EndReason::Answered), (Some(1.0), 1.0, false));
        assert_eq!(of("hrbench", "It is dark blue", EndReason::Answered), (Some(1.0), 0.0, false));
        assert_eq!(of("hrbench", "green", EndReason::Answered), (Some(0.0), 0.0, true));
        assert_eq!(of("mmiu", "B: dark blue", EndReason::Answered), (Some(0.0), 1.0, true));
        assert_eq!(of("mifg", "B", EndReason::Answered), (None, 1.0, false));
        assert_eq!(of("vstar", "B", EndReason::LengthLimit), (Some(1.0), 0.0, false), "cut off");
        let (drawn, ..) = of("muir", "no idea", EndReason::NoAnswer);
        assert_eq!(of("muir", "no idea", EndReason::NoAnswer).0, drawn, "drawn, and the same each time");
    }

    #[test]
    fn the_figure_is_named_by_whether_there_is_a_judge() {
        let of = |bench: &str, judged: bool| {
            let scoring = Scoring { bench: named(bench).unwrap(), frame: BoxFrame::Shown, seed: 1, judged };
            scoring.of(&entry("x"), &answered("A", EndReason::Answered)).figures.into_keys().collect::<Vec<_>>()
        };
        assert_eq!([of("hrbench", false), of("hrbench", true)], [[RULE, STRICT], [OFFICIAL, STRICT]]);
        assert_eq!(of("vstar", false), [OFFICIAL, STRICT]);
    }

    #[test]
    fn a_box_counts_in_its_frame_and_on_its_image() {
        let region = Region { image: Some(2), corners: [0.0, 0.0, 0.5, 1.0], frame: BoxFrame::Unit };
        let picture = Picture::File { name: String::new(), path: std::path::PathBuf::new() };
        let unit = Entry { answer: Answer::Box(region), pictures: vec![picture; 2], ..entry("x") };
        // The same as a folder of ours has it.
        let pixels = Region { corners: [0.0, 0.0, 20.0, 20.0], frame: BoxFrame::Original, ..region };
        for entry in [&unit, &Entry { answer: Answer::Box(pixels), ..unit.clone() }] {
            let of = |reply: &str, frame| {
                let figures = scores("mig", entry, reply, EndReason::Answered, frame).figures;
                ["official", "converted", "strict"].map(|name| figures[name])
            };
            let named = r#"{"image": 2, "bbox_2d": [0, 0, 10, 10]}"#;
            assert_eq!(of(named, BoxFrame::Shown), [0.0, 1.0, 1.0], "pixels as shown");
            assert_eq!(of(&named.replace("2,", "1,"), BoxFrame::Shown), [0.0, 1.0, 0.0], "the wrong image");
            assert_eq!(of("[0, 0, 10, 10]", BoxFrame::Shown), [0.0, 1.0, 0.0], "no image");
            assert_eq!(of("(0,0),(500,1000)", BoxFrame::Relative1000), [1.0, 1.0, 0.0], "as the authors ask");
            assert_eq!(of("{\"image\": 2, \"bbox_2d\": [0, 0, 500, 1000]}", BoxFrame::Relative1000), [1.0; 3]);
            assert_eq!(of("nowhere", BoxFrame::Shown), [0.0; 3]);
        }
    }
}
