//! Arms side by side: a dot and its interval each, for tables of ablations.

use std::fmt::Write;

use super::escape;
use super::scale::{Scale, number};
use crate::stats::Interval;

const WIDTH: f64 = 640.0;
const ROW: f64 = 26.0;

/// One row: an arm with the interval of its result.
#[derive(Clone, Debug, PartialEq)]
pub struct IntervalRow {
    /// The arm's name.
    pub name: String,
    /// Its mean and interval.
    pub interval: Interval,
}

/// A chart of intervals, one row an arm; with `reference` a vertical line (0 for differences).
pub fn interval_svg(title: &str, x_label: &str, rows: &[IntervalRow], reference: Option<f64>) -> String {
    let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0) as f64;
    let left = (longest * 6.4 + 14.0).clamp(60.0, 260.0);
    let (top, bottom) = (28.0, 28.0 + ROW * rows.len() as f64);
    let ends = rows.iter().flat_map(|row| [row.interval.low, row.interval.high, row.interval.mean]).chain(reference);
    let (low, high) = ends.filter(|v| v.is_finite()).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let pad = (high - low) * 0.06;
    let x = Scale::new((low - pad, high + pad), (left, WIDTH - 90.0));
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {WIDTH} {}" role="img" aria-label="{}"><text class="title" x="2" y="15">{}</text>"#,
        bottom + 38.0,
        escape(title),
        escape(title)
    );
    for (value, label) in x.ticks(6) {
        let at = x.at(value);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{top}" y2="{bottom}"/><text class="ticks-x" x="{at:.1}" y="{}">{label}</text>"#,
            bottom + 15.0
        );
    }
    if let Some(at) = reference.map(|value| x.at(value)) {
        let _ = write!(out, r#"<line class="axis" x1="{at:.1}" x2="{at:.1}" y1="{top}" y2="{bottom}"/>"#);
    }
    rows.iter().enumerate().for_each(|(i, row)| out.push_str(&draw_row(row, top + ROW * (i as f64 + 0.5), left, &x)));
    let _ = write!(
        out,
        r#"<text class="ticks-x" x="{}" y="{}">{}</text></svg>"#,
        (left + WIDTH - 90.0) / 2.0,
        bottom + 32.0,
        escape(x_label)
    );
    out
}

fn draw_row(row: &IntervalRow, y: f64, left: f64, x: &Scale) -> String {
    let Interval { mean, low, high, n } = row.interval;
    let name = escape(&row.name);
    let label = format!(r#"<text class="legend ticks-y" x="{}" y="{:.1}">{name}</text>"#, left - 8.0, y + 4.0);
    if !(mean.is_finite() && low.is_finite() && high.is_finite()) {
        return label;
    }
    let tip = format!("{name}: {} [{}, {}], n = {n}", number(mean), number(low), number(high));
    format!(
        r#"{label}<g class="s0"><title>{tip}</title><line class="line" x1="{:.1}" x2="{:.1}" y1="{y}" y2="{y}"/><circle class="dot" cx="{:.1}" cy="{y}" r="4.5"/></g><text class="legend" x="{}" y="{:.1}">{}</text>"#,
        x.at(low),
        x.at(high),
        x.at(mean),
        WIDTH - 80.0,
        y + 4.0,
        number(mean)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_and_named() {
        let interval = |mean: f64| Interval { mean, low: mean - 0.1, high: mean + 0.1, n: 5 };
        let rows = ["gain <0>", "gain 1"].map(|name| IntervalRow { name: name.into(), interval: interval(0.5) });
        let svg = interval_svg("Accuracy", "accuracy", &rows, Some(0.0));
        crate::report::wellformed::check(&svg).unwrap();
        assert_eq!(svg.matches("class=\"dot\"").count(), 2);
        assert!(svg.contains("gain &lt;0&gt;: 0.5000 [0.4000, 0.6000], n = 5"));
        crate::report::wellformed::check(&interval_svg("x", "y", &[], None)).unwrap();
        let broken = IntervalRow { name: "x".into(), interval: interval(f64::NAN) };
        assert!(!interval_svg("x", "y", &[broken], None).contains("NaN"));
    }
}
