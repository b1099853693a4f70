//! The head of the report: what the run is, and what the held-out evaluations say.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::names::{change_text, in_order, is_fraction, label, more_is_better, value_text};
use super::{EvalTable, RunData, config};
use crate::plot::escape;
use crate::record::TrajectoryRecord;
use crate::stats::{Interval, bootstrap};

/// Metrics shown large.
const TILES: [&str; 4] = ["accuracy", "tool_rate", "reward/mean", "response_tokens/mean"];

/// The header: name, extent and chief settings.
pub(super) fn header(run: &RunData) -> String {
    let facts: String = facts(run).iter().map(|fact| format!("<span>{}</span>", escape(fact))).collect();
    let settings: String = config::summary(&run.config_toml)
        .iter()
        .map(|(key, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(key), escape(value)))
        .collect();
    let settings = if settings.is_empty() { settings } else { format!(r#"<dl class="settings">{settings}</dl>"#) };
    format!(
        r#"<header class="top"><p class="eyebrow">imagent · run report</p><h1>{}</h1><p class="facts">{facts}</p>{settings}</header>"#,
        escape(&run.name)
    )
}

fn facts(run: &RunData) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(last) = run.metrics.last() {
        facts.push(format!("{} training steps", last.step));
    }
    let seconds: f64 = run.metrics.iter().flat_map(|row| row.seconds.values()).filter(|s| s.is_finite()).sum();
    if seconds > 0.0 {
        facts.push(format!("{} in steps", duration(seconds)));
    }
    match (run.trajectories.len(), run.omitted) {
        (0, _) => {}
        (shown, 0) => facts.push(format!("{shown} held-out trajectories")),
        (shown, more) => facts.push(format!("{shown} of {} held-out trajectories shown", shown + more)),
    }
    facts
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The held-out section: tiles, the table, accuracy by kind; nothing without an evaluation.
pub(super) fn held_out(run: &RunData) -> String {
    let tables = [run.before.as_ref(), run.after.as_ref()];
    let names = in_order(tables.into_iter().flatten());
    if names.is_empty() {
        return String::new();
    }
    let tiles: String = TILES.iter().filter_map(|name| tile(name, run)).collect();
    let (kinds, rest): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.starts_with("accuracy/"));
    let by_kind = if kinds.is_empty() { String::new() } else { kind_table(&kinds, run) };
    let all = metric_table(&rest, run);
    format!(
        r#"<section aria-labelledby="held-out"><h2 id="held-out">Held-out evaluation</h2><div class="tiles">{tiles}</div><div class="tables">{by_kind}{all}</div></section>"#
    )
}

fn value<'a>(table: Option<&'a EvalTable>, name: &str) -> Option<&'a f64> {
    table.and_then(|table| table.get(name))
}

