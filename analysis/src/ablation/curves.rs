//! Learning curves of arms: the mean over seeds, with a band.

use std::collections::BTreeMap;

use super::compare::metric_label;
use super::{Ablation, Arm};
use crate::bca::Resamples;
use crate::plot::{Chart, Series};
use crate::report::names::is_fraction;
use crate::stats::mean;

/// Resamples of a band's interval at a step.
const RESAMPLES: usize = 1_000;

/// The metrics that are drawn besides those that are compared, as far as the runs have them.
pub const DRAWN: [&str; 9] = [
    "eval/accuracy",
    "accuracy",
    "reward/mean",
    "tool_rate",
    "eval/tool_rate",
    "calls",
    "response_tokens/mean",
    "update/entropy",
    "flat_groups",
];

/// A metric by step, one curve an arm: the mean of the seeds and its 95 % BCa interval. A step at which a finished run of the arm
/// has no value is left out. `None` where no arm has a value.
pub fn curve(ablation: &Ablation, metric: &str) -> Option<Chart> {
    let series: Vec<Series> = ablation.arms.iter().map(|arm| arm_series(arm, metric)).collect();
    if series.iter().all(|series| series.points.is_empty()) {
        return None;
    }
    let plain = metric.strip_prefix("eval/").unwrap_or(metric);
    let inside = |series: &Series| {
        let ends = series.band.iter().flat_map(|band| [band.1, band.2]);
        series.points.iter().map(|point| point.1).chain(ends).all(|y| (0.0..=1.0).contains(&y))
    };
    Some(Chart {
        title: metric_label(metric),
        x_label: "step".to_owned(),
        y_label: if is_fraction(plain) { "fraction" } else { "value" }.to_owned(),
        y_range: (is_fraction(plain) && series.iter().all(inside)).then_some((0.0, 1.0)),
        series,
        ..Chart::default()
    })
}

fn arm_series(arm: &Arm, metric: &str) -> Series {
    let resamples = Resamples::new(arm.runs.len(), RESAMPLES, 0);
    let mut series = Series::new(arm.name.clone(), Vec::new());
    for (step, values) in by_step(arm, metric) {
        let Some(centre) = mean(&values).filter(|_| values.len() == arm.runs.len()) else { continue };
        series.points.push((step as f64, centre));
        series.band.extend(resamples.interval(&values).map(|i| (step as f64, i.low, i.high)));
    }
    series
}

/// The values of all seeds at each step.
pub(crate) fn by_step(arm: &Arm, metric: &str) -> BTreeMap<usize, Vec<f64>> {
    let mut steps: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for row in arm.runs.iter().flat_map(|(_, run)| &run.metrics) {
        if let Some(value) = row.metrics.get(metric).filter(|value| value.is_finite()) {
            steps.entry(row.step).or_default().push(*value);
        }
    }
    steps
}

/// The names of all curves: what is compared, then [`DRAWN`].
pub fn names(ablation: &Ablation) -> Vec<String> {
    let mut names = ablation.index.metrics.clone();
    for name in DRAWN {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::MetricsRow;
    use crate::report::RunData;

    #[test]
    fn a_step_counts_where_every_seed_has_a_value() {
        let row = |step, value: f64| MetricsRow {
            step,
            metrics: [("accuracy".to_owned(), value)].into(),
            ..Default::default()
        };
        let run = |values: &[(usize, f64)]| RunData {
            metrics: values.iter().map(|&(s, v)| row(s, v)).collect(),
            ..RunData::default()
        };
        let runs = vec![(1, run(&[(1, 0.0), (2, 0.5), (3, 0.5)])), (2, run(&[(1, 1.0), (2, 0.5), (4, 0.1)]))];
        let arm = Arm { name: "a".into(), runs, ..Arm::default() };
        let ablation = Ablation { arms: vec![arm], ..Ablation::default() };
        let chart = curve(&ablation, "accuracy").unwrap();
        assert_eq!(chart.series[0].points, [(1.0, 0.5), (2.0, 0.5)]);
        let band = &chart.series[0].band;
        assert!(band[0].1 < 0.1 && band[0].2 > 0.9 && band[1] == (2.0, 0.5, 0.5), "{band:?}");
        assert_eq!(chart.y_range, Some((0.0, 1.0)));
        assert!(curve(&ablation, "absent").is_none());
        assert!(names(&ablation).contains(&"tool_rate".to_owned()));
    }
}
