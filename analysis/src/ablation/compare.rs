//! Figures of arms over seeds: means with intervals, and the differences to the baseline arm, seed by seed.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::{Ablation, Arm};
use crate::bca::Resamples;
use crate::report::RunData;
use crate::report::names::{is_fraction, label, value_text};
use crate::stats::{Interval, mean, std, t_interval};

/// The metrics that are compared where none are named, as far as the runs have them.
pub const CHIEF: [&str; 6] = [
    "eval/accuracy",
    "eval/reward/mean",
    "eval/tool_rate",
    "eval/response_tokens/mean",
    "eval/end/answered",
    "accuracy",
];
/// Resamples of an interval.
const RESAMPLES: usize = 10_000;
/// Seed of the resamples.
const SEED: u64 = 0;
/// How the intervals come about, for whoever reads the tables.
const METHOD: &str = "BCa: 95 % bootstrap over seeds, 10000 resamples of seed 0; t: 95 % by Student's t. With fewer than about ten seeds \
                      the bootstrap is too narrow: believe t. Differences: arm minus baseline, seed by seed; eval/NAME: held-out, after \
                      training; NAME: mean of the last tenth of the steps";

/// All that is compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// How the intervals come about.
    pub method: &'static str,
    /// The arm that the others are compared with.
    pub baseline: String,
    /// One table a metric.
    pub metrics: Vec<MetricTable>,
}

/// A metric of all arms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricTable {
    /// The metric.
    pub metric: String,
    /// Its name without what says where it was measured: how its values are written.
    #[serde(skip)]
    pub plain: String,
    /// Its name for people.
    #[serde(skip)]
    pub label: String,
    /// The arms, in order.
    pub arms: Vec<ArmFigure>,
}

/// A metric of an arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ArmFigure {
    /// The arm.
    pub arm: String,
    /// Its value for each seed that has one.
    pub values: BTreeMap<u64, f64>,
    /// The mean of the values.
    pub mean: Option<f64>,
    /// The unbiased standard deviation of the values.
    pub std: Option<f64>,
    /// The BCa interval, of at least two values.
    pub interval: Option<Interval>,
    /// The interval by Student's t.
    pub t: Option<Interval>,
    /// Arm minus baseline over the seeds that both have; none for the baseline itself.
    pub difference: Option<Difference>,
}

/// A difference by seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The mean difference.
    pub mean: f64,
    /// For each seed.
    pub values: BTreeMap<u64, f64>,
    /// The BCa interval, of at least two seeds.
    pub interval: Option<Interval>,
    /// The interval by Student's t.
    pub t: Option<Interval>,
}

/// The value of a metric of a run: of `eval/NAME` the held-out figure after training, of `EVAL/NAME` that of a further evaluation, of any other name the mean over the last
/// tenth of the steps (at least one).
pub fn value(run: &RunData, metric: &str) -> Option<f64> {
    if let Some(name) = metric.strip_prefix("eval/") {
        return run.after.as_ref()?.get(name).copied().filter(|value| value.is_finite());
    }
    if let Some((first, name)) = metric.split_once('/')
        && let Some(table) = run.evals.get(first)
    {
        return table.get(name).copied().filter(|value| value.is_finite());
    }
    let last = run.metrics.last()?.step;
    let from = last - (last / 10).min(last);
    let tail = run.metrics.iter().filter(|row| row.step >= from.max(1) && (row.step > from || last < 10));
    let values: Vec<f64> = tail.filter_map(|row| row.metrics.get(metric).copied()).filter(|v| v.is_finite()).collect();
    mean(&values)
}

/// Compares the arms.
pub fn compare(ablation: &Ablation) -> Comparison {
    let named = &ablation.index.metrics;
    let metrics: Vec<String> =
        if named.is_empty() { CHIEF.iter().map(|&name| name.to_owned()).collect() } else { named.clone() };
    let known = |table: &MetricTable| !named.is_empty() || table.arms.iter().any(|arm| !arm.values.is_empty());
    let tables = metrics.into_iter().map(|metric| table(ablation, metric)).filter(known);
    let metrics = tables.chain(ablation.solved.tables(&ablation.index)).collect();
    Comparison { method: METHOD, baseline: ablation.index.baseline.clone(), metrics }
}

fn table(ablation: &Ablation, metric: String) -> MetricTable {
    let values = |arm: &Arm| -> BTreeMap<u64, f64> {
        arm.runs.iter().filter_map(|(seed, run)| Some((*seed, value(run, &metric)?))).collect()
    };
    let baseline = ablation.arms.iter().find(|arm| arm.name == ablation.index.baseline);
    let base = baseline.map(values).unwrap_or_default();
    let row = |arm: &Arm| {
        let of = values(arm);
        let difference = if arm.name == ablation.index.baseline { None } else { difference(&of, &base) };
        figure(&arm.name, of, difference)
    };
    let eval = ablation.index.evals.iter().find_map(|eval| metric.strip_prefix(&eval.name)?.strip_prefix('/'));
    let first = metric.split('/').next().unwrap_or_default();
    let label = eval.map_or_else(|| metric_label(&metric), |name| format!("{first}: {}", label(name).to_lowercase()));
    let plain = eval.unwrap_or(plain(&metric)).to_owned();
    MetricTable { arms: ablation.arms.iter().map(row).collect(), plain, label, metric }
}