fn tile(name: &str, run: &RunData) -> Option<String> {
    let (before, after) = (value(run.before.as_ref(), name), value(run.after.as_ref(), name));
    let shown = after.or(before)?;
    let mut notes = String::new();
    if let (Some(_), Some(_)) = (before, after) {
        let (text, class) = (change_text(name, before, after), change_class(name, before, after));
        let was = value_text(name, before);
        let _ = write!(notes, r#"<span class="change {class}">{text}</span><span class="was">from {was}</span>"#);
    } else {
        let _ = write!(
            notes,
            r#"<span class="was">{}</span>"#,
            if after.is_some() { "after training" } else { "before training" }
        );
    }
    if let Some(interval) = accuracy_interval(name, run) {
        let ends = (value_text(name, Some(&interval.low)), value_text(name, Some(&interval.high)));
        let tip = format!("Bootstrap over the {} samples of the evaluation", interval.n);
        let _ = write!(notes, r#"<span class="was" title="{tip}">95 % interval {} to {}</span>"#, ends.0, ends.1);
    }
    let (label, shown) = (escape(&label(name)), value_text(name, Some(shown)));
    Some(format!(
        r#"<div class="tile"><p class="name">{label}</p><p class="value">{shown}</p><p class="notes">{notes}</p></div>"#
    ))
}

/// The interval of the accuracy after training, where the trajectories at hand are those of the evaluation.
fn accuracy_interval(name: &str, run: &RunData) -> Option<Interval> {
    let after = *value(run.after.as_ref(), "accuracy")?;
    if name != "accuracy" || run.omitted > 0 {
        return None;
    }
    let interval = bootstrap(&per_sample(&run.trajectories), 0)?;
    (interval.n > 1 && (interval.mean - after).abs() < 1e-6).then_some(interval)
}

/// The accuracy of each sample, its rollouts averaged: rollouts of one sample are not independent.
fn per_sample(trajectories: &[TrajectoryRecord]) -> Vec<f64> {
    let mut samples: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (record, accuracy) in trajectories.iter().filter_map(|record| record.accuracy().map(|value| (record, value))) {
        samples.entry(&record.sample).or_default().push(accuracy);
    }
    samples.values().filter_map(|values| crate::stats::mean(values)).collect()
}

/// The colour of a change: only where one direction is the better one.
fn change_class(name: &str, before: Option<&f64>, after: Option<&f64>) -> &'static str {
    let (Some(before), Some(after), Some(up)) = (before, after, more_is_better(name)) else { return "" };
    match after - before {
        change if change.abs() < 1e-9 || change.is_nan() => "",
        change if (change > 0.0) == up => "good",
        _ => "bad",
    }
}

fn metric_table(names: &[&String], run: &RunData) -> String {
    let (before, after) = (run.before.as_ref(), run.after.as_ref());
    let mut rows = String::new();
    for name in names {
        let (b, a) = (value(before, name), value(after, name));
        let _ = write!(
            rows,
            r#"<tr><th scope="row" title="{}">{}</th><td>{}</td><td>{}</td><td class="change {}">{}</td></tr>"#,
            escape(name),
            escape(&label(name)),
            value_text(name, b),
            value_text(name, a),
            change_class(name, b, a),
            change_text(name, b, a)
        );
    }
    format!(
        r#"<details><summary>All metrics, before and after</summary><table><thead><tr><th scope="col">Metric</th><th scope="col">Before</th><th scope="col">After</th><th scope="col">Change</th></tr></thead><tbody>{rows}</tbody></table></details>"#
    )
}

fn kind_table(names: &[&String], run: &RunData) -> String {
    let mut rows = String::new();
    for name in names {
        let kind = name.trim_start_matches("accuracy/");
        let (b, a) = (value(run.before.as_ref(), name), value(run.after.as_ref(), name));
        let count = run.trajectories.iter().filter(|record| record.kind == kind).count();
        let count = if count > 0 && run.omitted == 0 { count.to_string() } else { "–".to_owned() };
        let _ = write!(
            rows,
            r#"<tr><th scope="row">{}</th><td>{count}</td><td>{}</td><td>{}</td><td class="bars">{}</td><td class="change {}">{}</td></tr>"#,
            escape(kind),
            value_text(name, b),
            value_text(name, a),
            bars(name, b, a),
            change_class(name, b, a),
            change_text(name, b, a)
        );
    }
    format!(
        r#"<table><caption>Accuracy by kind of question</caption><thead><tr><th scope="col">Kind</th><th scope="col">Shown</th><th scope="col">Before</th><th scope="col">After</th><th scope="col" aria-label="Bars"></th><th scope="col">Change</th></tr></thead><tbody>{rows}</tbody></table>"#
    )
}

/// Two bars, before above after.
fn bars(name: &str, before: Option<&f64>, after: Option<&f64>) -> String {
    let width = |value: Option<&f64>| {
        value.filter(|v| v.is_finite() && is_fraction(name)).map_or(0.0, |v| v.clamp(0.0, 1.0) * 100.0)
    };
    format!(
        r#"<svg viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="14"/><rect class="before" width="{:.1}" height="6"/><rect class="after" y="8" width="{:.1}" height="6"/></svg>"#,
        width(before),
        width(after)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!([1.25, 75.0, 7260.0].map(duration), ["1.2 s", "1 min 15 s", "2 h 1 min"]);
    }

    #[test]
    fn colours_follow_what_is_better() {
        let (low, high) = (Some(&0.1), Some(&0.9));
        assert_eq!(change_class("accuracy", low, high), "good");
        assert_eq!(change_class("end/malformed", low, high), "bad");
        assert_eq!(change_class("end/answered", low, high), "good");
        assert_eq!(change_class("tool_rate", low, high), "");
        assert_eq!(change_class("accuracy", low, low), "");
    }
}
