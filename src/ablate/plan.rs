//! The runs of an ablation: where each lies, what it consists of, and how far it is.

use std::fs;
use std::path::{Path, PathBuf};

use imagent_analysis::ablation::{AblationIndex, ArmIndex, eval_folder, is_finished, last_step, run_folder};
use imagent_data::{SynthConfig, ensure_synth};
use toml::Table;

use super::config::ArmConfig;
use super::{AblationConfig, PlannedEval};
use crate::config::{Config, DatasetConfig};
use crate::error::{ChangedArm, Error};
use crate::hub::{self, Need};
use crate::run::folder::difference;

/// Keys that a run may have otherwise: they say what to call it and when to speak up.
const FREE: [&str; 2] = ["name", "alarms"];

/// All runs of an ablation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The ablation's folder.
    pub dir: PathBuf,
    /// What it consists of.
    pub index: AblationIndex,
    /// The runs: all seeds of the first arm, then of the next.
    pub runs: Vec<PlannedRun>,
}

/// A run of an arm with a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    /// The arm.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// The config that it starts from.
    pub base: PathBuf,
    /// What is changed in it, as `KEY=VALUE`.
    pub sets: Vec<String>,
    /// Its folder.
    pub dir: PathBuf,
    /// The resolved config.
    pub config: String,
    /// Steps of the whole run.
    pub steps: usize,
    /// Further evaluations of its last checkpoint.
    pub evals: Vec<PlannedEval>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is there.
    New,
    /// It was cut off after so many steps.
    Cut(usize),
    /// It is trained; a further evaluation is missing.
    Trained,
    /// It is whole.
    Done,
}

impl PlannedRun {
    /// What is found in its folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn state(&self) -> Result<State, Error> {
        if is_finished(&self.dir)? {
            return Ok(if self.next_eval()?.is_some() { State::Trained } else { State::Done });
        }
        let there = self.dir.join("config.toml").is_file();
        Ok(if there { State::Cut(last_step(&self.dir.join("metrics.jsonl"))?) } else { State::New })
    }

    /// The first of its evaluations that is missing.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn next_eval(&self) -> Result<Option<&PlannedEval>, Error> {
        for eval in &self.evals {
            if !eval.is_done()? {
                return Ok(Some(eval));
            }
        }
        Ok(None)
    }

    /// Its last checkpoint; none of a run without steps, which is evaluated as it starts.
    pub fn checkpoint(&self) -> Option<PathBuf> {
        let name = format!("step-{:06}", self.steps);
        (self.steps > 0).then(|| self.dir.join("checkpoints").join(name))
    }

    /// `ARM/seed-N`.
    pub fn name(&self) -> String {
        format!("{}/seed-{}", self.arm, self.seed)
    }

    fn check(&self) -> Result<(), Error> {
        let path = self.dir.join("config.toml");
        let found = match fs::read_to_string(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let read = |text: &str| toml::from_str::<Table>(text).unwrap_or_default();
        let Some((key, found, wanted)) = difference("", &read(&found), &read(&self.config), &FREE) else {
            return Ok(());
        };
        let (arm, seed, path) = (self.arm.clone(), self.seed, self.dir.clone());
        Err(Box::new(ChangedArm { arm, seed, path, key, found, wanted }).into())
    }
}

impl Plan {
    /// The runs of an ablation in `dir`. Nothing is written.
    ///
    /// # Errors
    /// When the folder holds something else, or a run of an arm as it is not now: names arm and key.
    pub fn new(ablation: &AblationConfig, sets: &[String], dir: &Path) -> Result<Self, Error> {
        check_folder(dir)?;
        let mut runs = Vec::new();
        for arm in &ablation.arms {
            for &seed in &ablation.seeds {
                let config = ablation.run_config(arm, seed, sets)?;
                let run = PlannedRun {
                    arm: arm.name.clone(),
                    seed,
                    base: ablation.base.clone(),
                    sets: ablation.sets(arm, seed, sets),
                    dir: run_folder(dir, &arm.name, seed),
                    steps: config.train.steps,
                    config: config.to_toml(),
                    evals: evals(ablation, arm, seed, sets, dir)?,
                };
                run.check()?;
                runs.push(run);
            }
        }
        let arm = |arm: &ArmConfig| ArmIndex { name: arm.name.clone(), changes: arm.changes.clone() };
        let index = AblationIndex {
            name: ablation.name.clone(),
            arms: ablation.arms.iter().map(arm).collect(),
            evals: ablation.evals.iter().map(arm).collect(),
            solved: ablation.solved.clone(),
            seeds: ablation.seeds.clone(),
            baseline: ablation.baseline.clone(),
            metrics: ablation.metrics.clone(),
        };
        Ok(Self { dir: dir.to_owned(), index, runs })
    }

    /// Makes what all runs share before any starts, as runs at the same time would make it twice: synthetic datasets, and models of
    /// the hub. Writes the index.
    ///
    /// # Errors
    /// When one cannot be made, or the folder cannot be written.
    pub fn prepare(&self) -> Result<(), Error> {
        let mut made: Vec<(String, SynthConfig)> = Vec::new();
        let mut models: Vec<String> = Vec::new();
        for run in &self.runs {
            let config = Config::parse(&run.config, None, &[])?;
            let mut datasets: Vec<DatasetConfig> =
                [Some(config.data.train), config.data.eval].into_iter().flatten().collect();
            for eval in &run.evals {
                datasets.extend(Config::parse(&eval.config, None, &[])?.data.eval);
            }
            for DatasetConfig { path, synth, .. } in datasets.iter().flat_map(DatasetConfig::parts) {
                let Some(synth) = synth.filter(|synth| !made.iter().any(|(p, s)| *p == path && s == synth)) else {
                    continue;
                };
                ensure_synth(&synth, Path::new(&path))?;
                made.push((path, synth));
            }
            let model = config.model.path;
            if model != "nano" && !models.contains(&model) {
                hub::locate(&model, Need::Everything)?;
                models.push(model);
            }
        }
        Ok(self.index.write(&self.dir)?)
    }
}

/// The further evaluations of a run.
fn evals(
    ablation: &AblationConfig,
    arm: &ArmConfig,
    seed: u64,
    sets: &[String],
    dir: &Path,
) -> Result<Vec<PlannedEval>, Error> {
    let planned = |eval: &ArmConfig| {
        Ok(PlannedEval {
            name: eval.name.clone(),
            sets: ablation.eval_sets(arm, eval, seed, sets),
            dir: eval_folder(&run_folder(dir, &arm.name, seed), &eval.name),
            config: ablation.eval_config(arm, eval, seed, sets)?.to_toml(),
        })
    };
    ablation.evals.iter().map(planned).collect()
}

/// The folder is absent, empty, or that of an ablation.
fn check_folder(dir: &Path) -> Result<(), Error> {
    let occupied = |what| Err(Error::Occupied { path: dir.to_owned(), what });
    if dir.exists() && !dir.is_dir() {
        return occupied("a file");
    }
    let empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(source) => return Err(Error::Io { path: dir.to_owned(), source }),
    };
    match (empty, dir.join(imagent_analysis::ablation::INDEX).is_file()) {
        (true, _) | (_, true) => Ok(()),
        _ if dir.join("config.toml").is_file() => occupied("a run"),
        _ => occupied("other files"),
    }
}
