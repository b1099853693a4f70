//! Random checkpoints by name: the published sizes, the nano base as its course starts it, and a tiny one for tests.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use imagent_models::checkpoint::{CheckpointWriter, SHARD_SIZE};
use imagent_models::config::{Config, Dtype};
use imagent_models::error::ModelError;
use imagent_models::nano::{self, NanoConfig};
use imagent_models::published::{self, Size};

use serde::Deserialize;

use crate::config::{ConfigError, Place};
use crate::error::Error;

/// The course that makes the nano base; its words are those of the small presets.
const COURSE: &str = include_str!("../configs/nano-base.toml");

/// A named size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Some 0.1 million parameters, for tests.
    Tiny,
    /// The nano base before its first lesson.
    Nano,
    /// A published size.
    Published(Size),
}

/// All presets with their names.
pub const PRESETS: [(&str, Preset); 6] = [
    ("tiny", Preset::Tiny),
    ("nano", Preset::Nano),
    ("3b", Preset::Published(Size::B3)),
    ("7b", Preset::Published(Size::B7)),
    ("32b", Preset::Published(Size::B32)),
    ("72b", Preset::Published(Size::B72)),
];

impl FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = PRESETS.iter().find(|(known, _)| *known == name);
        let known = PRESETS.map(|(known, _)| known).join(", ");
        found.map(|(_, preset)| *preset).ok_or_else(|| format!("known are {known}"))
    }
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Random {
    /// The size.
    pub preset: Preset,
    /// Seed of the weights.
    pub seed: u64,
    /// Element type; the preset's own if not given: bf16 for published sizes, else f32.
    pub dtype: Option<Dtype>,
    /// Most bytes of tensors in a file.
    pub shard_size: u64,
    /// Folder whose tokenizer, template and processor settings a published size gets.
    pub tokenizer_from: Option<PathBuf>,
}

impl Random {
    /// A preset with its own element type, in files of 5 GB.
    pub fn new(preset: Preset, seed: u64) -> Self {
        Self { preset, seed, dtype: None, shard_size: SHARD_SIZE, tokenizer_from: None }
    }

    /// Element type of the files.
    pub fn dtype(&self) -> Dtype {
        self.dtype.unwrap_or(if matches!(self.preset, Preset::Published(_)) { Dtype::Bf16 } else { Dtype::F32 })
    }

    /// Writes the folder, all of it or nothing, and returns the configuration. `done` is told of every piece of the weights of a
    /// published size, in bytes.
    ///
    /// # Errors
    /// Names the file that could not be written, or what is wrong with the tokenizer.
    pub fn write(&self, dir: &Path, done: &(dyn Fn(u64) + Sync)) -> Result<Config, Error> {
        let course = match self.preset {
            Preset::Published(size) => return self.write_published(size, dir, done),
            _ => Course::read()?,
        };
        let sizes = if self.preset == Preset::Tiny { tiny() } else { course.nano };
        let words: Vec<&str> = course.words.iter().map(String::as_str).collect();
        let phrases: Vec<&str> = course.phrases.iter().map(String::as_str).collect();
        let write = || {
            let writer = CheckpointWriter::new(dir)?;
            let kind = (self.dtype(), self.shard_size);
            let config = nano::write(&writer, &sizes, (&words, &phrases), self.seed, kind)?;
            writer.finish().map(|()| config)
        };
        write().map_err(Error::SaveModel)
    }

    fn write_published(&self, size: Size, dir: &Path, done: &(dyn Fn(u64) + Sync)) -> Result<Config, Error> {
        let config = size.config();
        let writer = CheckpointWriter::new(dir).map_err(Error::SaveModel)?;
        match &self.tokenizer_from {
            Some(from) => published::copy_companions(&writer, &config, from).map_err(Error::OpenModel)?,
            None => published::write_companions(&writer, &config).map_err(Error::SaveModel)?,
        }
        let write = || -> Result<(), ModelError> {
            published::write_random(&writer, &config, self.seed, (self.dtype(), self.shard_size), done)?;
            writer.finish()
        };
        write().map_err(Error::SaveModel)?;
        Ok(config)
    }
}

/// What the course says of its start.
#[derive(Deserialize)]
struct Course {
    #[serde(default)]
    nano: NanoConfig,
    words: Vec<String>,
    phrases: Vec<String>,
}

impl Course {
    fn read() -> Result<Self, Error> {
        let place = Place::File("configs/nano-base.toml".into());
        toml::from_str(COURSE)
            .map_err(|error| Error::Config(ConfigError::Syntax { place, problem: error.message().to_owned() }))
    }
}

fn tiny() -> NanoConfig {
    NanoConfig {
        hidden_size: 32,
        layers: 2,
        heads: 2,
        intermediate_size: 48,
        vision_hidden_size: 32,
        vision_depth: 2,
        vision_heads: 2,
        vision_intermediate_size: 48,
        pixels: 56 * 56,
        ..NanoConfig::default()
    }
}
