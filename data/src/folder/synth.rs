//! Dataset folders of the nano world, with the config that made them beside the samples.

use std::fs;
use std::path::Path;

use imagent_core::SampleSource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::open::Folder;
use super::write::{Summary, is_occupied, write_with};
use crate::error::DataError;
use crate::world::{WorldConfig, generate};

/// The version of the world's generator: raised when the same config and seed give other samples.
pub const GENERATOR: u32 = 1;
/// The file that holds the config.
const CONFIG: &str = "dataset.json";

/// What a synthetic dataset is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthConfig {
    /// The world.
    pub world: WorldConfig,
    /// Number of samples, at least 1. Default 1000.
    pub samples: usize,
    /// Seed of the world. Datasets with the same seed share samples: give training and evaluation different ones.
    /// Default 1.
    pub seed: u64,
    /// Ids are this, a dash and the sample's index. Letters, digits, `-`, `_` and `.`. Default `nano`.
    pub prefix: String,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self { world: WorldConfig::default(), samples: 1000, seed: 1, prefix: "nano".into() }
    }
}

impl SynthConfig {
    /// Whether every value is in range.
    ///
    /// # Errors
    /// [`DataError::Config`] names the key.
    pub fn validate(&self) -> Result<(), DataError> {
        self.world.validate().map_err(|error| match error {
            DataError::Config { key, problem } => DataError::Config { key: format!("world.{key}"), problem },
            other => other,
        })?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let (key, problem) = if self.samples == 0 {
            ("samples", "there must be at least 1".to_owned())
        } else if self.prefix.is_empty() || !self.prefix.chars().all(plain) {
            ("prefix", format!("{:?} is not of letters, digits, `-`, `_` and `.`", self.prefix))
        } else {
            return Ok(());
        };
        Err(DataError::Config { key: key.into(), problem })
    }

    fn to_json(&self) -> Value {
        serde_json::json!({
            "generator": GENERATOR,
            "world": self.world,
            "samples": self.samples,
            "seed": self.seed,
            "prefix": self.prefix,
        })
    }
}

/// Writes a synthetic dataset folder, and the config that made it as `dataset.json`.
///
/// # Errors
/// When the config is not valid, or the folder holds something else.
pub fn synth(config: &SynthConfig, out: &Path) -> Result<Summary, DataError> {
    config.validate()?;
    let samples = (0..config.samples as u64).map(|index| {
        let mut sample = generate(&config.world, config.seed, index).sample;
        sample.id = format!("{}-{index:06}", config.prefix);
        sample
    });
    write_with(out, samples, &[(CONFIG, format!("{:#}\n", config.to_json()))])
}

/// [`synth`], unless the folder holds the dataset of this very config already; then nothing is generated.
///
/// # Errors
/// When the folder holds anything else (the error names the first key that differs), or the dataset is damaged.
pub fn ensure_synth(config: &SynthConfig, out: &Path) -> Result<Summary, DataError> {
    config.validate()?;
    if !is_occupied(out)? {
        return synth(config, out);
    }
    let file = out.join(CONFIG);
    if !file.is_file() {
        return Err(DataError::Occupied { path: out.into() });
    }
    let text = fs::read_to_string(&file).map_err(DataError::io("read", &file))?;
    let found: Value = serde_json::from_str(&text).map_err(|_| DataError::Occupied { path: out.into() })?;
    // Through text, as the one found, or a fraction may differ in its last bit.
    let wanted = serde_json::from_str(&config.to_json().to_string()).unwrap_or_default();
    if let Some((key, found, wanted)) = difference("", &found, &wanted) {
        return Err(DataError::OtherDataset { path: out.into(), key, found, wanted });
    }
    let folder = Folder::open(out)?;
    if folder.len() != config.samples {
        let (found, wanted) = (folder.len().to_string(), config.samples.to_string());
        return Err(DataError::OtherDataset { path: out.into(), key: "samples".into(), found, wanted });
    }
    Ok(Summary { samples: folder.len(), images: folder.image_files(), written: false })
}

/// The first key whose values differ, dotted, with both values.
fn difference(key: &str, found: &Value, wanted: &Value) -> Option<(String, String, String)> {
    let (Value::Object(a), Value::Object(b)) = (found, wanted) else {
        return (found != wanted).then(|| (key.to_owned(), found.to_string(), wanted.to_string()));
    };
    let keys = b.keys().chain(a.keys().filter(|key| !b.contains_key(*key)));
    keys.into_iter().find_map(|name| {
        let dotted = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        difference(&dotted, a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null))
    })
}
