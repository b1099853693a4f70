//! The file of an ablation: which config to start from, what the arms change, which seeds.

use std::path::{Path, PathBuf};

use imagent_algorithms::METRICS;
use imagent_analysis::ablation::SolvedIndex;
use serde::Deserialize;
use toml::{Table, Value};

use crate::config::{Config, ConfigError, Document, closest};

/// What lies beside the arms in the folder of an ablation.
const RESERVED: [&str; 6] = ["figures", "ablation.json", "report.html", "table.csv", "table.json", "table.md"];

/// An ablation as read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct AblationConfig {
    /// The file's name without its end: the folder is `runs/NAME` unless said otherwise.
    pub name: String,
    /// The config that the arms change.
    pub base: PathBuf,
    /// The arms, in order.
    pub arms: Vec<ArmConfig>,
    /// Further evaluations of every run's last checkpoint.
    pub evals: Vec<ArmConfig>,
    /// Which solved questions are looked for elsewhere.
    pub solved: SolvedIndex,
    /// The seeds, in order.
    pub seeds: Vec<u64>,
    /// The metrics to compare; empty: the chief ones.
    pub metrics: Vec<String>,
    /// The arm that the others are compared with.
    pub baseline: String,
}

/// An arm, or a further evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmConfig {
    /// Its name, and that of its folder.
    pub name: String,
    /// What it changes, as `KEY=VALUE`.
    pub changes: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    base: String,
    seeds: Vec<u64>,
    metrics: Vec<String>,
    baseline: Option<String>,
    arms: Vec<RawArm>,
    evals: Vec<RawArm>,
    solved: SolvedIndex,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawArm {
    name: String,
    set: Table,
}

impl From<RawArm> for ArmConfig {
    fn from(raw: RawArm) -> Self {
        Self { name: raw.name, changes: changes(&raw.set) }
    }
}

impl AblationConfig {
    /// Reads and checks a file, the config that it names, and every arm's changes to it; `sets` change the base for all arms.
    ///
    /// # Errors
    /// Names file, line and key.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        let document = Document::read(path)?;
        let raw: Raw = document.decode()?;
        let wrong = |(key, problem): (String, String)| document.value_error(&key, problem);
        check(&raw).map_err(wrong)?;
        let base = path.parent().unwrap_or(Path::new("")).join(&raw.base);
        let name = path.file_stem().map_or_else(|| "ablation".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let arms: Vec<ArmConfig> = raw.arms.into_iter().map(ArmConfig::from).collect();
        let evals: Vec<ArmConfig> = raw.evals.into_iter().map(ArmConfig::from).collect();
        let first = arms.first().map(|arm| arm.name.clone()).unwrap_or_default();
        let baseline = raw.baseline.unwrap_or(first);
        let (seeds, metrics, solved) = (raw.seeds, raw.metrics, raw.solved);
        let config = Self { name, base, arms, evals, solved, seeds, metrics, baseline };
        Config::read(&config.base, sets).map_err(|error| match error {
            ConfigError::Io { .. } => document.value_error("base", error.to_string()),
            error => error,
        })?;
        let refused = |list: &str, i: usize, name: String, source| {
            let place = document.place(&[list.to_owned(), i.to_string(), "set".to_owned()]);
            ConfigError::Arm { place, arm: name, source: Box::new(source) }
        };
        for (i, arm) in config.arms.iter().enumerate() {
            config.run_config(arm, 1, sets).map_err(|source| refused("arms", i, arm.name.clone(), source))?;
        }
        for (i, eval) in config.evals.iter().enumerate() {
            for arm in &config.arms {
                let name = || format!("{}/{}", arm.name, eval.name);
                config.eval_config(arm, eval, 1, sets).map_err(|source| refused("evals", i, name(), source))?;
            }
        }
        Ok(config)
    }

    /// What `imagent eval` is given for a further evaluation, after the base: as [`AblationConfig::sets`], the evaluation's changes
    /// before the seed.
    pub fn eval_sets(&self, arm: &ArmConfig, eval: &ArmConfig, seed: u64, sets: &[String]) -> Vec<String> {
        seeded(sets.iter().chain(&arm.changes).chain(&eval.changes), seed)
    }

    /// The config of a further evaluation.
    ///
    /// # Errors
    /// Names the change that is refused.
    pub fn eval_config(
        &self,
        arm: &ArmConfig,
        eval: &ArmConfig,
        seed: u64,
        sets: &[String],
    ) -> Result<Config, ConfigError> {
        Config::read(&self.base, &self.eval_sets(arm, eval, seed, sets))
    }

