//! Charts as SVG, written directly: they take their colours from the page, so that they are at home in light and dark. The
//! same charts as PNG, for where SVG does not go.

mod chart;
mod intervals;
mod lines;
mod raster;
mod scale;
mod smooth;
mod stacked;

pub use chart::{Chart, Series, Style};
pub use intervals::{IntervalRow, interval_svg};
pub use scale::number;
pub use smooth::smooth;

/// The style that charts need: classes and colours, for both schemes. A page that holds charts includes it once;
/// [`standalone`] puts it into the file.
pub const STYLE: &str = include_str!("chart.css");

/// A chart as an SVG file of its own.
pub fn standalone(svg: &str) -> String {
    match svg.split_once('>') {
        Some((root, rest)) => format!("{root}><style>{STYLE}</style>{rest}\n"),
        None => svg.to_owned(),
    }
}

/// Text safe in HTML and XML, in content and in quoted attributes. Control characters that XML forbids are left out.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' | '\r' => safe.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
