//! A run's settings with their defaults, and the checks that a value's type cannot make.

use std::path::Path;

use imagent_algorithms::{ActionMask, Grpo, TrainError, TrainSettings, TrajectoryMask};
use imagent_analysis::alarms::AlarmConfig;
use imagent_core::{Limits, Mask, PolicyOptimizer, PromptStyle, Reward, Sampling, Tool};
use imagent_data::formats::named;
use imagent_data::{CACHE_MIB, DataError, SynthConfig};
use imagent_models::adamw::AdamWConfig;
use imagent_models::error::ModelError;
use imagent_models::lora::LoraConfig;
use imagent_rewards::ImAgent;
use imagent_tools::{LookBack, ZoomIn};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::build::Device;
use super::endpoint::EndpointConfig;
use super::error::ConfigError;
use super::raw::Document;
use super::train::TrainConfig;

/// Everything that a run is a function of.
///
/// ```
/// let config = imagent::config::Config::parse("[train]\nsteps = 3\n", None, &["seed=7"])?;
/// assert_eq!((config.train.steps, config.seed, config.tools.len()), (3, 7, 2));
/// let error = imagent::config::Config::parse("[train]\nstepz = 3\n", None, &[]).unwrap_err();
/// assert!(error.to_string().ends_with("unknown key `train.stepz`; did you mean `steps`?"));
/// # Ok::<(), imagent::config::ConfigError>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The run's name: its folder is `runs/NAME` unless said otherwise. Letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Seed of everything that is drawn in the run. Default 1.
    pub seed: u64,
    /// The model to start from.
    pub model: ModelConfig,
    /// A served model that `eval` and `rollout` ask in place of it. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointConfig>,
    /// A served model that benchmarks ask what a reply chooses, where their protocol does and no rule decides. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<EndpointConfig>,
    /// What to train and to evaluate on.
    pub data: DataConfig,
    /// How samples become prompts.
    pub prompt: PromptStyle,
    /// How tokens are drawn in training.
    pub sampling: Sampling,
    /// How far an episode may go.
    pub limits: Limits,
    /// What the model can call. Default `zoom_in` and `look_back`.
    pub tools: Vec<Box<dyn Tool>>,
    /// What trajectories are worth. Default `imagent`.
    pub reward: Box<dyn Reward>,
    /// Which tokens the loss counts. Default `action` and `trajectory`.
    pub masks: Vec<Box<dyn Mask>>,
    /// The policy-gradient method. Default `grpo`.
    pub optimizer: Box<dyn PolicyOptimizer>,
    /// The optimiser of the weights.
    pub adamw: AdamWConfig,
    /// How long and how much.
    pub train: TrainConfig,
    /// When to speak up. Changes nothing of what is computed.
    pub alarms: AlarmConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "run".to_owned(),
            seed: 1,
            model: ModelConfig::default(),
            endpoint: None,
            judge: None,
            data: DataConfig::default(),
            prompt: PromptStyle::default(),
            sampling: Sampling::default(),
            limits: Limits::default(),
            tools: vec![Box::new(ZoomIn::default()), Box::new(LookBack::default())],
            reward: Box::new(ImAgent::default()),
            masks: vec![Box::new(ActionMask::default()), Box::new(TrajectoryMask::default())],
            optimizer: Box::new(Grpo::default()),
            adamw: AdamWConfig::default(),
            train: TrainConfig::default(),
            alarms: AlarmConfig::default(),
        }
    }
}

/// The `[model]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A checkpoint folder in Hugging Face's layout, a model of the hub (`ORG/NAME` or `ORG/NAME@REVISION`; a folder of that name
    /// comes first), or `nano` (default): the base that comes with the program.
    pub path: String,
    /// Where it runs. Default `cpu`.
    pub device: Device,
    /// Parameters that are not trained, as patterns of their hub names in which `*` stands for any letters: `visual.*`,
    /// `model.embed_tokens.*`. Default none.
    pub freeze: Vec<String>,
    /// Runs each block again in the backward pass instead of keeping what it computed: less memory, more time, the same
    /// result to the bit. Default false.
    pub gradient_checkpointing: bool,
    /// A folder with an adapter in PEFT's format, to go on with; `path` may be such a folder itself. Default none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub adapter: String,
    /// Trains a low-rank adapter; all other weights are frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            path: "nano".to_owned(),
            device: Device::Cpu,
            freeze: Vec::new(),
            gradient_checkpointing: false,
            adapter: String::new(),
            lora: None,
        }
    }
}

