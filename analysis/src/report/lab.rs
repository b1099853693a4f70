//! What the report of an ablation has beside trajectories: arms, tables with differences, curves with bands.

use std::fmt::Write;

use super::names::{label, more_is_better};
use crate::ablation::compare::{ArmFigure, Comparison, MetricTable, difference_text, interval_text, metric_text};
use crate::ablation::curves::{by_step, curve, names};
use crate::ablation::{Ablation, Arm};
use crate::plot::{Chart, IntervalRow, Series, Style, escape, interval_svg};
use crate::stats::mean;

/// The header: name, extent, and what the arms change.
pub(super) fn header(ablation: &Ablation) -> String {
    let index = &ablation.index;
    let done: usize = ablation.arms.iter().map(|arm| arm.runs.len()).sum();
    let all = index.arms.len() * index.seeds.len();
    let facts = [
        format!("{} arms", index.arms.len()),
        format!("{} seeds", index.seeds.len()),
        if done == all { format!("{all} runs") } else { format!("{done} of {all} runs finished") },
    ];
    let facts: String = facts.iter().map(|fact| format!("<span>{fact}</span>")).collect();
    let arms: String = ablation.arms.iter().enumerate().map(|(i, arm)| arm_row(i, arm, &index.baseline)).collect();
    format!(
        r#"<header class="top"><p class="eyebrow">imagent · ablation report</p><h1>{}</h1><p class="facts">{facts}</p><table class="arms"><thead><tr><th scope="col">Arm</th><th scope="col">Changes to the base</th><th scope="col">Runs</th></tr></thead><tbody>{arms}</tbody></table></header>"#,
        escape(&index.name)
    )
}

