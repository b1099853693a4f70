//! The settings of a fine-tuning on conversations, their defaults and ranges.

use std::path::Path;

use imagent_core::{BoxFrame, PromptStyle, Tool};
use imagent_data::annotate::Wording;
use imagent_models::adamw::AdamWConfig;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, DataConfig, Document, ModelConfig, check_dataset, check_name, model_error};

/// Everything that a fine-tuning is a function of.
///
/// ```
/// let config = imagent::sft::SftConfig::parse("[sft]\nbatch = 8\n", None, &["seed=7"])?;
/// assert_eq!((config.sft.batch, config.seed, config.sft.epochs), (8, 7, 1));
/// # Ok::<(), imagent::config::ConfigError>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SftConfig {
    /// The run's name: its folder is `runs/NAME` unless said otherwise. Letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Seed of the order of samples, of the choice of words and of what dropout drops. Default 1.
    pub seed: u64,
    /// The model to start from, and what of it is trained.
    pub model: ModelConfig,
    /// What to train on, and what is held out for validation.
    pub data: DataConfig,
    /// Asks the question of a sample as reinforcement learning would with this style. Without it the turn of a
    /// conversation that asks it is taken as it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptStyle>,
    /// Makes trajectories of annotated samples. Without it the samples' own conversations are trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trajectories: Option<TrajectoryConfig>,
    /// Tools that the prompt tells of. Default none.
    pub tools: Vec<Box<dyn Tool>>,
    /// The optimiser of the weights; a `total_steps` of 0 stands for the steps of the run.
    pub adamw: AdamWConfig,
    /// How long and how much.
    pub sft: SftSettings,
}

/// The `[trajectories]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrajectoryConfig {
    /// The wording: `plain` (default), `short`, `boxes`, or a JSON file.
    pub wording: String,
    /// Frame of the boxes; default `shown`, Qwen2.5-VL's own.
    pub frame: BoxFrame,
}

impl Default for TrajectoryConfig {
    fn default() -> Self {
        Self { wording: "plain".to_owned(), frame: BoxFrame::Shown }
    }
}

impl TrajectoryConfig {
    /// The wording by its name, or from its file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(&self) -> Result<Wording, String> {
        open_wording(&self.wording)
    }
}

/// A wording by its name, or from its file.
///
/// # Errors
/// What is wrong with it.
pub fn open_wording(name: &str) -> Result<Wording, String> {
    if let Some(own) = Wording::named(name) {
        return Ok(own);
    }
    let text = std::fs::read_to_string(name)
        .map_err(|error| format!("`plain`, `short`, `boxes` or a file: {name}: {error}"))?;
    Wording::parse(&text).map_err(|problem| format!("{name}: {problem}"))
}

/// The `[sft]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SftSettings {
    /// How often each sample is trained on, at least 1. Default 1.
    pub epochs: usize,
    /// Conversations of an update, at least 1. Default 32.
    pub batch: usize,
    /// Conversations of more tokens than this, images included, are left out and counted. Default 16384.
    pub max_tokens: usize,
    /// Validates and keeps a checkpoint after so many updates; 0 only at the end. Default 100.
    pub eval_every: usize,
    /// Ends the run after so many validations in a row without a better loss; 0 (default) never.
    pub patience: usize,
    /// By how much a loss has to fall below the best one to be better, in nats a token; not negative. Default 0.
    pub min_delta: f64,
    /// Most rows of one packed pass; larger batches run in several, with the same result. Default 16384.
    pub max_rows: usize,
}

impl Default for SftSettings {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch: 32,
            max_tokens: 16_384,
            eval_every: 100,
            patience: 0,
            min_delta: 0.0,
            max_rows: 16_384,
        }
    }
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            name: "sft".to_owned(),
            seed: 1,
            model: ModelConfig::default(),
            data: DataConfig::default(),
            prompt: None,
            trajectories: None,
            tools: Vec::new(),
            adamw: AdamWConfig { learning_rate: 1e-5, ..AdamWConfig::default() },
            sft: SftSettings::default(),
        }
    }
}

impl SftConfig {
    /// Reads and checks a file, with `--set` values over it.
    ///
    /// # Errors
    /// Names file, line and key.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        Self::from_document(Document::read(path)?, &sets)
    }

    /// Parses and checks a text; `file` is what errors call it.
    ///
    /// # Errors
    /// As [`SftConfig::read`].
    pub fn parse(text: &str, file: Option<&Path>, sets: &[&str]) -> Result<Self, ConfigError> {
        Self::from_document(Document::parse(text, file)?, sets)
    }

    fn from_document(mut document: Document, sets: &[&str]) -> Result<Self, ConfigError> {
        let defaults = toml::from_str(&Self::default().to_toml()).unwrap_or_default();
        sets.iter().try_for_each(|set| document.set(set, &defaults))?;
        let config: Self = document.decode()?;
        config.check().map_err(|(key, problem)| document.value_error(&key, problem))?;
        Ok(config)
    }

    /// The whole config, defaults included, as TOML that reads back as the same.
    pub fn to_toml(&self) -> String {
        // Every field is of a type that TOML has.
        toml::to_string(self).unwrap_or_default()
    }

    /// The optimiser's settings for a run of this many updates.
    pub fn adamw(&self, steps: usize) -> AdamWConfig {
        let total_steps = if self.adamw.total_steps == 0 { steps as u64 } else { self.adamw.total_steps };
        AdamWConfig { total_steps, ..self.adamw.clone() }
    }

    fn check(&self) -> Result<(), (String, String)> {
        check_name(&self.name)?;
        self.model.check()?;
        // How many updates there will be is not known before the samples are.
        self.adamw(usize::MAX).validate().map_err(|error| model_error("adamw", error))?;
        let s = &self.sft;
        let counts = [("epochs", s.epochs), ("batch", s.batch), ("max_tokens", s.max_tokens), ("max_rows", s.max_rows)];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err((format!("sft.{key}"), "must be at least 1, got 0".to_owned()));
        }
        if !(s.min_delta.is_finite() && s.min_delta >= 0.0) {
            return Err(("sft.min_delta".to_owned(), format!("must be finite and not negative, got {}", s.min_delta)));
        }
        if s.patience > 0 && self.data.eval.is_none() {
            return Err(("sft.patience".to_owned(), "needs held-out samples, `[data.eval]`".to_owned()));
        }
        if let Some(trajectories) = &self.trajectories {
            trajectories.open().map_err(|problem| ("trajectories.wording".to_owned(), problem))?;
        }
        check_dataset("data.train", Some(&self.data.train))?;
        check_dataset("data.eval", self.data.eval.as_ref())
    }
}