    /// What `imagent train` is given for a run, after the base: the sets of all arms, the arm's changes, the seed. `{seed}` within
    /// a change stands for the seed.
    pub fn sets(&self, arm: &ArmConfig, seed: u64, sets: &[String]) -> Vec<String> {
        seeded(sets.iter().chain(&arm.changes), seed)
    }

    /// The config of a run.
    ///
    /// # Errors
    /// Names the change that is refused.
    pub fn run_config(&self, arm: &ArmConfig, seed: u64, sets: &[String]) -> Result<Config, ConfigError> {
        Config::read(&self.base, &self.sets(arm, seed, sets))
    }
}

/// Changes with the seed in its places, and the seed itself.
fn seeded<'a>(changes: impl Iterator<Item = &'a String>, seed: u64) -> Vec<String> {
    let own = changes.map(|change| change.replace("{seed}", &seed.to_string()));
    own.chain([format!("seed={seed}")]).collect()
}

fn check(raw: &Raw) -> Result<(), (String, String)> {
    let wrong = |key: String, problem: &str| Err((key, problem.to_owned()));
    if raw.base.is_empty() {
        return wrong("base".into(), "must name a config, relative to this file");
    }
    if raw.seeds.is_empty() {
        return wrong("seeds".into(), "must list at least one seed: `seeds = [1, 2, 3, 4, 5]`");
    }
    if let Some((i, seed)) = repeated(&raw.seeds) {
        return Err((format!("seeds.{i}"), format!("seed {seed} is there twice")));
    }
    if raw.arms.is_empty() {
        return wrong("arms".into(), "must have at least one `[[arms]]`");
    }
    let names = check_list("arms", "an arm", &raw.arms)?;
    let evals = check_list("evals", "an evaluation", &raw.evals)?;
    for (i, name) in evals.iter().enumerate() {
        if name == "eval" || METRICS.iter().any(|metric| metric.name.split('/').next() == Some(name)) {
            return Err((
                format!("evals.{i}.name"),
                format!("figures would be called `{name}/...`, as others are already"),
            ));
        }
    }
    for (key, places) in [("of", &raw.solved.of), ("also", &raw.solved.also)] {
        check_places(key, places, &names, &evals)?;
    }
    if raw.solved.of.is_empty() != raw.solved.also.is_empty() {
        return wrong("solved".into(), "must have both `of` and `also`, or neither");
    }
    if let Some(baseline) = raw.baseline.as_ref().filter(|baseline| !names.contains(baseline)) {
        return Err(("baseline".into(), format!("no arm is called `{baseline}`{}", hint(baseline, &names))));
    }
    raw.metrics.iter().enumerate().try_for_each(|(i, name)| check_metric(i, name, &evals))
}

/// The names of a list of arms or evaluations.
fn check_list(list: &str, what: &str, entries: &[RawArm]) -> Result<Vec<String>, (String, String)> {
    for (i, entry) in entries.iter().enumerate() {
        check_arm(entry).map_err(|(key, problem)| (format!("{list}.{i}.{key}"), problem))?;
    }
    let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    // Case does not tell folders apart everywhere.
    if let Some((i, _)) = repeated(&names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>()) {
        return Err((format!("{list}.{i}.name"), format!("{what} called `{}` is there already", names[i])));
    }
    Ok(names)
}

/// Each place is an arm, or `ARM/EVAL`.
fn check_places(key: &str, places: &[String], arms: &[String], evals: &[String]) -> Result<(), (String, String)> {
    for (i, place) in places.iter().enumerate() {
        let (arm, eval) = place.split_once('/').map_or((place.as_str(), None), |(arm, eval)| (arm, Some(eval)));
        let key = format!("solved.{key}.{i}");
        if !arms.iter().any(|known| known == arm) {
            return Err((key, format!("no arm is called `{arm}`{}", hint(arm, arms))));
        }
        if let Some(eval) = eval.filter(|eval| !evals.iter().any(|known| known == eval)) {
            return Err((key, format!("no evaluation is called `{eval}`{}", hint(eval, evals))));
        }
    }
    Ok(())
}

fn check_arm(arm: &RawArm) -> Result<(), (String, String)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = &arm.name;
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) || RESERVED.contains(&name.as_str()) {
        let reserved = RESERVED.join(", ");
        let problem = format!(
            "must be of letters, digits, `-`, `_` and `.`, not start with `.`, and not be {reserved}, got {name:?}"
        );
        return Err(("name".to_owned(), problem));
    }
    if arm.set.contains_key("seed") {
        return Err(("set.seed".to_owned(), "seeds are those of `seeds`, the same for every arm".to_owned()));
    }
    Ok(())
}

fn repeated<T: PartialEq>(values: &[T]) -> Option<(usize, &T)> {
    values.iter().enumerate().find(|(i, value)| values[..*i].contains(value))
}

