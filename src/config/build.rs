//! Settings to parts: the model and the datasets are opened here, and nowhere before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dfdx::prelude::Cpu;
use imagent_core::{Draft, RgbImage, Sample, SampleError, SampleSource};
use imagent_data::formats::{Reader, Select};
use imagent_data::{GoldCrops, Mixture, Share, ensure_synth};
use imagent_models::adamw::AdamWConfig;
use imagent_models::config::Dtype;
use imagent_models::error::ModelError;
use imagent_models::lora::{ADAPTER_CONFIG, PeftAdapter};
use imagent_models::policy::QwenPolicy;
use imagent_models::qwen::Tuning;
use serde::{Deserialize, Serialize};

use super::validated::{Config, DatasetConfig, MixConfig, ModelConfig};
use crate::assets;
use crate::error::Error;
use crate::experiment::{DynExperiment, Experiment};
use crate::hub::{self, Need};

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
}

/// A policy, and the folder that it was read from.
#[derive(Debug)]
pub struct Model {
    /// The policy.
    pub policy: QwenPolicy<Cpu>,
    /// The folder of the whole model; its tokenizer and templates go into checkpoints.
    pub dir: PathBuf,
    /// Keeps the folder there, where it is a temporary one.
    pub keep: Option<Draft>,
}

/// Opens a checkpoint folder, a model of the hub, an adapter with the model that it names, or `nano`; what is drawn at the
/// start of an adapter is that of seed 1, the default.
///
/// # Errors
/// Names the file, tensor or setting that is wrong.
pub fn open_model(model: &ModelConfig, adamw: &AdamWConfig) -> Result<Model, Error> {
    open_model_seeded(model, adamw, 1)
}

/// The same for a run of this seed.
///
/// # Errors
/// As [`open_model`].
pub fn open_model_seeded(model: &ModelConfig, adamw: &AdamWConfig, seed: u64) -> Result<Model, Error> {
    open(model, |dir, adapter| {
        let tuning = Tuning {
            freeze: model.freeze.clone(),
            lora: model.lora.clone(),
            adapter,
            gradient_checkpointing: model.gradient_checkpointing,
            seed,
        };
        QwenPolicy::open_tuned(dir, Cpu::default(), adamw.clone(), &tuning)
    })
}

/// The same, to sample from and not to train: weights stay in the files' own type, or are held in `dtype`, and settings of
/// what is trained are not looked at.
///
/// # Errors
/// As [`open_model`].
pub fn open_model_for_inference(model: &ModelConfig, dtype: Option<Dtype>) -> Result<Model, Error> {
    open(model, |dir, adapter| {
        let mut policy = QwenPolicy::open_for_inference(dir, Cpu::default(), dtype)?;
        adapter.map_or(Ok(()), |adapter| policy.model.adapt(&adapter))?;
        Ok(policy)
    })
}

fn open(
    model: &ModelConfig,
    read: impl FnOnce(&Path, Option<PathBuf>) -> Result<QwenPolicy<Cpu>, ModelError>,
) -> Result<Model, Error> {
    let Parted { base, adapter } = part(model)?;
    let keep = if base == "nano" { Some(nano_base()?) } else { None };
    let dir = match &keep {
        Some(temporary) => temporary.path().to_owned(),
        None => hub::locate(&base, Need::Everything)?.dir,
    };
    let mut policy = match model.device {
        Device::Cpu => read(&dir, adapter).map_err(Error::OpenModel)?,
    };
    policy.base = base;
    Ok(Model { policy, dir, keep })
}

/// Where a model is: the whole one, and the adapter that goes on it.
struct Parted {
    base: String,
    adapter: Option<PathBuf>,
}

fn part(model: &ModelConfig) -> Result<Parted, Error> {
    let own = (!model.adapter.is_empty()).then(|| PathBuf::from(&model.adapter));
    let path = PathBuf::from(&model.path);
    if !PeftAdapter::is_at(&path) {
        return match own {
            Some(dir) if !dir.join(ADAPTER_CONFIG).is_file() => Err(Error::NoAdapter { path: dir }),
            adapter => Ok(Parted { base: model.path.clone(), adapter }),
        };
    }
    if own.is_some() {
        return Err(Error::TwoAdapters { path });
    }
    let base = base_of(&path, &PeftAdapter::open(&path).map_err(Error::OpenModel)?);
    let base = base.ok_or_else(|| Error::NoBaseOfAdapter { path: path.clone() })?;
    Ok(Parted { base, adapter: Some(path) })
}

/// The model that the adapter in a folder names: a folder, a hub id or `nano`.
pub fn base_of(folder: &Path, adapter: &PeftAdapter) -> Option<String> {
    let base = adapter.base.clone().filter(|base| !base.is_empty())?;
    // An adapter beside its model may name it relative to itself.
    let beside = folder.join(&base);
    Some(if base != "nano" && !Path::new(&base).is_dir() && beside.is_dir() { text(beside) } else { base })
}

fn text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

/// Writes the base model that comes with the program to a temporary folder.
///
/// # Errors
/// When the folder cannot be written, or this build has no base model.
pub fn nano_base() -> Result<Draft, Error> {
    let folder = tempfile::Builder::new().prefix("imagent-nano-").tempdir();
    let folder = folder.and_then(|folder| Draft::create(folder.keep()));
    let folder = folder.map_err(|source| Error::Io { path: std::env::temp_dir(), source })?;
    assets::write_nano_base(folder.path())?;
    Ok(folder)
}

