//! The file of an ablation: which config to start from, what the arms change, which seeds.

use std::path::{Path, PathBuf};

use imagent_algorithms::METRICS;
use serde::Deserialize;
use toml::{Table, Value};

use crate::config::{Config, ConfigError, Document, closest};

/// Folders of an ablation that are no arm's.
const RESERVED: [&str; 1] = ["figures"];

/// An ablation as read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct AblationConfig {
    /// The file's name without its end: the folder is `runs/NAME` unless said otherwise.
    pub name: String,
    /// The config that the arms change.
    pub base: PathBuf,
    /// The arms, in order.
    pub arms: Vec<ArmConfig>,
    /// The seeds, in order.
    pub seeds: Vec<u64>,
    /// The metrics to compare; empty: the chief ones.
    pub metrics: Vec<String>,
    /// The arm that the others are compared with.
    pub baseline: String,
}

/// An arm.
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawArm {
    name: String,
    set: Table,
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
        let arms: Vec<ArmConfig> =
            raw.arms.into_iter().map(|arm| ArmConfig { name: arm.name, changes: changes(&arm.set) }).collect();
        let first = arms.first().map(|arm| arm.name.clone()).unwrap_or_default();
        let baseline = raw.baseline.unwrap_or(first);
        let config = Self { name, base, arms, seeds: raw.seeds, metrics: raw.metrics, baseline };
        Config::read(&config.base, sets).map_err(|error| match error {
            ConfigError::Io { .. } => document.value_error("base", error.to_string()),
            error => error,
        })?;
        for (i, arm) in config.arms.iter().enumerate() {
            let key = ["arms".to_owned(), i.to_string(), "set".to_owned()];
            config.run_config(arm, 1, sets).map_err(|source| ConfigError::Arm {
                place: document.place(&key),
                arm: arm.name.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(config)
    }

    /// What `imagent train` is given for a run, after the base: the sets of all arms, the arm's changes, the seed. `{seed}` within
    /// a change stands for the seed.
    pub fn sets(&self, arm: &ArmConfig, seed: u64, sets: &[String]) -> Vec<String> {
        let changes = sets.iter().chain(&arm.changes).map(|change| change.replace("{seed}", &seed.to_string()));
        changes.chain([format!("seed={seed}")]).collect()
    }

    /// The config of a run.
    ///
    /// # Errors
    /// Names the change that is refused.
    pub fn run_config(&self, arm: &ArmConfig, seed: u64, sets: &[String]) -> Result<Config, ConfigError> {
        Config::read(&self.base, &self.sets(arm, seed, sets))
    }
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
    for (i, arm) in raw.arms.iter().enumerate() {
        check_arm(arm).map_err(|(key, problem)| (format!("arms.{i}.{key}"), problem))?;
    }
    let names: Vec<String> = raw.arms.iter().map(|arm| arm.name.clone()).collect();
    // Case does not tell folders apart everywhere.
    if let Some((i, _)) = repeated(&names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>()) {
        return Err((format!("arms.{i}.name"), format!("an arm called `{}` is there already", names[i])));
    }
    if let Some(baseline) = raw.baseline.as_ref().filter(|baseline| !names.contains(baseline)) {
        return Err(("baseline".into(), format!("no arm is called `{baseline}`{}", hint(baseline, &names))));
    }
    raw.metrics.iter().enumerate().try_for_each(|(i, name)| check_metric(i, name))
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

fn check_metric(i: usize, name: &str) -> Result<(), (String, String)> {
    let (prefix, plain) = match name.strip_prefix("eval/") {
        Some(plain) => ("eval/", plain),
        None => ("", name),
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
        let config = AblationConfig { name: "x".into(), base, arms, seeds: vec![3], metrics, baseline: "a".into() };
        let sets = config.sets(&arm, 3, &["name=\"n-{seed}\"".to_owned()]);
        assert_eq!(sets, ["name=\"n-3\"", "model.path=\"sft/seed-3/model\"", "seed=3"]);
    }

    #[test]
    fn metrics_are_those_of_the_list() {
        for name in
            ["accuracy", "eval/accuracy", "accuracy/read", "eval/end/answered", "part/tool_gain", "update/entropy"]
        {
            assert_eq!(check_metric(0, name), Ok(()), "{name}");
        }
        for name in ["acuracy", "eval/update/entropy", "seconds/update", "accuracy/", "eval/", "accuracy/a/b"] {
            assert!(check_metric(0, name).is_err(), "{name}");
        }
        assert!(check_metric(2, "eval/acuracy").unwrap_err().1.contains("did you mean `eval/accuracy`?"));
    }
}
