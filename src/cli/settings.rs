//! Settings of commands that run a model without training it: from a config, from the run that a checkpoint lies in, or
//! defaults.

use std::path::{Path, PathBuf};

use anyhow::Result;
use imagent::config::{Config, DatasetConfig};
use imagent_models::config::Dtype;

use super::InputError;

/// Which model, which data, which settings.
#[derive(clap::Args)]
pub(crate) struct Source {
    /// Changes a setting, as in `train`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// A checkpoint folder (the settings are those of the run that it lies in), or a hub id: ORG/NAME or ORG/NAME@REVISION
    #[arg(long, value_name = "DIR|ID")]
    pub(crate) model: Option<PathBuf>,
    /// A dataset folder [default: the settings' data.eval]
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) weights: WeightType,
}

/// In which type matrices are held in memory, where nothing is trained. Sums are f32 in every case.
#[derive(clap::Args)]
pub(crate) struct WeightType {
    /// Hold weights in this type; `auto` leaves them in the checkpoint's own, in its files
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    dtype: DtypeArg,
}

/// Values of `--dtype`.
#[derive(Clone, Copy, clap::ValueEnum)]
enum DtypeArg {
    Auto,
    F32,
    Bf16,
    F16,
}

impl WeightType {
    /// The type asked for, if any.
    pub(crate) fn dtype(&self) -> Option<Dtype> {
        match self.dtype {
            DtypeArg::Auto => None,
            DtypeArg::F32 => Some(Dtype::F32),
            DtypeArg::Bf16 => Some(Dtype::Bf16),
            DtypeArg::F16 => Some(Dtype::F16),
        }
    }
}

impl Source {
    /// The settings, with model and data put in.
    pub(crate) fn config(&self, file: Option<&Path>) -> Result<Config> {
        self.config_with(file, &self.sets, false)
    }

    /// The same with these values in place of `--set`; `served`: the model is elsewhere and need not be named.
    pub(crate) fn config_with(&self, file: Option<&Path>, sets: &[String], served: bool) -> Result<Config> {
        let run = self.model.as_deref().and_then(run_config);
        if file.is_none() && self.model.is_none() && !served {
            return Err(InputError("name a config, or a checkpoint folder with --model".to_owned()).into());
        }
        let read = match file.map(Path::to_owned).or(run) {
            Some(file) => Config::read(&file, sets),
            None => Config::parse("", None, &sets.iter().map(String::as_str).collect::<Vec<_>>()),
        };
        let mut config = read.map_err(imagent::Error::from)?;
        if let Some(model) = &self.model {
            config.model.path = text(model)?;
            config.model.adapter.clear();
        }
        if let Some(data) = &self.data {
            config.data.eval = Some(DatasetConfig { path: text(data)?, ..DatasetConfig::default() });
        }
        Ok(config)
    }
}

/// The `config.toml` of the run folder that a checkpoint (`RUN/checkpoints/step-NNNNNN`) lies in.
fn run_config(checkpoint: &Path) -> Option<PathBuf> {
    let checkpoint = checkpoint.canonicalize().ok()?;
    let folder = checkpoint.parent().filter(|parent| parent.ends_with("checkpoints"))?;
    Some(folder.parent()?.join("config.toml")).filter(|config| config.is_file())
}

fn text(path: &Path) -> Result<String> {
    let wrong = || InputError(format!("{}: the path is not UTF-8", path.display()));
    Ok(path.to_str().ok_or_else(wrong)?.to_owned())
}
