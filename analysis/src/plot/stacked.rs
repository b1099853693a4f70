//! Stacked areas: parts of a whole over the steps.

use std::fmt::Write;

use super::chart::Frame;
use super::lines::path;
use super::smooth::Bucket;

/// One area a series, the first at the bottom; what is missing or negative counts as 0.
pub(super) fn draw(buckets: &[Bucket], series: usize, frame: &Frame) -> String {
    let mut out = String::new();
    for (i, points) in areas(buckets, series, frame).iter().enumerate() {
        let _ = write!(out, r#"<polygon class="area s{}" points="{}"/>"#, i % 8, path(points, frame));
    }
    out
}

/// The outlines of the areas, in the units of the data.
pub(super) fn areas(buckets: &[Bucket], series: usize, frame: &Frame) -> Vec<Vec<(f64, f64)>> {
    let mut found = Vec::with_capacity(series);
    let mut floor = vec![0.0; buckets.len()];
    for i in 0..series {
        let part = |bucket: &Bucket| bucket.means.get(i).copied().flatten().unwrap_or(0.0).max(0.0);
        let roof: Vec<f64> = buckets.iter().zip(&floor).map(|(bucket, below)| below + part(bucket)).collect();
        let upper = buckets.iter().zip(&roof).map(|(bucket, &y)| (bucket.middle(), y));
        let lower = buckets.iter().zip(&floor).map(|(bucket, &y)| (bucket.middle(), y)).rev();
        found.push(widened(upper.chain(lower).collect(), buckets.len(), frame));
        floor = roof;
    }
    found
}

/// A single bucket has no width of its own: it takes the whole frame. Otherwise the outer buckets reach to its edges.
fn widened(mut points: Vec<(f64, f64)>, buckets: usize, frame: &Frame) -> Vec<(f64, f64)> {
    let (low, high) = (frame.x.low, frame.x.high);
    match (buckets, points.as_slice()) {
        (1, &[upper, lower]) => vec![(low, upper.1), (high, upper.1), (high, lower.1), (low, lower.1)],
        (2.., _) => {
            let end = points.len() - 1;
            (points[0].0, points[end].0) = (low, low);
            (points[buckets - 1].0, points[buckets].0) = (high, high);
            points
        }
        _ => points,
    }
}
