//! The figures of a benchmark: by task and joined, with 95 % intervals that take dependent items together.

use std::collections::{BTreeMap, BTreeSet};

use imagent_analysis::stats::{Cluster, Interval, cluster_bootstrap};
use imagent_analysis::table;
use serde::Serialize;
use serde_json::json;

use super::{Bench, Form, Join};

/// The figures of one form in which items were asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The form.
    pub form: &'static str,
    /// By task, then by figure.
    pub tasks: BTreeMap<String, BTreeMap<String, Interval>>,
    /// All tasks joined as the benchmark joins them, by figure.
    pub joined: BTreeMap<String, Interval>,
    /// Replies that no rule decides, of a protocol that asks a judge then; they count as wrong where there is no judge, and where
    /// `unreadable` counts them.
    pub for_judge: usize,
    /// Of these, how many the judge left open.
    pub unreadable: usize,
}

/// The figures of a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Its name.
    pub bench: &'static str,
    /// How tasks are joined.
    pub joined: &'static str,
    /// The judge, where there was one.
    pub judge: Option<String>,
    /// A table for each form in which items were asked.
    pub tables: Vec<Table>,
}

/// What the report counts of an item.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The form in which it was asked.
    pub form: Form,
    /// The rows that it counts in.
    pub rows: Vec<String>,
    /// What dependent items have in common.
    pub cluster: u64,
    /// Its figures; those of a box differ from those of a choice.
    pub figures: BTreeMap<String, f64>,
    /// Whether no rule decided it.
    pub for_judge: bool,
    /// Whether the judge left it open.
    pub unreadable: bool,
}

impl Report {
    /// The figures of all items.
    pub fn new(bench: &Bench, judge: Option<String>, items: &[Counted], seed: u64) -> Self {
        let joined = if bench.join == Join::Items { "mean over items" } else { "mean over tasks" };
        let of = |form: &Form| {
            let own: Vec<&Counted> = items.iter().filter(|item| item.form == *form).collect();
            (!own.is_empty()).then(|| Table::new(*form, bench.join, &own, seed))
        };
        Self { bench: bench.name, joined, judge, tables: bench.forms.iter().filter_map(of).collect() }
    }

    /// The report as a JSON text.
    pub fn json(&self) -> String {
        format!("{:#}\n", json!(self))
    }

    /// The tables as text, a figure and its interval in percent to a column.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for one in &self.tables {
            if self.tables.len() > 1 {
                text.push_str(&format!("{}\n", one.form));
            }
            text.push_str(&one.text(self.joined));
            let judge = self.judge.as_deref();
            if one.for_judge > 0 && judge.is_none() {
                let n = one.for_judge;
                text.push_str(&format!(
                    "{n} replies are for a judge model by the benchmark's protocol; they count as wrong\n"
                ));
            } else if one.for_judge > 0 {
                let (judge, n, open) = (judge.unwrap_or_default(), one.for_judge, one.unreadable);
                text.push_str(&format!("{n} replies were put to {judge}, which said no option of {open}\n"));
            }
        }
        text
    }
}

impl Table {
    fn new(form: Form, join: Join, items: &[&Counted], seed: u64) -> Self {
        let mut rows: BTreeMap<&str, Vec<&Counted>> = BTreeMap::new();
        let mut tasks: BTreeMap<&str, Vec<&Counted>> = BTreeMap::new();
        for item in items {
            item.rows.iter().for_each(|row| rows.entry(row).or_default().push(item));
            tasks.entry(item.rows.first().map_or("", String::as_str)).or_default().push(item);
        }
        let joined = match join {
            Join::Items => intervals(&[items.to_vec()], seed),
            Join::Tasks => intervals(&tasks.into_values().collect::<Vec<_>>(), seed),
        };
        let tasks = rows.into_iter().map(|(row, own)| (row.to_owned(), intervals(&[own], seed))).collect();
        let count = |is: fn(&Counted) -> bool| items.iter().filter(|item| is(item)).count();
        let (for_judge, unreadable) = (count(|item| item.for_judge), count(|item| item.unreadable));
        Self { form: form.name(), tasks, joined, for_judge, unreadable }
    }

    fn text(&self, joined: &str) -> String {
        let names: Vec<&str> = self.joined.keys().map(String::as_str).collect();
        let row = |name: &str, figures: &BTreeMap<String, Interval>| -> Vec<String> {
            let n = figures.values().map(|figure| figure.n).max().unwrap_or_default();
            let cells = names.iter().map(|key| figures.get(*key).map_or_else(String::new, percent));
            [name.to_owned(), n.to_string()].into_iter().chain(cells).collect()
        };
        let mut rows: Vec<Vec<String>> = self.tasks.iter().map(|(task, figures)| row(task, figures)).collect();
        rows.push(row(joined, &self.joined));
        table(&[&["task", "items"], &names[..]].concat(), &rows)
    }
}

