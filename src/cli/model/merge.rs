//! `imagent model merge`: a model with an adapter's low-rank terms added to its weights, as one checkpoint.

use std::path::PathBuf;

use anyhow::Result;
use imagent::config::{Model, ModelConfig, open_model_for_inference};
use imagent_models::checkpoint::write;
use imagent_models::config::Config;

use super::Stored;
use crate::cli::{InputError, print};

/// Arguments of `imagent model merge`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model that the adapter is for, a folder or a hub id [default: the one that the adapter names]
    #[arg(long, value_name = "DIR|ID")]
    model: Option<PathBuf>,
    /// An adapter in PEFT's format, or a checkpoint of a run that trained one
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The folder to write; what is there is not replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How the weights are stored [default: as those of the model]
    #[arg(long, value_enum)]
    dtype: Option<Stored>,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    if args.out.exists() {
        return Err(
            InputError(format!("{}: exists already; name another folder with --out", args.out.display())).into()
        );
    }
    let text = |path: &PathBuf| {
        let wrong = || InputError(format!("{}: the path is not UTF-8", path.display()));
        path.to_str().map(str::to_owned).ok_or_else(wrong)
    };
    let adapter = text(&args.adapter)?;
    let config = match &args.model {
        Some(model) => ModelConfig { path: text(model)?, adapter, ..ModelConfig::default() },
        None => ModelConfig { path: adapter, ..ModelConfig::default() },
    };
    let Model { policy, dir, keep: _keep } = open_model_for_inference(&config, None)?;
    let model = &policy.model;
    let Some(merged) = model.adapter().map(|adapter| adapter.pairs.len()) else {
        return Err(InputError(format!("{}: holds no adapter_config.json", args.adapter.display())).into());
    };
    let dtype = match args.dtype {
        Some(dtype) => dtype.into(),
        None => Config::open(&dir).map_err(imagent::Error::OpenModel)?.dtype,
    };
    let entries = model.weights.entries().iter().enumerate();
    let tensors = entries.map(|(index, entry)| (entry.name.clone(), entry.shape.clone(), model.merged(index)));
    write(&args.out, &model.config, tensors, dtype, &dir).map_err(imagent::Error::SaveModel)?;
    print(&format!("merged  {merged} modules\nmodel   {}\n", args.out.display()))
}