/// Samples of a dataset at even distances: all, or, of a mixture, whose parts stand one after the other, as many as its limit says.
struct Limited {
    source: Box<dyn SampleSource>,
    count: usize,
}

impl Limited {
    fn new(source: Box<dyn SampleSource>, limit: usize) -> Self {
        let count = if limit == 0 { source.len() } else { limit.min(source.len()) };
        Self { source, count }
    }

    fn place(&self, position: usize) -> usize {
        (position as u128 * self.source.len() as u128 / self.count as u128) as usize
    }
}

impl SampleSource for Limited {
    fn len(&self) -> usize {
        self.count
    }
    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError> {
        if position >= self.count {
            return Err(SampleError(format!("no sample at position {position}, {} are used", self.count)));
        }
        let _span = tracing::trace_span!("samples").entered();
        self.source.get(self.place(position))
    }
    fn prefetch(&self, position: usize) -> Vec<Arc<RgbImage>> {
        if position < self.count { self.source.prefetch(self.place(position)) } else { Vec::new() }
    }
}

/// Opens a dataset, making it first where it is a synthetic one, or the datasets of a mixture.
///
/// # Errors
/// Names file and line, or the key that an existing folder was made with differently.
pub fn open_dataset(dataset: &DatasetConfig, key: &'static str) -> Result<Box<dyn SampleSource>, Error> {
    if dataset.mix.is_empty() {
        return open_one(dataset, key);
    }
    let share = |(part, of): (&MixConfig, &DatasetConfig)| -> Result<Share, Error> {
        let last = Path::new(&part.path).file_name().map(|name| name.to_string_lossy().into_owned());
        let name = if part.name.is_empty() { last.unwrap_or_else(|| part.path.clone()) } else { part.name.clone() };
        Ok(Share { name, source: open_one(of, key)?, weight: part.weight })
    };
    let shares = dataset.mix.iter().zip(&dataset.parts()).map(share).collect::<Result<_, Error>>()?;
    Ok(Box::new(Limited::new(Box::new(Mixture::new(shares)?), dataset.limit)))
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Opens one dataset with its rows as published, making it first where it is a synthetic one.
///
/// # Errors
/// When it is not named (`key` says where), cannot be made, or is refused.
pub fn open_reader(dataset: &DatasetConfig, key: &'static str) -> Result<Box<dyn Reader>, Error> {
    if dataset.path.is_empty() {
        return Err(Error::NoDataset { key });
    }
    let path = Path::new(&dataset.path);
    if let Some(synth) = &dataset.synth {
        ensure_synth(synth, path)?;
    }
    let limit = (dataset.limit > 0).then_some(dataset.limit);
    let select = Select { format: given(&dataset.format), split: given(&dataset.split), limit };
    let mut source = imagent_data::open(path, select)?;
    source.keep(dataset.cache_mib << 20);
    Ok(source)
}

fn open_one(dataset: &DatasetConfig, key: &'static str) -> Result<Box<dyn SampleSource>, Error> {
    let source = open_reader(dataset, key)?;
    let source = Limited::new(source, dataset.limit);
    Ok(match dataset.gold_crops {
        0 => Box::new(source),
        side => Box::new(GoldCrops::new(source, side)),
    })
}

/// A run's parts from a config, plug-ins boxed.
pub struct Parts {
    /// Everything but files.
    pub experiment: DynExperiment<QwenPolicy<Cpu>>,
    /// The folder that the model was read from.
    pub model_dir: PathBuf,
    /// Keeps that folder there, where it is a temporary one.
    pub keep: Option<Draft>,
}

impl Config {
    /// Opens everything that the config names, so that training can start.
    ///
    /// # Errors
    /// Names the file that is missing or wrong.
    pub fn build(self) -> Result<Parts, Error> {
        let source = open_dataset(&self.data.train, "data.train.path")?;
        let held_out = self.data.eval.as_ref().map(|eval| open_dataset(eval, "data.eval.path")).transpose()?;
        self.build_with(source, held_out)
    }

    /// The same on samples from elsewhere.
    ///
    /// # Errors
    /// As [`Config::build`].
    pub fn build_with(
        self,
        source: Box<dyn SampleSource>,
        held_out: Option<Box<dyn SampleSource>>,
    ) -> Result<Parts, Error> {
        let model = open_model_seeded(&self.model, &self.adamw, self.seed)?;
        Ok(self.assemble(model, source, held_out))
    }

    /// The same to evaluate only; the model as [`open_model_for_inference`] has it.
    ///
    /// # Errors
    /// As [`Config::build`].
    pub fn build_for_inference(
        self,
        source: Box<dyn SampleSource>,
        held_out: Option<Box<dyn SampleSource>>,
        dtype: Option<Dtype>,
    ) -> Result<Parts, Error> {
        let model = open_model_for_inference(&self.model, dtype)?;
        Ok(self.assemble(model, source, held_out))
    }

    fn assemble(self, model: Model, source: Box<dyn SampleSource>, held_out: Option<Box<dyn SampleSource>>) -> Parts {
        let Model { mut policy, dir, keep } = model;
        policy.limits.max_rows = self.train.max_rows;
        let settings = self.settings();
        let experiment = Experiment {
            policy,
            toolbox: Box::new(self.tools),
            reward: self.reward,
            masks: Box::new(self.masks),
            optimizer: self.optimizer,
            source,
            held_out,
            settings,
            eval_sampling: self.train.eval_sampling,
        };
        Parts { experiment, model_dir: dir, keep }
    }
}
