//! A course: the stages in which a nano base model is made from nothing, each with a gate.

use std::collections::BTreeMap;
use std::path::Path;

use imagent_core::{Limits, PromptStyle, Sampling, Tool};
use imagent_data::{Task, WorldConfig};
use imagent_models::adamw::AdamWConfig;
use imagent_models::nano::NanoConfig;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::config::{ConfigError, Document, ModelConfig, model_error};

/// What must hold at the end of a stage.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Least mean probability of the tokens that each task teaches, on held-out lessons.
    pub taught: BTreeMap<Task, f64>,
    /// Least value of metrics of sampled held-out episodes (`docs/metrics.md`).
    pub at_least: BTreeMap<String, f64>,
    /// Largest value of metrics of sampled held-out episodes.
    pub at_most: BTreeMap<String, f64>,
    /// Held-out lessons of each task.
    pub lessons: u64,
    /// Held-out episodes.
    pub episodes: u64,
}

/// One stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Updates.
    pub steps: u64,
    /// What is taught, with weights.
    pub tasks: BTreeMap<Task, f64>,
    /// The world that lessons and episodes are about.
    pub world: WorldConfig,
    /// Whether a lesson's first turn begins with a thought: where the objects asked for are. Default no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub think: bool,
    /// Peak learning rate of this stage; the schedule is that of `adamw`.
    pub learning_rate: f64,
    /// What must hold at its end.
    #[serde(default)]
    pub gate: Gate,
}

/// A course as its file gives it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// Names the run folder.
    pub name: String,
    /// Seed of weights, lessons and episodes.
    pub seed: u64,
    /// The model to start from, and what of it is trained. Without it a nano is made from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelConfig>,
    /// Sizes of a model that is made from nothing.
    #[serde(default)]
    pub nano: NanoConfig,
    /// Words that are one token.
    pub words: Vec<String>,
    /// Longer texts that are one token.
    pub phrases: Vec<String>,
    /// Optimiser; its state starts anew with each stage.
    #[serde(default)]
    pub adamw: AdamWConfig,
    /// How samples become prompts.
    #[serde(default)]
    pub prompt: PromptStyle,
    /// How far episodes may go.
    #[serde(default)]
    pub limits: Limits,
    /// How episodes are sampled.
    #[serde(default)]
    pub sampling: Sampling,
    /// The tools.
    pub tools: Vec<Box<dyn Tool>>,
    /// Lessons of an update.
    pub batch: u64,
    /// Weight of the words that label image cells, beside a weight of 1 for what is taught.
    pub label_weight: f64,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

impl Course {
    /// Reads a course with `--set` values.
    ///
    /// # Errors
    /// Names file, line and key.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        let mut document = Document::read(path)?;
        for set in sets {
            document.set(set, &Table::new())?;
        }
        let course: Self = document.decode()?;
        course.validate(&document)?;
        Ok(course)
    }

    fn validate(&self, document: &Document) -> Result<(), ConfigError> {
        let check = |holds: bool, key: &str, problem: &str| {
            if holds { Ok(()) } else { Err(document.value_error(key, problem)) }
        };
        check(self.batch > 0, "batch", "must be at least 1")?;
        check(self.label_weight >= 0.0, "label_weight", "must be at least 0")?;
        check(!self.stages.is_empty(), "stages", "there must be at least one")?;
        let refuse = |(key, problem): (String, String)| document.value_error(&key, problem);
        self.adamw.validate().map_err(|error| refuse(model_error("adamw", error)))?;
        self.model.as_ref().map_or(Ok(()), ModelConfig::check).map_err(refuse)?;
        for (i, stage) in self.stages.iter().enumerate() {
            let key = |field: &str| format!("stages.{i}.{field}");
            let weights_hold = stage.tasks.values().all(|w| w.is_finite() && *w >= 0.0);
            check(weights_hold && stage.tasks.values().sum::<f64>() > 0.0, &key("tasks"), "weights must sum above 0")?;
            let asks = stage.tasks.iter().all(|(task, weight)| task.asks() || *weight == 0.0);
            let problem = "must be off where a task asks nothing: where, corner, calls, which, sheet";
            check(!stage.think || asks, &key("think"), problem)?;
            check(stage.learning_rate > 0.0, &key("learning_rate"), "must be above 0")?;
            let world = stage.world.validate();
            world.map_err(|error| document.value_error(&key("world"), error.to_string()))?;
        }
        Ok(())
    }
}
