//! Trajectories, turn by turn, with their images.

use std::collections::BTreeSet;
use std::fmt::Write;

use imagent_core::{BBox, Gold, Origin, Original, Size};

use super::Episode;
use super::names::label;
use super::shots::{MAX_BYTES, Shots};
use super::text::turn_html;
use crate::plot::{escape, number};
use crate::record::{ImageEntry, TokenEntry, TrajectoryRecord, TurnEntry};

/// What a page's trajectories have in common: how many of each filter's values there are, and the images.
struct Context {
    shots: Shots,
}

/// The section with its filters, list and articles; nothing without trajectories.
pub(super) fn section(episodes: &[Episode], omitted: usize) -> String {
    if episodes.is_empty() {
        return String::new();
    }
    let context = Context { shots: Shots::new(MAX_BYTES) };
    let list: String = episodes.iter().enumerate().map(|(i, episode)| list_entry(i, episode)).collect();
    let articles: String = episodes.iter().enumerate().map(|(i, episode)| article(i, episode, &context)).collect();
    let omitted = match omitted {
        0 => String::new(),
        more => format!(r#"<p class="hint">{more} more are in the run folder.</p>"#),
    };
    format!(
        r#"<section aria-labelledby="episodes" class="episodes"><h2 id="episodes">Trajectories</h2>{omitted}{}{}<div class="viewer"><nav aria-label="Trajectories"><ol id="list">{list}</ol></nav><div id="articles">{articles}</div></div></section>"#,
        controls(episodes),
        context.shots.definitions()
    )
}

fn controls(episodes: &[Episode]) -> String {
    let fixed = |pairs: &[(&str, &str)]| pairs.iter().map(|(value, text)| option(value, text)).collect::<String>();
    let found = |id: &str, name: &str, of: &dyn Fn(&Episode) -> Option<String>| {
        let mut values: Vec<String> = Vec::new();
        for value in episodes.iter().filter_map(of) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        let text = |value: &str| if value.is_empty() { "(none)".to_owned() } else { value.replace('_', " ") };
        let options: String = values.iter().map(|value| option(value, &text(value))).collect();
        if values.len() < 2 { String::new() } else { select(id, name, &options) }
    };
    let selects = [
        found("arm", "Arm", &|episode| episode.arm.clone()),
        found("seed", "Seed", &|episode| episode.seed.map(|seed| seed.to_string())),
        found("stage", "Step", &|episode| Some(episode.stage())),
        select("outcome", "Outcome", &fixed(&[("right", "right"), ("wrong", "wrong"), ("ungraded", "not graded")])),
        select("tool", "Tool", &fixed(&[("yes", "used"), ("no", "not used")])),
        found("kind", "Kind", &|episode| Some(episode.record.kind.clone())),
        found("end", "End", &|episode| Some(episode.record.end.name().to_owned())),
    ];
    let tokens = episodes.iter().any(|episode| episode.record.tokens.iter().any(|token| token.text.is_some()));
    let tokens = if tokens { TOKEN_SWITCH } else { "" };
    format!(
        r#"<div class="controls" id="controls" hidden>{}<span class="step"><button type="button" id="previous" aria-label="Previous trajectory" title="k or ←">←</button><output id="position" aria-live="polite"></output><button type="button" id="next" aria-label="Next trajectory" title="j or →">→</button></span>{tokens}<span class="hint">keys: <kbd>j</kbd>/<kbd>→</kbd> next, <kbd>k</kbd>/<kbd>←</kbd> previous</span></div>"#,
        selects.concat()
    )
}

/// Switches between text and tokens.
const TOKEN_SWITCH: &str = r#"<label title="t"><input type="checkbox" id="show-tokens" checked> tokens: <span class="p5">darker</span> where less likely, <span class="counted">underlined</span> where the loss counts them</label>"#;

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

fn list_entry(i: usize, episode: &Episode) -> String {
    let record = &episode.record;
    let (class, sign, word) = outcome(record);
    let calls = match record.calls() {
        0 => String::new(),
        n => format!(r#"<span class="calls" title="{n} tool calls">{n}×</span>"#),
    };
    format!(
        r##"<li><a href="#trajectory-{n}"><span class="sign {class}" title="{word}">{sign}</span><span class="id">{}</span><span class="kind">{}</span>{calls}</a></li>"##,
        escape(&record.sample),
        escape(&source(episode)),
        n = i + 1
    )
}

/// Arm, seed and step in short; of a single run's last evaluation, the kind of question.
fn source(episode: &Episode) -> String {
    match (&episode.arm, episode.seed) {
        (Some(arm), Some(seed)) => format!("{arm}/{seed} @{}", episode.step),
        _ if episode.held_out => episode.record.kind.clone(),
        _ => format!("@{}", episode.step),
    }
}

fn article(i: usize, episode: &Episode, context: &Context) -> String {
    let record = &episode.record;
    let (class, sign, word) = outcome(record);
    let n = i + 1;
    let tool = if record.used_tool() { "yes" } else { "no" };
    let originals = originals(record, context);
    let tokens = tokens_by_turn(record);
    let turn = |(t, turn): (usize, &TurnEntry)| {
        turn_article((n, t), turn, tokens.get(t).copied().unwrap_or_default(), record, context)
    };
    let turns: String = record.turns.iter().enumerate().map(turn).collect();
    let data = [
        ("arm", episode.arm.clone().unwrap_or_default()),
        ("seed", episode.seed.map(|seed| seed.to_string()).unwrap_or_default()),
        ("stage", episode.stage()),
        ("kind", record.kind.clone()),
    ];
    let data: String = data.iter().map(|(name, value)| format!(r#" data-{name}="{}""#, escape(value))).collect();
    format!(
        r#"<article id="trajectory-{n}" tabindex="-1" aria-labelledby="t{n}-name" data-outcome="{class}" data-tool="{tool}" data-end="{}"{data}><header><span class="badge {class}">{sign} {word}</span><h3 id="t{n}-name">{}</h3>{}</header><p class="question">{}</p>{originals}<ol class="turns">{turns}</ol>{}</article>"#,
        record.end.name(),
        escape(&record.sample),
        chips(episode),
        escape(&record.question),
        verdict(record),
    )
}

fn chips(episode: &Episode) -> String {
    let record = &episode.record;
    let mut chips = vec![label(record.end.name()), episode.stage()];
    chips.extend(episode.arm.clone());
    chips.extend(episode.seed.map(|seed| format!("seed {seed}")));
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
fn originals(record: &TrajectoryRecord, context: &Context) -> String {
    let brought: BTreeSet<usize> = record.turns.iter().flat_map(|turn| turn.images.iter().copied()).collect();
    let own = record.images.iter().filter(|image| !brought.contains(&image.index));
    let figures: String = own.map(|image| figure(image, record, context)).collect();
    if figures.is_empty() { figures } else { format!(r#"<div class="shots">{figures}</div>"#) }
}

/// Number of the trajectory and position of the turn.
fn turn_article(
    (n, t): (usize, usize),
    turn: &TurnEntry,
    tokens: &[TokenEntry],
    record: &TrajectoryRecord,
    context: &Context,
) -> String {
    let number = t + 1;
    let called = turn.call.as_ref().map(|call| format!(r#"<span class="chip tool">{}</span>"#, escape(&call.name)));
    let tokens = token_spans(tokens);
    let (class, tokens) = match tokens.as_str() {
        "" => ("turn", tokens),
        spans => ("turn has-tokens", format!(r#"<pre class="tokens">{spans}</pre>"#)),
    };
    format!(
        r#"<li class="{class}" aria-label="Turn {number}"><p class="turn-head" id="t{n}-turn{number}">Turn {number} {}</p><pre class="said">{}</pre>{tokens}{}</li>"#,
        called.unwrap_or_default(),
        turn_html(&turn.text),
        observation(turn, record, context)
    )
}

fn observation(turn: &TurnEntry, record: &TrajectoryRecord, context: &Context) -> String {
    let Some(text) = &turn.observation else { return String::new() };
    let class = if turn.error.is_some() { "observation error" } else { "observation" };
    let error =
        turn.error.as_ref().map(|error| format!(r#" <span class="chip">{}</span>"#, escape(&error.replace('_', " "))));
    let text = if text.is_empty() { String::new() } else { format!("<pre>{}</pre>", escape(text)) };
    let images = turn.images.iter().filter_map(|index| record.images.iter().find(|image| image.index == *index));
    let figures: String = images.map(|image| figure(image, record, context)).collect();
    let figures = if figures.is_empty() { figures } else { format!(r#"<div class="shots">{figures}</div>"#) };
    format!(
        r#"<div class="{class}"><p class="turn-head">Observation{}</p>{text}{figures}</div>"#,
        error.unwrap_or_default()
    )
}

/// An image with the regions that were cropped from it, numbered by turn, and the gold regions dashed.
fn figure(image: &ImageEntry, record: &TrajectoryRecord, context: &Context) -> String {
    let (w, h) = (image.width.max(1), image.height.max(1));
    let element = context.shots.element(image);
    let stored = match (&element, &image.source) {
        (Some(_), _) => "",
        (None, Some(_)) => " · left out, the report has as many images as it may",
        (None, None) => " · pixels not stored",
    };
    let pixels = element.unwrap_or_else(|| format!(r#"<rect class="missing" width="{w}" height="{h}"/>"#));
    let gold: String = record.gold_regions.iter().filter(|gold| gold.image == image.index).map(gold_rect).collect();
    let crops = crops_of(image.index, record);
    let marks: String = crops.iter().map(|(turn, bbox)| crop_rect(*turn, *bbox, w.max(h))).collect();
    let cut = image.origin.map(|origin| format!(" · cut from image {}", origin.image)).unwrap_or_default();
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

/// The sampled tokens of each turn; nothing where they do not fit the turns.
fn tokens_by_turn(record: &TrajectoryRecord) -> Vec<&[TokenEntry]> {
    let runs = record.tokens.chunk_by(|a, b| a.origin == b.origin);
    let sampled: Vec<&[TokenEntry]> =
        runs.filter(|run| run.first().is_some_and(|token| token.origin == Origin::Sampled)).collect();
    if sampled.len() == record.turns.len() { sampled } else { Vec::new() }
}

/// The tokens with their texts, the less likely the darker, underlined where the loss counts them; nothing where texts were not
/// recorded.
fn token_spans(tokens: &[TokenEntry]) -> String {
    let mut spans = String::new();
    for token in tokens {
        let Some(text) = &token.text else { continue };
        let surprise = (-token.logprob).clamp(0.0, 8.0).ceil() as u32;
        let counted = if token.mask.is_some_and(|mask| mask > 0.0) { " counted" } else { "" };
        let mask = token.mask.map(|mask| format!(", loss weight {mask}")).unwrap_or_default();
        let tip = format!("log-probability {:.3}{mask}", token.logprob);
        let _ = write!(spans, r#"<span class="p{surprise}{counted}" title="{tip}">{}</span>"#, escape(text));
    }
    spans
}
