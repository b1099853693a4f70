//! A played item to its scores: what the benchmark's own evaluator gives, and what a strict reading gives.

use std::collections::BTreeMap;

use imagent_core::{BoxFrame, EndReason, ImageSizes, Original, Trajectory, WrittenBox, seed};
use imagent_data::formats::{Answer, Entry, Region};
use imagent_rewards::Grader;
use serde::{Deserialize, Serialize};

use super::Bench;
use super::official::{self, Reading};

/// The scores of one item, from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The benchmark's own rule; `None` where it has none.
    pub official: Option<f64>,
    /// What that rule read.
    pub read: Option<String>,
    /// The benchmark's own protocol asks a judge model here; without one the item counts as wrong.
    #[serde(default)]
    pub judge: bool,
    /// One answer in the form that was asked for, and right; of several images the right one named.
    pub strict: f64,
    /// Figures of this benchmark alone, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, f64>,
}

/// What the model said in the end: its answer, or else its last turn, without what it thought.
pub fn reply(trajectory: &Trajectory) -> String {
    let last = trajectory.turns.last().map_or("", |turn| turn.text.as_str());
    let spoken = last.rsplit_once("</think>").map_or(last, |(_, after)| after);
    trajectory.answer.clone().unwrap_or_else(|| spoken.trim().to_owned())
}

/// The scores of a trajectory on an entry. `frame` is what the model's boxes count; `seed` draws where the official rule does.
pub fn score(bench: &Bench, entry: &Entry, trajectory: &Trajectory, frame: BoxFrame, seed: u64) -> Scores {
    let reply = reply(trajectory);
    let whole = matches!(trajectory.end, EndReason::Answered | EndReason::NoAnswer);
    let mut scores = match &entry.answer {
        Answer::Box(region) => boxed(bench, region, &reply, trajectory, frame),
        Answer::Choice(gold) => choice(bench, entry, *gold, &reply, seed),
        Answer::Text(gold) if bench.name == "mantis" => {
            let official = Some(f64::from(u8::from(official::mantis_text(&reply, gold))));
            Scores { official, strict: exact(gold, &reply), ..Scores::default() }
        }
        Answer::Text(gold) => Scores { strict: exact(gold, &reply), ..Scores::default() },
    };
    if !whole {
        scores.strict = 0.0;
    }
    scores
}

fn exact(gold: &str, reply: &str) -> f64 {
    f64::from(u8::from(Grader::Exact {}.equal(gold, reply) == Some(true)))
}

fn choice(bench: &Bench, entry: &Entry, gold: char, reply: &str, seed: u64) -> Scores {
    let options = &entry.options;
    let reading = match bench.name {
        "vstar" | "vstar-questions" => Some(official::vstar(reply)),
        "hrbench" => Some(official::hrbench(reply, options)),
        "mme-realworld" => Some(official::mme_realworld(reply, options)),
        "blink" => Some(official::blink(reply)),
        "muir" => Some(drawn(official::muirbench(reply, options), entry, seed)),
        "mantis" => Some(official::mantis_choice(reply, options, gold)),
        "mmiu" => Some(official::mmiu(reply)),
        _ => None,
    };
    let read = match &reading {
        Some(Reading::Letter(letter)) => Some(letter.to_string()),
        _ => None,
    };
    let official = reading.as_ref().map(|reading| f64::from(u8::from(*reading == Reading::Letter(gold))));
    let strict = f64::from(u8::from(strict_letter(reply, options) == Some(gold)));
    Scores { official, read, judge: reading == Some(Reading::Judge), strict, more: BTreeMap::new() }
}

/// MuirBench draws an option where it reads none; here by seed and id, there by the state of Python's generator.
fn drawn(reading: Reading, entry: &Entry, seed: u64) -> Reading {
    let count = entry.options.len();
    if reading != Reading::Nothing || count == 0 {
        return reading;
    }
    let draw = seed::derive(seed, &[seed::text(&entry.id)]) % count as u64;
    ('A'..='Z').nth(draw as usize).map_or(Reading::Nothing, Reading::Letter)
}

/// The letter of a reply that is nothing else: `B`, `(B)`, `B.`, `B)`, `B:`, or one of these before the option's own text.
pub fn strict_letter(reply: &str, options: &[String]) -> Option<char> {
    let reply = reply.trim();
    let (open, inner) = reply.strip_prefix('(').map_or((false, reply), |inner| (true, inner));
    let letter = inner.chars().next().filter(char::is_ascii_uppercase)?;
    let rest = &inner[1..];
    let rest = match open {
        true => rest.strip_prefix(')')?,
        false => rest.strip_prefix(['.', ')', ':']).unwrap_or(rest),
    };
    let option = options.get(letter as usize - 'A' as usize)?;
    let text = rest.trim_start_matches(['.', ':']).trim();
    let plain = |text: &str| text.trim().trim_end_matches('.').to_lowercase();
    (text.is_empty() || rest.len() < inner.len() - 1 && plain(text) == plain(option)).then_some(letter)
}

