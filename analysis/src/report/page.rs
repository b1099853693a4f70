//! The page around the parts of a report: styles, script, order of sections.

use super::{RunData, charts, episodes, headline};
use crate::plot::{Chart, STYLE, escape};

const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Nothing is loaded from anywhere, whatever a trajectory says.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The report as one HTML file: no network, readable in light and dark, with and without script. Everything that a
/// model, a dataset or a configuration says is escaped.
pub fn report_html(run: &RunData) -> String {
    let (known, other) = charts::charts(&run.metrics);
    let body = [
        headline::header(run),
        headline::held_out(run),
        grid("curves", "Training", &known),
        episodes::section(run),
        folded(&other),
        configuration(&run.config_toml),
    ]
    .concat();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{} · imagent</title>\
         <style>{STYLE}{CSS}</style></head><body><main>{body}</main><script>{SCRIPT}</script></body></html>\n",
        escape(&run.name)
    )
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
