//! The curves of a run: known metrics in charts of their own, all others after them.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{is_fraction, label};
use crate::plot::{Chart, Series, Style};
use crate::record::MetricsRow;

/// A chart of the report: title, unit, and the metrics in it; a name that ends in `/` stands for all that begin so.
struct Plan {
    title: &'static str,
    unit: &'static str,
    names: &'static [&'static str],
    style: Style,
}

const fn lines(title: &'static str, unit: &'static str, names: &'static [&'static str]) -> Plan {
    Plan { title, unit, names, style: Style::Lines }
}

/// In the order in which a person judges a run: does it learn, how does it act, is the optimisation sound.
const PLANS: [Plan; 15] = [
    lines("Accuracy", "fraction", &["accuracy"]),
    lines("Reward", "reward", &["reward/mean", "reward/std"]),
    lines("Tool use", "fraction of trajectories", &["tool_rate", "tool_rate_needed"]),
    Plan {
        title: "End of episodes",
        unit: "fraction of trajectories",
        names: &[
            "end/answered",
            "end/no_answer",
            "end/turn_limit",
            "end/length_limit",
            "end/malformed",
            "end/image_limit",
            "end/",
        ],
        style: Style::Stacked,
    },
    lines("Accuracy by kind", "fraction", &["accuracy/"]),
    lines("Zooms", "fraction", &["zoom/hit", "zoom/right_image", "zoom/reading", "zoom/"]),
    lines("Calls and turns", "per trajectory", &["calls", "turns"]),
    lines("Response length", "tokens", &["response_tokens/mean"]),
    lines("Entropy", "nats per token", &["update/entropy"]),
    lines("KL divergence", "nats per token", &["update/kl", "update/approx_kl"]),
    lines("Clip fraction", "fraction of tokens", &["update/clip_fraction"]),
    lines("Gradient norm", "norm", &["update/grad_norm"]),
    lines("Loss", "loss", &["update/loss"]),
    lines("Learning rate", "per step", &["update/learning_rate"]),
    Plan {
        title: "Time of a step",
        unit: "seconds",
        names: &["seconds/rollout", "seconds/reward", "seconds/score", "seconds/update", "seconds/"],
        style: Style::Stacked,
    },
];

/// The known charts and the others, as far as there is data for them.
pub(super) fn charts(metrics: &[MetricsRow]) -> (Vec<Chart>, Vec<Chart>) {
    let curves = curves(metrics);
    let mut used = BTreeSet::new();
    let known = PLANS.iter().filter_map(|plan| planned(plan, &curves, &mut used)).collect();
    let rest = curves.iter().filter(|(name, _)| !used.contains(name.as_str()));
    let other = rest.map(|(name, points)| chart(&label(name), unit(name), Style::Lines, &[(name, points)])).collect();
    (known, other)
}

type Points = Vec<(f64, f64)>;

/// `(step, value)` of every metric that has a finite value; times under `seconds/NAME`.
fn curves(metrics: &[MetricsRow]) -> BTreeMap<String, Points> {
    let mut curves: BTreeMap<String, Points> = BTreeMap::new();
    for row in metrics {
        let seconds = row.seconds.iter().map(|(name, value)| (format!("seconds/{name}"), value));
        for (name, value) in row.metrics.iter().map(|(name, value)| (name.clone(), value)).chain(seconds) {
            curves.entry(name).or_default().push((row.step as f64, *value));
        }
    }
    curves.retain(|_, points| points.iter().any(|point| point.1.is_finite()));
    curves
}

fn planned<'a>(plan: &Plan, curves: &'a BTreeMap<String, Points>, used: &mut BTreeSet<&'a str>) -> Option<Chart> {
    let mut series: Vec<(&String, &Points)> = Vec::new();
    for wanted in plan.names {
        let fits = |name: &str| name == *wanted || (wanted.ends_with('/') && name.starts_with(wanted));
        series.extend(curves.iter().filter(|(name, _)| fits(name) && used.insert(name.as_str())));
    }
    (!series.is_empty()).then(|| chart(plan.title, plan.unit, plan.style, &series))
}

fn unit(name: &str) -> &'static str {
    if is_fraction(name) { "fraction" } else { "value" }
}

fn chart(title: &str, unit: &str, style: Style, series: &[(&String, &Points)]) -> Chart {
    let in_group = |name: &str| name.split_once('/').map_or(name, |(_, rest)| rest).replace('_', " ");
    let whole = series.iter().all(|(name, _)| is_fraction(name) && *name != "update/clip_fraction");
    let inside = series.iter().all(|(_, points)| points.iter().all(|p| !p.1.is_finite() || (0.0..=1.0).contains(&p.1)));
    Chart {
        title: title.to_owned(),
        x_label: "step".to_owned(),
        y_label: unit.to_owned(),
        style,
        y_range: (whole && inside).then_some((0.0, 1.0)),
        series: series.iter().map(|(name, points)| Series::new(in_group(name), (*points).clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_plotted_once() {
        let known = [
            "accuracy",
            "reward/mean",
            "reward/std",
            "tool_rate",
            "tool_rate_needed",
            "calls",
            "turns",
            "end/answered",
            "end/new",
            "update/entropy",
            "update/kl",
            "update/approx_kl",
            "update/clip_fraction",
            "response_tokens/mean",
            "update/grad_norm",
            "update/learning_rate",
            "update/loss",
            "zoom/hit",
            "accuracy/read",
        ];
        let unknown = ["mystery", "group/flat"];
        let metrics = known.iter().chain(&unknown).map(|name| ((*name).to_owned(), 0.5)).collect();
        let seconds = ["rollout", "checkpoint"].map(|name| (name.to_owned(), 1.0)).into();
        let (charts, other) = charts(&[MetricsRow { step: 1, metrics, seconds }]);
        assert_eq!(charts.len(), PLANS.len());
        assert_eq!(charts.iter().map(|chart| chart.series.len()).sum::<usize>(), known.len() + 2);
        let titles: Vec<_> = other.iter().map(|chart| chart.title.as_str()).collect();
        assert_eq!(titles, ["Group: flat", "Mystery"]);
    }

    #[test]
    fn what_has_no_finite_value_has_no_chart() {
        let row = MetricsRow { step: 1, metrics: [("update/kl".to_owned(), f64::NAN)].into(), ..Default::default() };
        let (known, other) = charts(&[row]);
        assert!(known.is_empty() && other.is_empty());
    }
}
