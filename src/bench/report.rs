//! The figures of a benchmark: by task and joined, with 95 % intervals that take dependent items together.

use std::collections::BTreeMap;

use imagent_analysis::stats::Interval;
use imagent_analysis::table;
use imagent_core::seed;
use rand::Rng;
use serde::Serialize;

use super::run::Item;
use super::{Bench, Join};

/// Resamples of an interval.
const RESAMPLES: u64 = 2000;

/// The figures of one order of options.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The order of options.
    pub order: String,
    /// By task, then by figure.
    pub tasks: BTreeMap<String, BTreeMap<String, Interval>>,
    /// All tasks joined as the benchmark joins them, by figure.
    pub joined: BTreeMap<String, Interval>,
    /// Items that the benchmark's own protocol would have put to a judge model; they count as wrong.
    pub judge: usize,
}

/// The figures of a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Its name.
    pub bench: String,
    /// How tasks are joined.
    pub joined: &'static str,
    /// A table for each order of options.
    pub tables: Vec<Table>,
}

/// An item's figures.
type Figures<'a> = (&'a str, &'a str, BTreeMap<&'a str, f64>);

impl Report {
    /// The figures of all items.
    pub fn new(bench: &Bench, items: &[Item], seed: u64) -> Self {
        let joined = if bench.join == Join::Items { "mean over items" } else { "mean over tasks" };
        let of = |order: &super::Order| {
            let own: Vec<&Item> = items.iter().filter(|item| item.order == order.name()).collect();
            Table::new(order.name(), bench.join, &own, seed)
        };
        Self { bench: bench.name.into(), joined, tables: bench.orders.iter().map(of).collect() }
    }

    /// The tables as text, a figure and its interval in percent to a column.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for one in &self.tables {
            if self.tables.len() > 1 {
                text.push_str(&format!("options {}\n", one.order));
            }
            let names: Vec<&String> = one.joined.keys().collect();
            let row = |name: &str, figures: &BTreeMap<String, Interval>| {
                let n = figures.values().next().map_or(0, |figure| figure.n);
                let cell = |key: &&String| figures.get(*key).map_or_else(String::new, percent);
                [name.to_owned(), n.to_string()].into_iter().chain(names.iter().map(cell)).collect::<Vec<_>>()
            };
            let mut rows: Vec<Vec<String>> = one.tasks.iter().map(|(task, figures)| row(task, figures)).collect();
            rows.push(row(self.joined, &one.joined));
            let header: Vec<&str> =
                ["task", "items"].into_iter().chain(names.iter().map(|name| name.as_str())).collect();
            text.push_str(&table(&header, &rows));
            if one.judge > 0 {
                text.push_str(&format!(
                    "{} replies are for a judge model by the benchmark's protocol; without one they count as wrong\n",
                    one.judge
                ));
            }
        }
        text
    }
}

fn percent(figure: &Interval) -> String {
    format!("{:.1} [{:.1}, {:.1}]", 100.0 * figure.mean, 100.0 * figure.low, 100.0 * figure.high)
}

impl Table {
    fn new(order: &str, join: Join, items: &[&Item], seed: u64) -> Self {
        let figures: Vec<Figures<'_>> = items.iter().map(|item| figures(item)).collect();
        let mut by_task: BTreeMap<&str, Vec<&Figures<'_>>> = BTreeMap::new();
        for one in &figures {
            by_task.entry(one.0).or_default().push(one);
        }
        let tasks = by_task.iter().map(|(task, own)| ((*task).to_owned(), intervals(&[own.clone()], seed)));
        let joined = match join {
            Join::Items => intervals(&[figures.iter().collect()], seed),
            Join::Tasks => intervals(&by_task.values().cloned().collect::<Vec<_>>(), seed),
        };
        let judge = items.iter().filter(|item| item.scores.judge).count();
        Self { order: order.to_owned(), tasks: tasks.collect(), joined, judge }
    }
}

fn figures(item: &Item) -> Figures<'_> {
    let scores = &item.scores;
    let more = scores.more.iter().map(|(name, value)| (name.as_str(), *value));
    let own = scores.official.map(|official| ("official", official));
    (&item.task, &item.cluster, more.chain(own).chain([("strict", scores.strict)]).collect())
}

