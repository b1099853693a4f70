//! A chart: frame, axes, legend and tooltips; what is inside the frame is in `lines` and `stacked`.

use std::fmt::Write;

use super::scale::{Scale, number};
use super::smooth::{Bucket, buckets};
use super::{escape, lines, stacked};

/// Width of a chart in its own units.
pub(super) const WIDTH: f64 = 440.0;
/// Height of the plotted area.
pub(super) const PLOT: f64 = 170.0;
pub(super) const LEFT: f64 = 54.0;
pub(super) const RIGHT: f64 = 12.0;
/// Most tooltips of a chart.
pub(super) const TIPS: usize = 120;
/// About the width of a letter of the legend.
pub(super) const LETTER: f64 = 6.2;

/// A curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// `(x, y)`, in order of x; a y that is not finite is a gap.
    pub points: Vec<(f64, f64)>,
    /// `(x, low, high)`: a shaded band, such as an interval over seeds.
    pub band: Vec<(f64, f64, f64)>,
}

impl Series {
    /// A curve without a band.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, band: Vec::new() }
    }

    pub(super) fn last(&self) -> Option<f64> {
        super::smooth(&self.points).last().map(|point| point.1)
    }
}

/// How the series of a chart are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A smoothed line over a faint raw one.
    #[default]
    Lines,
    /// Areas one on another: parts of a whole.
    Stacked,
}

/// A chart. Colours are given by position; from the ninth series on they repeat.
///
/// ```
/// use imagent_analysis::plot::{Chart, Series};
/// let chart = Chart {
///     title: "Accuracy".into(),
///     x_label: "step".into(),
///     y_label: "fraction".into(),
///     series: vec![Series::new("accuracy", vec![(1.0, 0.2), (2.0, 0.7)])],
///     ..Chart::default()
/// };
/// assert!(chart.svg().starts_with("<svg"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What goes from left to right.
    pub x_label: String,
    /// What goes upwards, with its unit.
    pub y_label: String,
    /// How it is drawn.
    pub style: Style,
    /// The range of the y axis; found from the data when `None`.
    pub y_range: Option<(f64, f64)>,
    /// The curves.
    pub series: Vec<Series>,
}