fn arm_row(i: usize, arm: &Arm, baseline: &str) -> String {
    let changes: String = arm.changes.iter().map(|change| format!("<code>{}</code> ", escape(change))).collect();
    let changes = if changes.is_empty() { "<em>none</em>".to_owned() } else { changes };
    let mark = if arm.name == baseline { r#" <span class="chip">baseline</span>"# } else { "" };
    let missing: Vec<String> = arm.missing.iter().map(u64::to_string).collect();
    let missing = match missing.as_slice() {
        [] => String::new(),
        seeds => format!(r#" <span class="chip warn">without seed {}</span>"#, seeds.join(", ")),
    };
    format!(
        r#"<tr><th scope="row"><span class="swatch c{}"></span>{}{mark}</th><td class="text">{changes}</td><td>{}{missing}</td></tr>"#,
        i % 8,
        escape(&arm.name),
        arm.runs.len()
    )
}

/// The tables with the differences, and their intervals drawn.
pub(super) fn results(comparison: &Comparison) -> String {
    let tables: String = comparison.metrics.iter().map(|table| metric_table(table, &comparison.baseline)).collect();
    if tables.is_empty() {
        return String::new();
    }
    format!(
        r#"<section aria-labelledby="results"><h2 id="results">Results</h2><p class="hint">{}.</p><div class="tables">{tables}</div></section>"#,
        escape(comparison.method)
    )
}

fn metric_table(table: &MetricTable, baseline: &str) -> String {
    let (metric, plain) = (&table.metric, table.plain.as_str());
    let mut rows = String::new();
    for arm in &table.arms {
        let difference = arm.difference.as_ref();
        // Marked as clear is only what both intervals say.
        let clear = difference.filter(|d| d.t.is_some_and(|t| t.excludes(0.0)));
        let clear = clear.and_then(|d| d.interval).filter(|interval| interval.excludes(0.0));
        let better = more_is_better(plain);
        let class = match (clear, better) {
            (Some(interval), Some(up)) => {
                if (interval.mean > 0.0) == up {
                    "good"
                } else {
                    "bad"
                }
            }
            (Some(_), None) => "clear",
            _ => "",
        };
        let _ = write!(
            rows,
            r#"<tr><th scope="row">{}</th><td>{}</td><td title="{}">{}</td><td class="was">{}</td><td class="was">{}</td><td class="change {class}">{}</td><td class="was">{}</td><td class="was">{}</td></tr>"#,
            escape(&arm.arm),
            arm.values.len(),
            escape(&by_seed(plain, arm)),
            metric_text(plain, arm.mean),
            interval_text(plain, arm.interval),
            interval_text(plain, arm.t),
            difference.map_or("–".to_owned(), |d| difference_text(plain, d.mean)),
            interval_text(plain, difference.and_then(|d| d.interval)),
            interval_text(plain, difference.and_then(|d| d.t)),
        );
    }
    format!(
        r#"<div class="result"><table><caption>{} <code>{}</code></caption><thead><tr><th scope="col">Arm</th><th scope="col">Seeds</th><th scope="col">Mean</th><th scope="col">BCa</th><th scope="col">t</th><th scope="col">Difference to {}</th><th scope="col">BCa</th><th scope="col">t</th></tr></thead><tbody>{rows}</tbody></table>{}</div>"#,
        escape(&table.label),
        escape(metric),
        escape(baseline),
        differences_svg(table, baseline)
    )
}

fn by_seed(metric: &str, arm: &ArmFigure) -> String {
    let values: Vec<String> =
        arm.values.iter().map(|(seed, value)| format!("seed {seed}: {}", metric_text(metric, Some(*value)))).collect();
    values.join(", ")
}

fn differences_svg(table: &MetricTable, baseline: &str) -> String {
    let row = |arm: &ArmFigure| {
        let interval = arm.difference.as_ref()?.interval?;
        Some(IntervalRow { name: arm.arm.clone(), interval })
    };
    let rows: Vec<IntervalRow> = table.arms.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let title = format!("{}: difference to {baseline}", table.label);
    format!(
        r#"<div class="card">{}</div>"#,
        interval_svg(&title, "difference by seed, 95 % interval", &rows, Some(0.0))
    )
}

/// Learning curves, one line an arm.
pub(super) fn learning_curves(ablation: &Ablation) -> Vec<Chart> {
    names(ablation).iter().filter_map(|name| curve(ablation, name)).collect()
}

/// How episodes end, one chart an arm: the mean of its seeds at each step.
pub(super) fn ends(ablation: &Ablation) -> Vec<Chart> {
    let chart = |arm: &Arm| {
        let name = |end: imagent_core::EndReason| format!("end/{}", end.name());
        let series: Vec<Series> = imagent_core::EndReason::ALL
            .into_iter()
            .map(|end| Series::new(label(end.name()), means(arm, &name(end))))
            .filter(|series| !series.points.is_empty())
            .collect();
        (!series.is_empty()).then(|| Chart {
            title: format!("End of episodes: {}", arm.name),
            x_label: "step".to_owned(),
            y_label: "fraction".to_owned(),
            style: Style::Stacked,
            y_range: Some((0.0, 1.0)),
            series,
        })
    };
    ablation.arms.iter().filter_map(chart).collect()
}

/// Tool use, one chart an arm.
pub(super) fn tools(ablation: &Ablation) -> Vec<Chart> {
    const NAMES: [&str; 4] = ["tool_rate", "tool_rate_needed", "tool_error_rate", "repeated_calls"];
    let chart = |arm: &Arm| {
        let series: Vec<Series> = NAMES
            .iter()
            .map(|name| Series::new(label(name), means(arm, name)))
            .filter(|series| !series.points.is_empty())
            .collect();
        (!series.is_empty()).then(|| Chart {
            title: format!("Tool use: {}", arm.name),
            x_label: "step".to_owned(),
            y_label: "fraction".to_owned(),
            y_range: Some((0.0, 1.0)),
            series,
            ..Chart::default()
        })
    };
    ablation.arms.iter().filter_map(chart).collect()
}

fn means(arm: &Arm, metric: &str) -> Vec<(f64, f64)> {
    by_step(arm, metric).into_iter().filter_map(|(step, values)| Some((step as f64, mean(&values)?))).collect()
}
