//! Held-out trajectories, turn by turn, with their images.

use std::collections::BTreeSet;
use std::fmt::Write;

use imagent_core::{BBox, Gold, Original, Size};

use super::RunData;
use super::names::label;
use super::text::turn_html;
use crate::plot::{escape, number};
use crate::record::{ImageEntry, ImageSource, TokenEntry, TrajectoryRecord, TurnEntry};

/// The section with its filters, list and articles; nothing without trajectories.
pub(super) fn section(run: &RunData) -> String {
    if run.trajectories.is_empty() {
        return String::new();
    }
    let list: String = run.trajectories.iter().enumerate().map(|(i, record)| list_entry(i, record)).collect();
    let articles: String = run.trajectories.iter().enumerate().map(|(i, record)| article(i, record)).collect();
    let omitted = match run.omitted {
        0 => String::new(),
        more => format!(r#"<p class="hint">{more} more are in the run folder.</p>"#),
    };
    format!(
        r#"<section aria-labelledby="episodes" class="episodes"><h2 id="episodes">Held-out trajectories</h2>{omitted}{}<div class="viewer"><nav aria-label="Trajectories"><ol id="list">{list}</ol></nav><div id="articles">{articles}</div></div></section>"#,
        controls(&run.trajectories)
    )
}

fn controls(records: &[TrajectoryRecord]) -> String {
    let fixed = |pairs: &[(&str, &str)]| pairs.iter().map(|(value, text)| option(value, text)).collect::<String>();
    let found = |of: fn(&TrajectoryRecord) -> &str| {
        let values: BTreeSet<&str> = records.iter().map(of).collect();
        let text = |value: &str| if value.is_empty() { "(none)".to_owned() } else { value.replace('_', " ") };
        values.into_iter().map(|value| option(value, &text(value))).collect::<String>()
    };
    let selects = [
        select("outcome", "Outcome", &fixed(&[("right", "right"), ("wrong", "wrong"), ("ungraded", "not graded")])),
        select("tool", "Tool", &fixed(&[("yes", "used"), ("no", "not used")])),
        select("kind", "Kind", &found(|record| &record.kind)),
        select("end", "End", &found(|record| record.end.name())),
    ];
    format!(
        r#"<div class="controls" id="controls" hidden>{}<span class="step"><button type="button" id="previous" aria-label="Previous trajectory" title="k or ←">←</button><output id="position" aria-live="polite"></output><button type="button" id="next" aria-label="Next trajectory" title="j or →">→</button></span><span class="hint">keys: <kbd>j</kbd>/<kbd>→</kbd> next, <kbd>k</kbd>/<kbd>←</kbd> previous</span></div>"#,
        selects.concat()
    )
}

fn select(id: &str, name: &str, options: &str) -> String {
    format!(r#"<label>{name} <select id="by-{id}"><option value="*">all</option>{options}</select></label>"#)
}

fn option(value: &str, text: &str) -> String {
    format!(r#"<option value="{}">{}</option>"#, escape(value), escape(text))
}

/// Class, sign and word of the outcome: never told by colour alone.
fn outcome(record: &TrajectoryRecord) -> (&'static str, &'static str, &'static str) {
    match record.right() {
        Some(true) => ("right", "✓", "Right"),
        Some(false) => ("wrong", "✗", "Wrong"),
        None => ("ungraded", "?", "Not graded"),
    }
}

fn list_entry(i: usize, record: &TrajectoryRecord) -> String {
    let (class, sign, word) = outcome(record);
    let calls = match record.calls() {
        0 => String::new(),
        n => format!(r#"<span class="calls" title="{n} tool calls">{n}×</span>"#),
    };
    format!(
        r##"<li><a href="#trajectory-{n}"><span class="sign {class}" title="{word}">{sign}</span><span class="id">{}</span><span class="kind">{}</span>{calls}</a></li>"##,
        escape(&record.sample),
        escape(&record.kind),
        n = i + 1
    )
}

fn article(i: usize, record: &TrajectoryRecord) -> String {
    let (class, sign, word) = outcome(record);
    let n = i + 1;
    let tool = if record.used_tool() { "yes" } else { "no" };
    let originals = originals(record);
    let turns: String = record.turns.iter().enumerate().map(|(t, turn)| turn_article(n, t, turn, record)).collect();
    format!(
        r#"<article id="trajectory-{n}" tabindex="-1" aria-labelledby="t{n}-name" data-outcome="{class}" data-tool="{tool}" data-kind="{}" data-end="{}"><header><span class="badge {class}">{sign} {word}</span><h3 id="t{n}-name">{}</h3>{}</header><p class="question">{}</p>{originals}<ol class="turns">{turns}</ol>{}{}</article>"#,
        escape(&record.kind),
        record.end.name(),
        escape(&record.sample),
        chips(record),
        escape(&record.question),
        verdict(record),
        tokens(&record.tokens)
    )
}

fn chips(record: &TrajectoryRecord) -> String {
    let mut chips = vec![label(record.end.name())];
    if !record.kind.is_empty() {
        chips.insert(0, record.kind.clone());
    }
    chips.extend(record.zooms_needed.map(|zooms| format!("zooms needed: {zooms}")));
    if record.sampled_tokens > 0 {
        chips.push(format!("{} + {} tokens", record.prompt_tokens, record.sampled_tokens));
    }
    if record.index > 0 {
        chips.push(format!("rollout {}", record.index));
    }
    let chips: String = chips.iter().map(|chip| format!(r#"<span class="chip">{}</span>"#, escape(chip))).collect();
    format!(r#"<p class="chips">{chips}</p>"#)
}

/// The sample's own images: those that no turn brought.
fn originals(record: &TrajectoryRecord) -> String {
    let brought: BTreeSet<usize> = record.turns.iter().flat_map(|turn| turn.images.iter().copied()).collect();
    let own = record.images.iter().filter(|image| !brought.contains(&image.index));
    let figures: String = own.map(|image| figure(image, record)).collect();
    if figures.is_empty() { figures } else { format!(r#"<div class="shots">{figures}</div>"#) }
}

fn turn_article(n: usize, t: usize, turn: &TurnEntry, record: &TrajectoryRecord) -> String {
    let number = t + 1;
    let called = turn.call.as_ref().map(|call| format!(r#"<span class="chip tool">{}</span>"#, escape(&call.name)));
    format!(
        r#"<li class="turn" aria-label="Turn {number}"><p class="turn-head" id="t{n}-turn{number}">Turn {number} {}</p><pre class="said">{}</pre>{}</li>"#,
        called.unwrap_or_default(),
        turn_html(&turn.text),
        observation(turn, record)
    )
}

fn observation(turn: &TurnEntry, record: &TrajectoryRecord) -> String {
    let Some(text) = &turn.observation else { return String::new() };
    let class = if turn.error.is_some() { "observation error" } else { "observation" };
    let error =
        turn.error.as_ref().map(|error| format!(r#" <span class="chip">{}</span>"#, escape(&error.replace('_', " "))));
    let text = if text.is_empty() { String::new() } else { format!("<pre>{}</pre>", escape(text)) };
    let images = turn.images.iter().filter_map(|index| record.images.iter().find(|image| image.index == *index));
    let figures: String = images.map(|image| figure(image, record)).collect();
    let figures = if figures.is_empty() { figures } else { format!(r#"<div class="shots">{figures}</div>"#) };
    format!(
        r#"<div class="{class}"><p class="turn-head">Observation{}</p>{text}{figures}</div>"#,
        error.unwrap_or_default()
    )
}

/// An image with the regions that were cropped from it, numbered by turn, and the gold regions dashed.
fn figure(image: &ImageEntry, record: &TrajectoryRecord) -> String {
    let (w, h) = (image.width.max(1), image.height.max(1));
    let pixels = match &image.source {
        Some(ImageSource::Embedded(url)) => {
            let class = if w.max(h) < 160 { r#" class="small""# } else { "" };
            format!(r#"<image{class} href="{}" width="{w}" height="{h}" preserveAspectRatio="none"/>"#, escape(url))
        }
        _ => format!(r#"<rect class="missing" width="{w}" height="{h}"/>"#),
    };
    let gold: String = record.gold_regions.iter().filter(|gold| gold.image == image.index).map(gold_rect).collect();
    let crops = crops_of(image.index, record);
    let marks: String = crops.iter().map(|(turn, bbox)| crop_rect(*turn, *bbox, w.max(h))).collect();
    let cut = image.origin.map(|origin| format!(" · cut from image {}", origin.image)).unwrap_or_default();
    let stored = if matches!(image.source, Some(ImageSource::Embedded(_))) { "" } else { " · pixels not stored" };
    let caption = format!(
        "Image {} · {}×{}, seen as {}×{}{cut}{stored}",
        image.index, image.width, image.height, image.shown.width, image.shown.height
    );
    let turns: Vec<String> = crops.iter().map(|(turn, _)| turn.to_string()).collect();
    let said =
        if turns.is_empty() { caption.clone() } else { format!("{caption}; cropped in turn {}", turns.join(", ")) };
    format!(
        r#"<figure><svg viewBox="0 0 {w} {h}" role="img" aria-label="{}">{pixels}{gold}{marks}</svg><figcaption>{}</figcaption></figure>"#,
        escape(&said),
        escape(&caption)
    )
}

/// The turns that cropped image `index`, with the regions in its pixels; crops of crops count for the root too.
fn crops_of(index: usize, record: &TrajectoryRecord) -> Vec<(usize, BBox<Original>)> {
    let mut found = Vec::new();
    for (t, turn) in record.turns.iter().enumerate() {
        for brought in &turn.images {
            let regions = regions(*brought, record);
            found.extend(regions.into_iter().filter(|(image, _)| *image == index).map(|(_, bbox)| (t + 1, bbox)));
        }
    }
    found
}

/// The regions that image `index` shows of each image it was cut from, the direct source first.
fn regions(index: usize, record: &TrajectoryRecord) -> Vec<(usize, BBox<Original>)> {
    let entry = |index: usize| record.images.iter().find(|image| image.index == index);
    let mut found: Vec<(usize, BBox<Original>)> = Vec::new();
    let mut at = entry(index);
    // A source always comes earlier on the shelf; a record that says otherwise must not keep us here.
    while let Some((origin, image)) = at.and_then(|image| image.origin.map(|origin| (origin, image))) {
        if origin.image >= image.index {
            break;
        }
        let bbox = match found.last() {
            None => origin.bbox,
            Some((_, inner)) => origin.to_source(Size::new(image.width, image.height), *inner),
        };
        found.push((origin.image, bbox));
        at = entry(origin.image);
    }
    found
}

fn rect(class: &str, bbox: BBox<Original>) -> String {
    let finite = bbox.to_array().iter().all(|edge| edge.is_finite());
    let (x, y, w, h) = (bbox.x1, bbox.y1, bbox.width().max(0.0), bbox.height().max(0.0));
    if finite {
        format!(r#"<rect class="{class}" x="{x:.2}" y="{y:.2}" width="{w:.2}" height="{h:.2}"/>"#)
    } else {
        String::new()
    }
}

fn gold_rect(gold: &Gold) -> String {
    format!("<g><title>gold region</title>{}{}</g>", rect("halo", gold.bbox), rect("gold", gold.bbox))
}

fn crop_rect(turn: usize, bbox: BBox<Original>, side: u32) -> String {
    let size = f64::from(side) / 18.0;
    let [x1, y1, x2, y2] = bbox.to_array().map(|edge| edge.round());
    let (x, y) = (bbox.x1 + size * 0.15, bbox.y1 + size * 0.9);
    format!(
        r#"<g><title>crop of turn {turn}: [{x1}, {y1}, {x2}, {y2}]</title>{}{}<text class="mark" x="{x:.2}" y="{y:.2}" font-size="{size:.2}">{turn}</text></g>"#,
        rect("halo", bbox),
        rect("crop", bbox)
    )
}

/// The answer beside the gold one, and the reward with its parts.
fn verdict(record: &TrajectoryRecord) -> String {
    let (class, sign, word) = outcome(record);
    let answer = match &record.answer {
        Some(answer) => format!("<strong>{}</strong>", escape(answer)),
        None => format!("<em>none ({})</em>", record.end.name().replace('_', " ")),
    };
    let mut parts: Vec<(String, String)> = vec![("reward".into(), number(record.reward))];
    parts.extend(record.advantage.map(|advantage| ("advantage".into(), number(advantage))));
    parts.extend(record.parts.iter().map(|(name, value)| (name.replace('_', " "), number(*value))));
    parts.extend(record.skipped.iter().map(|reason| ("not graded".into(), reason.clone())));
    let parts: String = parts
        .iter()
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value)))
        .collect();
    format!(
        r#"<div class="verdict {class}"><p><span class="sign {class}" title="{word}">{sign}</span> Answer {answer} <span class="gold-answer">Gold <strong>{}</strong></span></p><dl>{parts}</dl></div>"#,
        escape(&record.gold)
    )
}

/// The tokens with their texts, the less likely the darker; nothing where texts were not recorded.
fn tokens(tokens: &[TokenEntry]) -> String {
    let mut spans = String::new();
    for token in tokens {
        let Some(text) = &token.text else { continue };
        let (class, tip) = if token.origin == imagent_core::Origin::Sampled {
            let mask = token.mask.map(|mask| format!(", loss weight {mask}")).unwrap_or_default();
            let surprise = (-token.logprob).clamp(0.0, 8.0).ceil() as u32;
            (format!("p{surprise}"), format!("log-probability {:.3}{mask}", token.logprob))
        } else {
            ("seen".to_owned(), "not sampled".to_owned())
        };
        let _ = write!(spans, r#"<span class="{class}" title="{tip}">{}</span>"#, escape(text));
    }
    if spans.is_empty() {
        spans
    } else {
        format!(
            r#"<details class="tokens"><summary>Tokens, darker where less likely</summary><pre>{spans}</pre></details>"#
        )
    }
}