/// MIG-Bench: the official reading knows nothing of pixels or of images; `converted` reads its numbers in the model's frame on the
/// gold image; the strict one wants a single box, the image named where there are several, and the true frame.
fn boxed(bench: &Bench, gold: &Region, reply: &str, trajectory: &Trajectory, frame: BoxFrame) -> Scores {
    let image = gold.image.unwrap_or(trajectory.sample.images.len());
    let sizes = trajectory.shelf.get(image).map(|image| image.sizes);
    let overlap = |corners: [f64; 4]| sizes.as_ref().map_or(0.0, |sizes| true_overlap(gold, corners, frame, sizes));
    let named = |number: Option<usize>| number.map_or(trajectory.sample.images.len() == 1, |number| number == image);
    let strict = WrittenBox::read(reply).filter(|found| named(found.image)).map_or(0.0, |found| overlap(found.corners));
    let hit = |iou: f64, threshold: f64| f64::from(u8::from(iou >= threshold));
    let mut scores = Scores { strict: hit(strict, 0.5), ..Scores::default() };
    scores.more.insert("strict_iou".into(), strict);
    if bench.name == "mig" {
        let found = official::mig_box(reply);
        let iou = found.map_or(0.0, |found| official::mig_iou(gold.corners, found));
        scores.official = Some(hit(iou, 0.5));
        scores.read = found.map(|found| format!("{found:?}"));
        for (name, threshold) in [("acc@0.3", 0.3), ("acc@0.7", 0.7)] {
            scores.more.insert(name.into(), hit(iou, threshold));
        }
        scores.more.insert("iou".into(), iou);
        let converted = official::mig_numbers(reply).map_or(0.0, |(numbers, _)| overlap(numbers));
        scores.more.insert("converted".into(), hit(converted, 0.5));
    }
    scores
}

/// The overlap in pixels of the image file, both boxes cut to the image.
fn true_overlap(gold: &Region, corners: [f64; 4], frame: BoxFrame, sizes: &ImageSizes) -> f64 {
    gold.frame.read::<Original>(gold.corners, sizes).iou(frame.read(corners, sizes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use imagent_core::{ImageShelf, RgbImage, Size};

    use super::*;
    use crate::bench::named;

    fn entry(answer: Answer, options: &[&str]) -> Entry {
        Entry {
            id: "x".into(),
            pictures: Vec::new(),
            question: "Which?".into(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            answer,
            kind: "diff".into(),
            zooms_needed: None,
            gold: Vec::new(),
            conversation: Vec::new(),
            meta: serde_json::Map::new(),
        }
    }

    /// An episode on two images, 200 × 100 and 40 × 20 pixels, shown at half their size.
    fn answered(entry: &Entry, answer: Option<&str>, end: EndReason) -> Trajectory {
        let images: Vec<Arc<RgbImage>> = [(200, 100), (40, 20)].map(|(w, h)| Arc::new(RgbImage::new(w, h))).into();
        let mut shelf = ImageShelf::new();
        for image in &images {
            shelf.push(Arc::clone(image), Size::new(image.width() / 2, image.height() / 2), None);
        }
        let (ids, origins, logprobs, spans) = Default::default();
        let (sample, answer) = (Arc::new(entry.sample(images)), answer.map(str::to_owned));
        Trajectory {
            sample,
            index: 0,
            prompt_len: 0,
            ids,
            origins,
            logprobs,
            spans,
            shelf,
            turns: Vec::new(),
            answer,
            end,
        }
    }

    #[test]
    fn strict_letters_stand_alone_or_before_their_text() {
        let options = ["red", "dark blue"].map(str::to_owned);
        for reply in ["B", " (B) ", "B.", "B)", "B:", "B. dark blue", "(B) Dark Blue.", "B: dark blue"] {
            assert_eq!(strict_letter(reply, &options), Some('B'), "{reply}");
        }
        for reply in
            ["", "b", "C", "(B", "B or A", "B dark blue", "B. red", "The answer is B", "Blue", "(B) it is", "É"]
        {
            assert_eq!(strict_letter(reply, &options), None, "{reply}");
        }
    }

    #[test]
    fn a_choice_has_two_scores() {
        let entry = entry(Answer::Choice('B'), &["red", "dark blue"]);
        let of = |bench: &str, reply: &str, end| {
            let scores = score(named(bench).unwrap(), &entry, &answered(&entry, Some(reply), end), BoxFrame::Shown, 1);
            (scores.official, scores.strict, scores.judge)
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
    fn a_box_counts_in_its_frame_and_on_its_image() {
        let region = Region { image: Some(2), corners: [0.0, 0.0, 0.5, 1.0], frame: BoxFrame::Unit };
        let entry = entry(Answer::Box(region), &[]);
        let of = |reply: &str, frame| {
            let scores =
                score(named("mig").unwrap(), &entry, &answered(&entry, Some(reply), EndReason::Answered), frame, 1);
            (scores.official, scores.more["converted"], scores.strict)
        };
        let named = r#"{"image": 2, "bbox_2d": [0, 0, 10, 10]}"#;
        assert_eq!(of(named, BoxFrame::Shown), (Some(0.0), 1.0, 1.0), "pixels as shown");
        assert_eq!(of(&named.replace("2,", "1,"), BoxFrame::Shown), (Some(0.0), 1.0, 0.0), "the wrong image");
        assert_eq!(of("[0, 0, 10, 10]", BoxFrame::Shown), (Some(0.0), 1.0, 0.0), "no image");
        assert_eq!(of("(0,0),(500,1000)", BoxFrame::Relative1000), (Some(1.0), 1.0, 0.0), "as the authors ask");
        assert_eq!(of("{\"image\": 2, \"bbox_2d\": [0, 0, 500, 1000]}", BoxFrame::Relative1000), (Some(1.0), 1.0, 1.0));
        assert_eq!(of("nowhere", BoxFrame::Shown), (Some(0.0), 0.0, 0.0));
    }
}
