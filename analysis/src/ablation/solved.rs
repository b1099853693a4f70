//! Of the questions that are solved with tools, how many are solved without? Paired by sample, seed by seed.
//!
//! A question counts as solved *with a tool* where the answer is right and a tool returned an image; elsewhere as solved where the
//! answer is right. So the share is what is not owed to the tools: a tool that was called for a question that is answered as well
//! without it has gained nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::compare::{ArmFigure, MetricTable, figure};
use super::{AblationIndex, Arm, EVAL_ROLLOUTS, eval_folder, run_folder};
use crate::error::AnalysisError;
use crate::record::read_rollouts;

/// What the trajectories of a place say, by seed.
pub type BySeed = BTreeMap<u64, Solved>;

/// Samples of one evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Solved {
    /// Those that were asked.
    pub asked: BTreeSet<String>,
    /// Those that were answered right.
    pub right: BTreeSet<String>,
    /// Those of them for which a tool returned an image.
    pub with_tool: BTreeSet<String>,
}

/// Which questions were solved, by place (an arm, or `ARM/EVAL`) and seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Solutions(pub BTreeMap<String, BySeed>);

impl Solutions {
    /// Reads the trajectories of the places that the index names, as far as they are there.
    ///
    /// # Errors
    /// Names the file and line that cannot be read.
    pub fn read(folder: &Path, index: &AblationIndex, arms: &[Arm]) -> Result<Self, AnalysisError> {
        let mut found = Self::default();
        for place in index.solved.of.iter().chain(&index.solved.also) {
            let (name, eval) = place.split_once('/').map_or((place.as_str(), None), |(arm, eval)| (arm, Some(eval)));
            let runs = arms.iter().filter(|arm| arm.name == name).flat_map(|arm| &arm.runs);
            for (seed, _) in runs {
                let path = rollouts(&run_folder(folder, name, *seed), eval);
                if path.is_file() {
                    found.0.entry(place.clone()).or_default().insert(*seed, Solved::read(&path)?);
                }
            }
        }
        Ok(found)
    }

    /// A table with the share of questions that are solved with a tool, and for each place of it one with the shares of those that
    /// are solved elsewhere. Seeds that one of both lacks are left out.
    pub fn tables(&self, index: &AblationIndex) -> Vec<MetricTable> {
        let (of, also) = (&index.solved.of, &index.solved.also);
        if of.is_empty() {
            return Vec::new();
        }
        let with_tool = |solved: &Solved| Some(ratio(solved.with_tool.len(), solved.asked.len()));
        let row = |place: &String| {
            let seeds = self.0.get(place).into_iter().flatten();
            figure(place, seeds.filter_map(|(seed, solved)| Some((*seed, with_tool(solved)??))).collect(), None)
        };
        let label = "Solved with a tool".to_owned();
        let plain = "accuracy".to_owned();
        let arms = of.iter().map(row).collect();
        let mut tables = vec![MetricTable { metric: "solved_with_tool".to_owned(), plain, label, arms }];
        tables.extend(of.iter().map(|place| self.elsewhere(place, also)));
        tables
    }

    fn elsewhere(&self, of: &str, also: &[String]) -> MetricTable {
        let row = |place: &String| -> ArmFigure {
            let (here, there) = (self.0.get(of), self.0.get(place));
            let seeds = here.into_iter().flatten().filter_map(|(seed, here)| {
                let there = there?.get(seed)?;
                let pairs = here.with_tool.intersection(&there.asked);
                let right = here.with_tool.intersection(&there.right).count();
                Some((*seed, ratio(right, pairs.count())?))
            });
            figure(place, seeds.collect(), None)
        };
        MetricTable {
            metric: format!("also_solved/{of}"),
            plain: "accuracy".to_owned(),
            label: format!("Of what {of} solves with a tool, solved by"),
            arms: also.iter().map(row).collect(),
        }
    }
}

impl Solved {
    fn read(path: &Path) -> Result<Self, AnalysisError> {
        let mut found = Self::default();
        for record in read_rollouts(path)? {
            if record.right() == Some(true) {
                if record.used_tool() {
                    found.with_tool.insert(record.sample.clone());
                }
                found.right.insert(record.sample.clone());
            }
            found.asked.insert(record.sample);
        }
        Ok(found)
    }
}

/// The trajectories after training, or of a further evaluation; those before, of a run without steps.
fn rollouts(run: &Path, eval: Option<&str>) -> PathBuf {
    if let Some(eval) = eval {
        return eval_folder(run, eval).join(EVAL_ROLLOUTS);
    }
    let after = run.join("rollouts").join("eval-after.jsonl");
    if after.is_file() { after } else { run.join("rollouts").join("eval-before.jsonl") }
}

fn ratio(part: usize, all: usize) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::super::SolvedIndex;
    use super::*;

    fn solved(asked: &[&str], right: &[&str], with_tool: &[&str]) -> Solved {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Solved { asked: set(asked), right: set(right), with_tool: set(with_tool) }
    }

    #[test]
    fn shares_are_paired_by_sample_and_by_seed() {
        let all = ["a", "b", "c", "d", "e"];
        let tools = BySeed::from([
            (1, solved(&all, &["a", "b", "c", "d"], &["a", "b", "c"])),
            (2, solved(&all, &["a"], &["a"])),
            (3, solved(&all, &["e"], &[])),
        ]);
        // `c` was not asked there, and what was solved without a tool here does not count.
        let other = BySeed::from([
            (1, solved(&["a", "b", "d"], &["a", "d"], &[])),
            (2, solved(&all, &["a", "b"], &[])),
            (3, solved(&all, &all, &[])),
        ]);
        let solutions = Solutions([("tools".to_owned(), tools), ("none".to_owned(), other)].into());
        let solved = SolvedIndex { of: vec!["tools".into()], also: vec!["none".into(), "absent".into()] };
        let tables = solutions.tables(&AblationIndex { solved, ..AblationIndex::default() });
        let [share, elsewhere] = tables.as_slice() else { panic!("{tables:?}") };
        assert_eq!(share.arms[0].values, [(1, 0.6), (2, 0.2), (3, 0.0)].into());
        assert_eq!(elsewhere.metric, "also_solved/tools");
        assert_eq!(elsewhere.arms[0].values, [(1, 0.5), (2, 1.0)].into(), "seed 3 solved nothing with a tool");
        assert_eq!(elsewhere.arms[0].mean, Some(0.75));
        assert!(elsewhere.arms[1].values.is_empty());
        assert!(solutions.tables(&AblationIndex::default()).is_empty());
    }
}