fn check_metric(i: usize, name: &str, evals: &[String]) -> Result<(), (String, String)> {
    let is_held_out = |first: &str| first == "eval" || evals.iter().any(|eval| eval == first);
    let (prefix, plain) = match name.split_once('/') {
        Some((first, plain)) if is_held_out(first) => (format!("{first}/"), plain),
        _ => (String::new(), name),
    };
    let known = METRICS.iter().map(|metric| metric.name).filter(|known| !known.starts_with("seconds/"));
    let known: Vec<&str> = known.filter(|known| prefix.is_empty() || !known.starts_with("update/")).collect();
    if known.iter().any(|known| fits(known, plain)) {
        return Ok(());
    }
    let known: Vec<String> = known.iter().map(|known| format!("{prefix}{known}")).collect();
    let problem = format!("no metric is called `{name}`{}; docs/metrics.md lists them", hint(name, &known));
    Err((format!("metrics.{i}"), problem))
}

/// Whether a name is that of a metric; a part in capitals stands for any.
fn fits(known: &str, name: &str) -> bool {
    let is_any = |part: &str| part.chars().all(|c| c.is_ascii_uppercase());
    let (known, name): (Vec<&str>, Vec<&str>) = (known.split('/').collect(), name.split('/').collect());
    known.len() == name.len() && known.iter().zip(&name).all(|(k, n)| k == n || (is_any(k) && !n.is_empty()))
}

fn hint(name: &str, known: &[String]) -> String {
    closest(name, known).map(|closest| format!("; did you mean `{closest}`?")).unwrap_or_default()
}

/// The leaves of a table of changes as `KEY=VALUE`, a `type` before the fields of its plug-in.
fn changes(set: &Table) -> Vec<String> {
    let mut found = Vec::new();
    flatten("", set, &mut found);
    let order =
        |key: &str| -> Vec<(bool, String)> { key.split('.').map(|part| (part != "type", part.to_owned())).collect() };
    found.sort_by_cached_key(|(key, _)| order(key));
    found.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

fn flatten(prefix: &str, table: &Table, found: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(&key, inner, found),
            value => found.push((key, value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn changes_are_what_set_takes() {
        let table: Table = toml::from_str(
            "\"reward.tool_gain\" = 0.5\ntools = [{ type = \"zoom_in\" }]\nreward.type = \"imagent\"\n\
             optimizer = { clip_low = 0.1, type = \"grpo\" }\nmodel.path = \"nano\"\nmasks = []",
        )
        .unwrap();
        let expected = [
            "masks=[]",
            "model.path=\"nano\"",
            "optimizer.type=\"grpo\"",
            "optimizer.clip_low=0.1",
            "reward.type=\"imagent\"",
            "reward.tool_gain=0.5",
            "tools=[{ type = \"zoom_in\" }]",
        ];
        assert_eq!(changes(&table), expected);
        changes(&table).iter().for_each(|text| drop(crate::config::Override::parse(text).unwrap()));
    }

    #[test]
    fn changes_can_name_the_seed() {
        let arm = ArmConfig { name: "a".into(), changes: vec!["model.path=\"sft/seed-{seed}/model\"".into()] };
        let (base, arms, metrics) = (PathBuf::new(), vec![arm.clone()], Vec::new());
        let (name, baseline) = ("x".into(), "a".into());
        let (evals, solved) = Default::default();
        let config = AblationConfig { name, base, arms, seeds: vec![3], metrics, baseline, evals, solved };
        let sets = config.sets(&arm, 3, &["name=\"n-{seed}\"".to_owned()]);
        assert_eq!(sets, ["name=\"n-3\"", "model.path=\"sft/seed-3/model\"", "seed=3"]);
    }

    #[test]
    fn metrics_are_those_of_the_list() {
        for name in
            ["accuracy", "eval/accuracy", "accuracy/read", "eval/end/answered", "part/tool_gain", "update/entropy"]
        {
            assert_eq!(check_metric(0, name, &[]), Ok(()), "{name}");
        }
        for name in ["acuracy", "eval/update/entropy", "seconds/update", "accuracy/", "eval/", "accuracy/a/b"] {
            assert!(check_metric(0, name, &[]).is_err(), "{name}");
        }
        let evals = ["six".to_owned()];
        assert_eq!(check_metric(0, "six/accuracy/read", &evals), Ok(()));
        assert!(check_metric(0, "six/update/entropy", &evals).is_err(), "an evaluation trains nothing");
        assert!(check_metric(0, "six/acuracy", &evals).unwrap_err().1.contains("did you mean `six/accuracy`?"));
        assert!(check_metric(2, "eval/acuracy", &[]).unwrap_err().1.contains("did you mean `eval/accuracy`?"));
    }
}