/// The row of an arm with these values.
pub(super) fn figure(arm: &str, values: BTreeMap<u64, f64>, difference: Option<Difference>) -> ArmFigure {
    let all: Vec<f64> = values.values().copied().collect();
    ArmFigure {
        arm: arm.to_owned(),
        mean: mean(&all),
        std: std(&all),
        interval: bca(&all),
        t: t_interval(&all),
        difference,
        values,
    }
}

fn difference(values: &BTreeMap<u64, f64>, base: &BTreeMap<u64, f64>) -> Option<Difference> {
    let by_seed: BTreeMap<u64, f64> =
        values.iter().filter_map(|(seed, value)| Some((*seed, value - base.get(seed)?))).collect();
    let all: Vec<f64> = by_seed.values().copied().collect();
    Some(Difference { mean: mean(&all)?, interval: bca(&all), t: t_interval(&all), values: by_seed })
}

fn bca(values: &[f64]) -> Option<Interval> {
    Resamples::new(values.len(), RESAMPLES, SEED).interval(values)
}

impl Comparison {
    /// `table.json`.
    pub fn json(&self) -> Vec<u8> {
        // Numbers, texts and maps with keys that are texts in JSON: this does not fail.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// `table.md`: a table a metric.
    pub fn markdown(&self) -> String {
        let mut out = format!("{}.\nBaseline: {}.\n", self.method, self.baseline);
        for MetricTable { metric, plain, label, arms } in &self.metrics {
            let _ = write!(
                out,
                "\n### {label} (`{metric}`)\n\n| arm | seeds | mean | BCa | t | difference | BCa | t |\n|---|---:|---:|---|---|---:|---|---|\n",
            );
            for arm in arms {
                let difference = arm.difference.as_ref();
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} | {} | {} | {} | {} |",
                    arm.arm,
                    arm.values.len(),
                    metric_text(plain, arm.mean),
                    interval_text(plain, arm.interval),
                    interval_text(plain, arm.t),
                    difference.map_or("–".to_owned(), |d| difference_text(plain, d.mean)),
                    interval_text(plain, difference.and_then(|d| d.interval)),
                    interval_text(plain, difference.and_then(|d| d.t)),
                );
            }
        }
        out
    }

    /// `table.csv`: a row a metric and arm; empty where there is no number.
    pub fn csv(&self) -> String {
        let mut out = "metric,arm,seeds,mean,std,low,high,t_low,t_high,difference,difference_low,difference_high,\
                       difference_t_low,difference_t_high,difference_seeds\n"
            .to_owned();
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        for MetricTable { metric, arms, .. } in &self.metrics {
            for arm in arms {
                let ends =
                    |interval: Option<Interval>| [number(interval.map(|i| i.low)), number(interval.map(|i| i.high))];
                let d = arm.difference.as_ref();
                let mut cells = vec![metric.clone(), arm.arm.clone(), arm.values.len().to_string()];
                cells.extend([number(arm.mean), number(arm.std)]);
                cells.extend(ends(arm.interval));
                cells.extend(ends(arm.t));
                cells.push(number(d.map(|d| d.mean)));
                cells.extend(ends(d.and_then(|d| d.interval)));
                cells.extend(ends(d.and_then(|d| d.t)));
                cells.push(d.map(|d| d.values.len().to_string()).unwrap_or_default());
                let _ = writeln!(out, "{}", cells.join(","));
            }
        }
        out
    }

    /// For a terminal: one aligned table a metric.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for MetricTable { metric, plain, arms, .. } in &self.metrics {
            let row = |arm: &ArmFigure| {
                let d = arm.difference.as_ref();
                vec![
                    arm.arm.clone(),
                    arm.values.len().to_string(),
                    metric_text(plain, arm.mean),
                    interval_text(plain, arm.t),
                    d.map_or("–".to_owned(), |d| difference_text(plain, d.mean)),
                    interval_text(plain, d.and_then(|d| d.t)),
                ]
            };
            let header = ["arm", "seeds", "mean", "95 % (t)", "difference", "95 % (t)"];
            let rows: Vec<_> = arms.iter().map(row).collect();
            let _ = write!(out, "{metric}\n{}\n", crate::table::table(&header, &rows));
        }
        out
    }
}

/// A metric's name for people: `eval/accuracy` as `Held-out accuracy`.
pub(crate) fn metric_label(metric: &str) -> String {
    match metric.strip_prefix("eval/") {
        Some(name) => format!("Held-out {}", label(name).to_lowercase()),
        None => label(metric),
    }
}

fn plain(metric: &str) -> &str {
    metric.strip_prefix("eval/").unwrap_or(metric)
}