/// What the parts of a chart are drawn with.
pub(super) struct Frame {
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Chart {
    /// The chart as one `<svg>` element, to put into a page that has [`super::STYLE`].
    pub fn svg(&self) -> String {
        let points: Vec<&[(f64, f64)]> = self.series.iter().map(|series| series.points.as_slice()).collect();
        let buckets = buckets(&points, TIPS);
        let (legend, rows) = self.legend();
        let top = 34.0 + 16.0 * rows as f64;
        let (bottom, height) = (top + PLOT, top + PLOT + 36.0);
        let frame = Frame {
            x: Scale::new(self.x_range(), (LEFT, WIDTH - RIGHT)),
            y: Scale::new(self.y_range(&buckets), (bottom, top)),
            top,
            bottom,
        };
        let drawn = match self.style {
            Style::Lines => self.series.iter().enumerate().map(|(i, s)| lines::draw(s, i, &frame)).collect(),
            Style::Stacked => stacked::draw(&buckets, self.series.len(), &frame),
        };
        let label = escape(&self.summary());
        let head = format!(r#"<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {WIDTH} {height}""#);
        let (title, axes, tips) = (self.title(), self.axes(&frame), self.tips(&buckets, &frame));
        format!("{head} role=\"img\" aria-label=\"{label}\">{title}{legend}{axes}{drawn}{tips}</svg>")
    }

    /// The chart in words, for those who do not see it.
    fn summary(&self) -> String {
        let last = |series: &Series| series.last().map(|value| format!("{} ends at {}", series.name, number(value)));
        let ends: Vec<String> = self.series.iter().filter_map(last).collect();
        format!(
            "{} by {}: {}",
            self.title,
            self.x_label,
            if ends.is_empty() { "no data".into() } else { ends.join(", ") }
        )
    }

    fn title(&self) -> String {
        let mut out = format!(r#"<text class="title" x="2" y="15">{}</text>"#, escape(&self.title));
        if let ([only], Style::Lines) = (self.series.as_slice(), self.style) {
            let value = only.last().map(number).unwrap_or_default();
            let _ = write!(out, r#"<text class="last" x="{}" y="15">{value}</text>"#, WIDTH - RIGHT);
        }
        out
    }

    /// The legend and how many rows it has; none for a single series, which the title names.
    fn legend(&self) -> (String, usize) {
        if self.series.len() < 2 {
            return (String::new(), 0);
        }
        let (mut out, mut x, mut row) = (String::new(), 2.0, 0);
        for (i, series) in self.series.iter().enumerate() {
            let last = series.last().map(|value| format!(" {}", number(value))).unwrap_or_default();
            let text = format!("{}{last}", series.name);
            let width = 16.0 + LETTER * text.chars().count() as f64 + 8.0;
            if x > 2.0 && x + width > WIDTH {
                (x, row) = (2.0, row + 1);
            }
            let y = 32.0 + 16.0 * f64::from(row);
            let (color, key) = (i % 8, y - 8.0);
            let _ = write!(
                out,
                r#"<rect class="key s{color}" x="{x:.1}" y="{key}" width="10" height="8" rx="2"/><text class="legend" x="{:.1}" y="{y}">{}</text>"#,
                x + 14.0,
                escape(&text)
            );
            x += width;
        }
        (out, row as usize + 1)
    }

    pub(super) fn x_range(&self) -> (f64, f64) {
        let points = self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0));
        let bands = self.series.iter().flat_map(|series| series.band.iter().map(|band| band.0));
        range(points.chain(bands)).unwrap_or((0.0, 1.0))
    }

    pub(super) fn y_range(&self, buckets: &[Bucket]) -> (f64, f64) {
        if let Some(range) = self.y_range {
            return range;
        }
        if self.style == Style::Stacked {
            let total = |bucket: &Bucket| bucket.means.iter().flatten().map(|value| value.max(0.0)).sum::<f64>();
            return (0.0, buckets.iter().map(total).fold(0.0, f64::max) * 1.05);
        }
        let points = self.series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let bands = self.series.iter().flat_map(|series| series.band.iter().flat_map(|band| [band.1, band.2]));
        let Some((low, high)) = range(points.chain(bands)) else { return (0.0, 1.0) };
        let pad = (high - low) * 0.06;
        // An axis that begins at 0 is read more easily; it is given up only where it would flatten the curve.
        let low = if low >= 0.0 && low < 0.5 * high { 0.0 } else { low - pad };
        let high = if high <= 0.0 && high > 0.5 * low { 0.0 } else { high + pad };
        (low, high)
    }

    fn axes(&self, frame: &Frame) -> String {
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, frame.bottom);
        let mut out = String::new();
        for (value, label) in frame.y.ticks(5) {
            let y = frame.y.at(value);
            let _ = write!(out, r#"<line class="grid" x1="{left}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/>"#);
            let _ = write!(out, r#"<text class="ticks-y" x="{}" y="{:.1}">{label}</text>"#, left - 6.0, y + 4.0);
        }
        for (value, label) in frame.x.ticks(6) {
            let _ = write!(
                out,
                r#"<text class="ticks-x" x="{:.1}" y="{}">{label}</text>"#,
                frame.x.at(value),
                bottom + 15.0
            );
        }
        let (middle_x, middle_y) = ((left + right) / 2.0, (frame.top + bottom) / 2.0);
        let _ = write!(
            out,
            r#"<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/><text class="ticks-x" x="{middle_x}" y="{}">{}</text><text class="ticks-x" transform="translate(11 {middle_y}) rotate(-90)">{}</text>"#,
            bottom + 30.0,
            escape(&self.x_label),
            escape(&self.y_label)
        );
        out
    }

    /// Invisible strips that show the values under the pointer.
    fn tips(&self, buckets: &[Bucket], frame: &Frame) -> String {
        let mut out = String::new();
        for (i, bucket) in buckets.iter().enumerate() {
            let edge =
                |j: Option<usize>| j.and_then(|j| buckets.get(j)).map(|other| (other.middle() + bucket.middle()) / 2.0);
            let from = frame.x.at(edge(i.checked_sub(1)).unwrap_or(frame.x.low));
            let to = frame.x.at(edge(Some(i + 1)).unwrap_or(frame.x.high));
            let (x, top, height) = (frame.x.at(bucket.middle()), frame.top, frame.bottom - frame.top);
            let _ = write!(
                out,
                r#"<g class="hit"><title>{}</title><rect x="{from:.1}" y="{top}" width="{:.1}" height="{height}"/><line x1="{x:.1}" x2="{x:.1}" y1="{top}" y2="{}"/></g>"#,
                escape(&self.tip(bucket)),
                (to - from).max(0.0),
                frame.bottom
            );
        }
        out
    }

    fn tip(&self, bucket: &Bucket) -> String {
        let mut text = format!("{} {}", self.x_label, bucket.first);
        if bucket.last > bucket.first {
            let _ = write!(text, "–{} (mean)", bucket.last);
        }
        for (series, mean) in self.series.iter().zip(&bucket.means) {
            if let Some(value) = mean {
                let _ = write!(text, "\n{}: {}", series.name, number(*value));
            }
        }
        text
    }
}

/// The least and the greatest of the finite values.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let join = |range: Option<(f64, f64)>, v: f64| Some(range.map_or((v, v), |(low, high)| (low.min(v), high.max(v))));
    values.filter(|value| value.is_finite()).fold(None, join)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(style: Style, series: Vec<Series>) -> Chart {
        let (title, x_label, y_label) = ("T <&> \"x\"".into(), "step".into(), "v".into());
        Chart { title, x_label, y_label, style, y_range: None, series }
    }

    #[test]
    fn tooltips_and_legend_carry_names_and_values() {
        let a = Series::new("a<b", vec![(1.0, 0.5), (2.0, f64::NAN), (3.0, 0.75)]);
        let b = Series { band: vec![(1.0, 0.0, 2.0), (2.0, 0.5, 3.0)], ..Series::new("b", vec![(2.0, 1.0)]) };
        let svg = chart(Style::Lines, vec![a, b]).svg();
        assert!(svg.contains("step 1\na&lt;b: 0.5000</title>"), "{svg}");
        assert!(svg.contains("T &lt;&amp;&gt; &quot;x&quot;</text>") && !svg.contains("NaN"));
        assert_eq!(svg.matches("class=\"hit\"").count(), 3);
        assert_eq!(svg.matches("class=\"band").count(), 1);
        crate::report::wellformed::check(&svg).unwrap();
        crate::report::wellformed::check(&super::super::standalone(&svg)).unwrap();
    }

    #[test]
    fn strange_data_still_make_a_chart() {
        let of = |points: Vec<(f64, f64)>| vec![Series::new("s", points)];
        for style in [Style::Lines, Style::Stacked] {
            let cases = [
                vec![],
                of(vec![]),
                of(vec![(1.0, 2.0)]),
                of(vec![(1.0, f64::NAN), (2.0, f64::INFINITY)]),
                of(vec![(1.0, 0.0), (2.0, 0.0)]),
                of(vec![(1.0, -3.0), (2.0, -2.9)]),
                of((0..5_000).map(|i| (f64::from(i), f64::from(i).sin())).collect()),
            ];
            for series in cases {
                let svg = chart(style, series).svg();
                crate::report::wellformed::check(&svg).unwrap();
                assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
                assert!(svg.len() < 80_000, "{}", svg.len());
            }
        }
    }
}