impl ModelConfig {
    /// The ranges; an error is a key and what is wrong with its value.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        if self.lora.is_some() && !self.freeze.is_empty() {
            let problem = "must be left out with `model.lora`, which freezes every other weight".to_owned();
            return Err(("model.freeze".to_owned(), problem));
        }
        let lora = self.lora.as_ref().map_or(Ok(()), LoraConfig::validate);
        lora.map_err(|error| model_error("model.lora", error))
    }
}

/// Largest `cache_mib`: 1 TiB.
const MOST_CACHE_MIB: usize = 1 << 20;

/// The `[data]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// What to train on.
    pub train: DatasetConfig,
    /// What is held out. Without it nothing is evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval: Option<DatasetConfig>,
}

/// A dataset, or a mixture of several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatasetConfig {
    /// The folder, or a file of a published format.
    pub path: String,
    /// The format, by its name in `imagent data formats`. Default: whichever fits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// What the names of its tables, or of their folders, begin with, such as `train`. Default: all tables, if they are of one split.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub split: String,
    /// Uses the first so many samples, of a mixture so many at even distances; 0 (default) uses all.
    pub limit: usize,
    /// Gives each gold region with the question, as a further image: a square of so many pixels of the image file around it, as a zoom would
    /// show it (samples that need no zoom are left as they are). 0 (default): none.
    #[serde(skip_serializing_if = "is_zero")]
    pub gold_crops: u32,
    /// Most MiB of decoded images kept in memory (the datasets of a mixture divide them by their weights), besides those of the step in progress; the least recently used leave first. Images
    /// of the next step are decoded ahead into it, so 0, which keeps none, also means that each step waits for its images.
    /// Default 512. Figures do not depend on it.
    pub cache_mib: usize,
    /// Makes the folder, where it does not exist, as this synthetic dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synth: Option<SynthConfig>,
    /// Datasets to mix, in place of `path`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixConfig>,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Default for DatasetConfig {
    fn default() -> Self {
        let [path, format, split] = std::array::from_fn(|_| String::new());
        Self { path, format, split, limit: 0, gold_crops: 0, cache_mib: CACHE_MIB, synth: None, mix: Vec::new() }
    }
}

/// A dataset of a mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixConfig {
    /// What the ids of its samples begin with; different ones within a mixture. Default: the last part of `path`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its share of the positions is its weight over the sum of all weights; above 0. Default 1.
    pub weight: f64,
    /// As in `[data.train]`.
    pub path: String,
    /// As in `[data.train]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// As in `[data.train]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub split: String,
    /// As in `[data.train]`.
    pub limit: usize,
    /// As in `[data.train]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synth: Option<SynthConfig>,
}

impl Default for MixConfig {
    fn default() -> Self {
        let DatasetConfig { path, format, split, limit, synth, .. } = DatasetConfig::default();
        Self { name: String::new(), weight: 1.0, path, format, split, limit, synth }
    }
}

impl DatasetConfig {
    /// The datasets that this one consists of: those that are mixed, or itself.
    pub fn parts(&self) -> Vec<DatasetConfig> {
        let total: f64 = self.mix.iter().map(|part| part.weight).sum();
        let part = |part: &MixConfig| {
            let MixConfig { path, format, split, limit, synth, .. } = part.clone();
            let gold_crops = self.gold_crops;
            let cache_mib = (self.cache_mib as f64 * part.weight / total) as usize;
            DatasetConfig { path, format, split, limit, gold_crops, cache_mib, synth, mix: Vec::new() }
        };
        if self.mix.is_empty() { vec![self.clone()] } else { self.mix.iter().map(part).collect() }
    }
}

impl Config {
    /// Reads and checks a file, with `--set` values over it.
    ///
    /// # Errors
    /// Names file, line and key.
    pub fn read(path: &Path, sets: &[impl AsRef<str>]) -> Result<Self, ConfigError> {
        Self::from_document(Document::read(path)?, sets)
    }