/// A value with its unit.
pub(crate) fn metric_text(metric: &str, value: Option<f64>) -> String {
    value_text(plain(metric), value.as_ref())
}

/// A difference with sign; of fractions in points.
pub(crate) fn difference_text(metric: &str, value: f64) -> String {
    crate::report::names::change_text(plain(metric), Some(&0.0), Some(&value))
}

/// `[low, high]`; fractions in per cent.
pub(crate) fn interval_text(metric: &str, interval: Option<Interval>) -> String {
    let text = |value: f64| match is_fraction(plain(metric)) {
        true => format!("{:.1}", value * 100.0),
        false => crate::plot::number(value),
    };
    interval.map_or("–".to_owned(), |i| format!("[{}, {}]", text(i.low), text(i.high)))
}

#[cfg(test)]
mod tests {
    use super::super::{AblationIndex, ArmIndex};
    use super::*;
    use crate::record::MetricsRow;

    fn run(accuracy: f64) -> RunData {
        let row = |step: usize| MetricsRow {
            step,
            metrics: [("reward/mean".to_owned(), step as f64)].into(),
            ..MetricsRow::default()
        };
        let after = Some([("accuracy".to_owned(), accuracy)].into());
        RunData { metrics: (0..=40).map(row).collect(), after, ..RunData::default() }
    }

    fn ablation(metrics: &[&str]) -> Ablation {
        let arm = |name: &str, values: &[(u64, f64)]| Arm {
            name: name.to_owned(),
            runs: values.iter().map(|&(seed, value)| (seed, run(value))).collect(),
            ..Arm::default()
        };
        let index = AblationIndex {
            name: "x".into(),
            arms: vec![ArmIndex::default(); 2],
            seeds: vec![1, 2, 3],
            baseline: "plain".into(),
            metrics: metrics.iter().map(|&m| m.to_owned()).collect(),
            evals: vec![ArmIndex { name: "six".into(), ..ArmIndex::default() }],
            ..AblationIndex::default()
        };
        let arms = vec![arm("plain", &[(1, 0.1), (2, 0.5), (3, 0.9)]), arm("gain", &[(1, 0.2), (3, 1.0)])];
        Ablation { index, arms, ..Ablation::default() }
    }

    #[test]
    fn differences_are_taken_seed_by_seed() {
        let found = compare(&ablation(&["eval/accuracy"]));
        let [plain, gain] = found.metrics[0].arms.as_slice() else { panic!() };
        assert_eq!((plain.mean, plain.difference.is_none(), plain.values.len()), (Some(0.5), true, 3));
        let difference = gain.difference.as_ref().unwrap();
        assert!((difference.mean - 0.1).abs() < 1e-12 && difference.values.len() == 2, "seed 2 has no pair");
        let interval = difference.interval.unwrap();
        assert!(interval.excludes(0.0) && interval.n == 2, "{interval:?}");
        assert!(plain.interval.unwrap().low < 0.5 && plain.t.unwrap().low < plain.interval.unwrap().low);
    }

    #[test]
    fn figures_of_further_evaluations_are_found_by_their_names() {
        let mut data = ablation(&["six/accuracy", "six/calls"]);
        data.arms[1].runs[0].1.evals.insert("six".into(), [("accuracy".to_owned(), 0.25)].into());
        let found = compare(&data);
        let six = &found.metrics[0];
        assert_eq!((six.arms[1].values.clone(), six.arms[0].values.len()), ([(1, 0.25)].into(), 0));
        assert!(found.markdown().contains("### six: accuracy (`six/accuracy`)"), "{}", found.markdown());
        assert!(found.markdown().contains("| gain | 1 | 25.0 % |") && found.metrics[1].arms[1].values.is_empty());
    }

    #[test]
    fn training_figures_are_of_the_last_tenth() {
        assert_eq!(value(&run(0.0), "reward/mean"), Some(38.5));
        assert_eq!(value(&run(0.0), "absent"), None);
        let short = RunData { metrics: run(0.0).metrics[..4].to_vec(), ..RunData::default() };
        assert_eq!(value(&short, "reward/mean"), Some(3.0));
    }

    #[test]
    fn tables_have_every_arm_and_leave_gaps_where_there_is_no_number() {
        let found = compare(&ablation(&["eval/accuracy", "eval/absent"]));
        let markdown = found.markdown();
        assert!(markdown.contains("| gain | 2 | 60.0 % |") && markdown.contains("| +10.0 points |"), "{markdown}");
        assert!(markdown.contains("| plain | 0 | – | – | – | – | – | – |"), "{markdown}");
        let csv = found.csv();
        let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns, [15; 5], "{csv}");
        let json: serde_json::Value = serde_json::from_slice(&found.json()).unwrap();
        assert_eq!(json["metrics"][0]["arms"][1]["values"]["3"], 1.0);
        assert_eq!(compare(&ablation(&[])).metrics.len(), 1, "chief metrics that no run has are left out");
        assert!(found.text().starts_with("eval/accuracy\narm"));
    }
}