fn percent(figure: &Interval) -> String {
    format!("{:.1} [{:.1}, {:.1}]", 100.0 * figure.mean, 100.0 * figure.low, 100.0 * figure.high)
}

/// Each figure's mean over strata of the mean over items; dependent items are drawn together, within strata.
fn intervals(strata: &[Vec<&Counted>], seed: u64) -> BTreeMap<String, Interval> {
    let names: BTreeSet<&String> = strata.iter().flatten().flat_map(|item| item.figures.keys()).collect();
    let of = |name: &String| {
        let clusters: Vec<Vec<Cluster>> = strata.iter().map(|items| clusters(items, name)).collect();
        Some((name.clone(), cluster_bootstrap(&clusters, seed).into_iter().next()?))
    };
    names.into_iter().filter_map(of).collect()
}

/// The items that have the figure, dependent ones together.
fn clusters(items: &[&Counted], name: &str) -> Vec<Cluster> {
    let mut places: BTreeMap<u64, usize> = BTreeMap::new();
    let mut clusters: Vec<Cluster> = Vec::new();
    for (item, value) in items.iter().filter_map(|item| Some((item, item.figures.get(name)?))) {
        let place = *places.entry(item.cluster).or_insert(clusters.len());
        if place == clusters.len() {
            clusters.push(Cluster { sums: vec![0.0], count: 0 });
        }
        clusters[place].sums[0] += value;
        clusters[place].count += 1;
    }
    clusters
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::named;
    use super::*;

    fn item(row: &str, cluster: u64, official: f64) -> Counted {
        let figures = [("official".to_owned(), official), ("strict".to_owned(), 0.0)].into();
        let (form, open) = (Form::Published, official == 0.0);
        Counted { form, rows: vec![row.to_owned()], cluster, figures, for_judge: open, unreadable: false }
    }

    #[test]
    fn figures_are_joined_over_items_or_tasks() {
        // Two tasks of eight items and two, all right and all wrong.
        let items: Vec<Counted> =
            (0..10).map(|n| item(if n < 8 { "a" } else { "b" }, n, f64::from(u8::from(n < 8)))).collect();
        let report =
            |bench: &str, judge: Option<&str>| Report::new(named(bench).unwrap(), judge.map(str::to_owned), &items, 1);
        let (by_item, by_task) = (report("muir", None), report("blink", None));
        let official = |report: &Report| report.tables[0].joined["official"];
        assert_eq!((official(&by_item).mean, official(&by_item).n), (0.8, 10));
        assert!(official(&by_item).low < 0.7 && official(&by_item).high > 0.9);
        assert_eq!((official(&by_task).mean, official(&by_task).low), (0.5, 0.5), "tasks are not drawn");
        assert_eq!(by_item.tables[0].tasks["b"]["official"].mean, 0.0);
        let text = by_item.text();
        assert!(text.contains("80.0 [") && text.contains("2 replies are for a judge"), "{text}");
        assert!(!text.contains("published"), "one table needs no head: {text}");
        let text = report("blink", Some("m")).text();
        assert!(text.contains("2 replies were put to m, which said no option of 0"), "{text}");
    }

    #[test]
    fn dependent_items_are_one_cluster() {
        let items: Vec<Counted> = [1, 2, 1, 3].into_iter().map(|cluster| item("a", cluster, 1.0)).collect();
        let made = clusters(&items.iter().collect::<Vec<_>>(), "official");
        assert_eq!(made.iter().map(|cluster| cluster.count).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!(made[0].sums, [2.0]);
    }

    #[test]
    fn a_figure_is_that_of_the_items_that_have_it_whatever_their_order() {
        let mut items: Vec<Counted> = (0..12).map(|n| item(if n < 6 { "box" } else { "choice" }, n, 0.0)).collect();
        for item in &mut items[..6] {
            item.figures.insert("strict_iou".to_owned(), 1.0);
        }
        for bench in ["muir", "blink"] {
            for _ in 0..2 {
                let table = &Report::new(named(bench).unwrap(), None, &items, 1).tables[0];
                assert_eq!((table.joined["strict_iou"].mean, table.joined["strict_iou"].n), (1.0, 6));
                assert_eq!((table.joined["strict"].mean, table.joined["strict"].n), (0.0, 12));
                assert!(!table.tasks["choice"].contains_key("strict_iou"));
                items.reverse();
            }
        }
    }
}