    /// Parses and checks a text; `file` is what errors call it.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, file: Option<&Path>, sets: &[&str]) -> Result<Self, ConfigError> {
        Self::from_document(Document::parse(text, file)?, sets)
    }

    fn from_document(mut document: Document, sets: &[impl AsRef<str>]) -> Result<Self, ConfigError> {
        let defaults: Table = toml::from_str(&Self::default().to_toml()).unwrap_or_default();
        sets.iter().try_for_each(|set| document.set(set.as_ref(), &defaults))?;
        let config: Self = document.decode()?;
        config.check().map_err(|(key, problem)| document.value_error(&key, problem))?;
        Ok(config)
    }

    /// The whole config, defaults included, as TOML that reads back as the same.
    pub fn to_toml(&self) -> String {
        // Every field is of a type that TOML has; a plug-in that is not would show in the sweep test.
        toml::to_string(self).unwrap_or_default()
    }

    /// The train loop's settings.
    pub fn settings(&self) -> TrainSettings {
        let t = &self.train;
        TrainSettings {
            steps: t.steps,
            prompts_per_step: t.prompts_per_step,
            group_size: t.group_size,
            minibatches: t.minibatches,
            epochs: t.epochs,
            drop_flat_groups: t.drop_flat_groups,
            refill_rounds: t.refill_rounds,
            importance_cap: t.importance_cap,
            seed: self.seed,
            sampling: self.sampling.clone(),
            limits: self.limits.clone(),
            prompt: self.prompt.clone(),
        }
    }

    /// The ranges; an error is a key and what is wrong with its value.
    fn check(&self) -> Result<(), (String, String)> {
        check_name(&self.name)?;
        self.settings().validate().map_err(setting_error)?;
        self.model.check()?;
        for (table, endpoint) in [("endpoint", &self.endpoint), ("judge", &self.judge)] {
            let checked = endpoint.as_ref().map_or(Ok(()), EndpointConfig::validate);
            checked.map_err(|(field, problem)| (format!("{table}.{field}"), problem))?;
        }
        self.adamw.validate().map_err(|error| model_error("adamw", error))?;
        let wrong = |key: &str, problem: String| Err((format!("train.{key}"), problem));
        if let Err((field, problem)) = self.train.eval_sampling.validate() {
            return wrong(&format!("eval_sampling.{field}"), problem);
        }
        if self.train.max_rows == 0 {
            return wrong("max_rows", "must be at least 1, got 0".to_owned());
        }
        self.alarms.validate().map_err(|(key, problem)| (format!("alarms.{key}"), problem))?;
        check_dataset("data.train", Some(&self.data.train))?;
        check_dataset("data.eval", self.data.eval.as_ref())
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), (String, String)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let problem = format!("must be of letters, digits, `-`, `_` and `.`, and not start with `.`, got {name:?}");
        return Err(("name".to_owned(), problem));
    }
    Ok(())
}

pub(crate) fn check_dataset(key: &str, dataset: Option<&DatasetConfig>) -> Result<(), (String, String)> {
    let Some(dataset) = dataset else { return Ok(()) };
    if dataset.cache_mib > MOST_CACHE_MIB {
        let problem = format!("must be at most {MOST_CACHE_MIB}, got {}", dataset.cache_mib);
        return Err((format!("{key}.cache_mib"), problem));
    }
    for part in &dataset.mix {
        if !(part.weight.is_finite() && part.weight > 0.0) {
            return Err((format!("{key}.mix.weight"), format!("must be above 0, got {}", part.weight)));
        }
        if part.path.is_empty() {
            return Err((format!("{key}.mix.path"), "is not set: name a dataset".to_owned()));
        }
    }
    if !dataset.mix.is_empty() {
        let DatasetConfig { limit, cache_mib, mix, .. } = dataset.clone();
        if *dataset != (DatasetConfig { limit, cache_mib, mix, ..DatasetConfig::default() }) {
            return Err((format!("{key}.mix"), "stands in place of path, format, split and synth".to_owned()));
        }
    }
    let key = if dataset.mix.is_empty() { key.to_owned() } else { format!("{key}.mix") };
    dataset.parts().iter().try_for_each(|part| check_part(&key, part))
}

fn check_part(key: &str, dataset: &DatasetConfig) -> Result<(), (String, String)> {
    let told = |error: DataError, outer: &str| match error {
        DataError::Config { key: inner, problem } => (format!("{outer}.{inner}"), problem),
        other => (outer.to_owned(), other.to_string()),
    };
    if !dataset.format.is_empty() {
        named(&dataset.format).map_err(|error| told(error, key))?;
    }
    dataset.synth.as_ref().map_or(Ok(()), SynthConfig::validate).map_err(|error| told(error, &format!("{key}.synth")))
}

fn setting_error(error: TrainError) -> (String, String) {
    match error {
        TrainError::Setting { key, expected, got } => {
            let outside = ["limits.", "sampling."].iter().any(|table| key.starts_with(table));
            let key = if outside { key.to_owned() } else { format!("train.{key}") };
            (key, format!("must be {expected}, got {got}"))
        }
        other => ("train".to_owned(), other.to_string()),
    }
}

/// A refused setting of the table `table`.
pub(crate) fn model_error(table: &str, error: ModelError) -> (String, String) {
    match error {
        ModelError::Config { field, expected, got, .. } => {
            (format!("{table}.{field}"), format!("must be {expected}, got {got}"))
        }
        other => (table.to_owned(), other.to_string()),
    }
}
