//! Lines: a band, the raw values faint, the smoothed ones strong.

use std::fmt::Write;

use super::chart::{Frame, Series};
use super::smooth::{smooth, thin};

/// Most points of a line.
pub(super) const POINTS: usize = 600;
/// Up to here every point also gets a dot.
pub(super) const DOTS: usize = 12;
/// Beyond here values are smoothed, and the raw line is drawn beside.
pub(super) const SMOOTHED: usize = 40;

pub(super) fn draw(series: &Series, position: usize, frame: &Frame) -> String {
    let color = position % 8;
    let mut out = band(series, color, frame);
    let raw = thin(&series.points, POINTS);
    if series.points.len() > SMOOTHED {
        let _ = write!(out, r#"<polyline class="raw s{color}" points="{}"/>"#, path(&raw, frame));
    }
    let line = thin(&smooth(&series.points), POINTS);
    let _ = write!(out, r#"<polyline class="line s{color}" points="{}"/>"#, path(&line, frame));
    if raw.len() <= DOTS {
        for (x, y) in raw.iter().map(|&(x, y)| (frame.x.at(x), height(y, frame))) {
            let _ = write!(out, r#"<circle class="dot s{color}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#);
        }
    }
    out
}

fn band(series: &Series, color: usize, frame: &Frame) -> String {
    let points = outline(&series.band);
    if points.is_empty() {
        return String::new();
    }
    format!(r#"<polygon class="band s{color}" points="{}"/>"#, path(&points, frame))
}

/// The outline of a band: its upper edge, and its lower one back.
pub(super) fn outline(band: &[(f64, f64, f64)]) -> Vec<(f64, f64)> {
    let finite = |band: &&(f64, f64, f64)| band.0.is_finite() && band.1.is_finite() && band.2.is_finite();
    let kept: Vec<_> = band.iter().filter(finite).collect();
    let upper = kept.iter().map(|band| (band.0, band.2));
    let lower = kept.iter().rev().map(|band| (band.0, band.1));
    upper.chain(lower).collect()
}

/// The height of a value, kept near the frame where a fixed range leaves it out.
pub(super) fn height(value: f64, frame: &Frame) -> f64 {
    frame.y.at(value).clamp(frame.top - 2.0, frame.bottom + 2.0)
}

pub(super) fn path(points: &[(f64, f64)], frame: &Frame) -> String {
    let mut out = String::new();
    for &(x, y) in points {
        let _ = write!(out, "{:.1},{:.1} ", frame.x.at(x), height(y, frame));
    }
    out.truncate(out.trim_end().len());
    out
}