/// Each figure's mean over strata of the mean over items, with its percentile-bootstrap interval; clusters are drawn within strata.
fn intervals(strata: &[Vec<&Figures<'_>>], seed: u64) -> BTreeMap<String, Interval> {
    let names: Vec<&str> =
        strata.iter().flatten().next().map(|one| one.2.keys().copied().collect()).unwrap_or_default();
    let of = |name: &&str| {
        let strata: Vec<Vec<(f64, f64)>> = strata.iter().map(|items| clusters(items, name)).collect();
        let n = strata.iter().flatten().map(|(_, count)| *count as usize).sum();
        let mean = joined(strata.iter().map(|clusters| ratio(clusters.iter())));
        let mut means: Vec<f64> = (0..RESAMPLES)
            .map(|resample| {
                let mut rng = seed::rng(seed, &[seed::text(name), resample]);
                joined(strata.iter().map(|clusters| {
                    let drawn: Vec<_> =
                        clusters.iter().map(|_| &clusters[rng.random_range(0..clusters.len())]).collect();
                    ratio(drawn.into_iter())
                }))
            })
            .collect();
        means.sort_by(f64::total_cmp);
        let at = |q: f64| means.get((q * (means.len() - 1) as f64).round() as usize).copied().unwrap_or(mean);
        ((*name).to_owned(), Interval { mean, low: at(0.025), high: at(0.975), n })
    };
    names.iter().map(of).collect()
}

/// Sum and number of items of each cluster.
fn clusters(items: &[&Figures<'_>], name: &str) -> Vec<(f64, f64)> {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (_, cluster, figures) in items {
        let sum = sums.entry(cluster).or_default();
        *sum = (sum.0 + figures.get(name).copied().unwrap_or(0.0), sum.1 + 1.0);
    }
    sums.into_values().collect()
}

fn ratio<'a>(clusters: impl Iterator<Item = &'a (f64, f64)>) -> f64 {
    let (sum, count) = clusters.fold((0.0, 0.0), |(a, b), (sum, count)| (a + sum, b + count));
    if count > 0.0 { sum / count } else { 0.0 }
}

fn joined(strata: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = strata.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bench::named;
    use crate::bench::score::Scores;

    fn item(number: usize, task: &str, cluster: &str, official: f64) -> Item {
        let scores = Scores { official: Some(official), strict: 0.0, judge: official == 0.0, ..Scores::default() };
        let [order, task, cluster] = ["published", task, cluster].map(str::to_owned);
        let [id, question, gold, reply, end] = std::array::from_fn(|_| String::new());
        Item { number, id, order, task, cluster, question, gold, turns: Vec::new(), reply, end, scores }
    }

    /// Two tasks of 8 and 2 items, all right and all wrong.
    fn items() -> Vec<Item> {
        (0..10).map(|n| item(n, if n < 8 { "a" } else { "b" }, &n.to_string(), if n < 8 { 1.0 } else { 0.0 })).collect()
    }

    #[test]
    fn figures_are_joined_over_items_or_tasks() {
        let joined = |bench: &str| Report::new(named(bench).unwrap(), &items(), 1).tables.remove(0);
        let (items, tasks) = (joined("muir"), joined("blink"));
        assert_eq!((items.joined["official"].mean, items.joined["official"].n), (0.8, 10));
        assert_eq!((tasks.joined["official"].mean, tasks.joined["official"].low), (0.5, 0.5), "tasks are not drawn");
        assert_eq!((items.tasks["b"]["official"].mean, items.judge), (0.0, 2));
        assert!(items.joined["official"].low < 0.7 && items.joined["official"].high > 0.9);
        let text = Report::new(named("muir").unwrap(), &self::items(), 1).text();
        assert!(text.contains("80.0 [") && text.contains("2 replies are for a judge"), "{text}");
    }

    #[test]
    fn dependent_items_widen_the_interval() {
        let rows = |clusters: usize| -> Vec<Item> {
            (0..80).map(|n| item(n, "a", &(n % clusters).to_string(), ((n % clusters) % 2) as f64)).collect()
        };
        let width = |clusters| {
            let report = Report::new(named("hrbench").unwrap(), &rows(clusters), 1);
            let figure = report.tables[0].joined["official"];
            assert_eq!(figure.mean, 0.5);
            figure.high - figure.low
        };
        assert!(width(20) > 1.7 * width(80), "four times the variance");
    }
}
