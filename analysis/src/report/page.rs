//! The page around the parts of a report: styles, script, order of sections.

use super::names::label;
use super::{Episode, RunData, charts, episodes, headline, lab};
use crate::ablation::Ablation;
use crate::ablation::compare::Comparison;
use crate::alarms::Alarm;
use crate::plot::{Chart, STYLE, escape};

const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Nothing is loaded from anywhere, whatever a trajectory says.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The report as one HTML file: no network, readable in light and dark, with and without script. Everything that a
/// model, a dataset or a configuration says is escaped.
pub fn report_html(run: &RunData) -> String {
    let (known, other) = charts::charts(&run.metrics);
    let last = run.metrics.last().map_or(0, |row| row.step);
    let after = run.trajectories.iter().map(|record| Episode::held_out(last, record.clone()));
    let episodes: Vec<Episode> = after.chain(run.sampled.iter().cloned()).collect();
    let alarms: Vec<AlarmRow<'_>> = run.alarms.iter().map(|alarm| (None, alarm)).collect();
    let body = [
        headline::header(run),
        headline::held_out(run),
        alarms_section(&alarms, run.metrics.is_empty()),
        grid("curves", "Training", &known),
        episodes::section(&episodes, run.omitted),
        folded(&other),
        configuration(&run.config_toml),
    ]
    .concat();
    document(&run.name, &body)
}

/// The report of an ablation.
pub(super) fn ablation_html(ablation: &Ablation, comparison: &Comparison, episodes: &[Episode]) -> String {
    let mut alarms: Vec<AlarmRow<'_>> = Vec::new();
    for arm in &ablation.arms {
        for (seed, run) in &arm.runs {
            alarms.extend(run.alarms.iter().map(|alarm| (Some((arm.name.as_str(), *seed)), alarm)));
        }
    }
    let body = [
        lab::header(ablation),
        lab::results(comparison),
        grid("curves", "Learning curves", &lab::learning_curves(ablation)),
        grid("ends", "How episodes end", &lab::ends(ablation)),
        grid("tools", "Tool use", &lab::tools(ablation)),
        alarms_section(&alarms, false),
        episodes::section(episodes, 0),
    ]
    .concat();
    document(&ablation.index.name, &body)
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{} · imagent</title>\
         <style>{STYLE}{CSS}</style></head><body><main>{body}</main><script>{SCRIPT}</script></body></html>\n",
        escape(title)
    )
}

/// An alarm, with arm and seed in an ablation.
type AlarmRow<'a> = (Option<(&'a str, u64)>, &'a Alarm);

fn alarms_section(alarms: &[AlarmRow<'_>], silent: bool) -> String {
    if alarms.is_empty() && silent {
        return String::new();
    }
    let row = |(run, alarm): &AlarmRow<'_>| {
        let run = run.map(|(arm, seed)| format!(r#"<td class="text">{}, seed {seed}</td>"#, escape(arm)));
        format!(
            r#"<tr><th scope="row"><span class="sign ungraded" aria-hidden="true">▲</span> {}</th>{}<td>{}</td><td class="text">{}</td></tr>"#,
            escape(&label(&alarm.rule)),
            run.unwrap_or_default(),
            alarm.step,
            escape(&alarm.text)
        )
    };
    let rows: String = alarms.iter().map(row).collect();
    let column = if alarms.iter().any(|(run, _)| run.is_some()) { r#"<th scope="col">Run</th>"# } else { "" };
    let table = match rows.as_str() {
        "" => r#"<p class="hint">No rule fired.</p>"#.to_owned(),
        rows => format!(
            r#"<div class="scroll"><table class="alarms"><thead><tr><th scope="col">Alarm</th>{column}<th scope="col">Step</th><th scope="col">What</th></tr></thead><tbody>{rows}</tbody></table></div>"#
        ),
    };
    format!(r#"<section aria-labelledby="alarms"><h2 id="alarms">Alarms</h2>{table}</section>"#)
}

fn grid(id: &str, title: &str, charts: &[Chart]) -> String {
    if charts.is_empty() {
        return String::new();
    }
    format!(r#"<section aria-labelledby="{id}"><h2 id="{id}">{title}</h2>{}</section>"#, cards(charts))
}

/// Curves that few readers look for.
fn folded(charts: &[Chart]) -> String {
    if charts.is_empty() {
        return String::new();
    }
    format!(
        r#"<section aria-labelledby="other-curves"><h2 id="other-curves">Other metrics</h2><details><summary>{} more curves</summary>{}</details></section>"#,
        charts.len(),
        cards(charts)
    )
}

fn cards(charts: &[Chart]) -> String {
    let cards: String = charts.iter().map(|chart| format!(r#"<div class="card">{}</div>"#, chart.svg())).collect();
    format!(
        r#"<p class="hint">Strong lines are smoothed; values are under the pointer.</p><div class="grid-charts">{cards}</div>"#
    )
}

fn configuration(config: &str) -> String {
    let config = escape(config);
    format!(
        r#"<section aria-labelledby="config"><h2 id="config">Configuration</h2><details class="config"><summary>The resolved configuration of this run</summary><pre>{config}</pre></details></section>"#
    )
}
