//! `imagent model info` of an adapter: what it is, and the model that it names where that is here.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use imagent::Error;
use imagent::byte_progress::amount;
use imagent::config::{base_of, nano_base};
use imagent::hub::Located;
use imagent_analysis::table;
use imagent_models::config::Config;
use imagent_models::error::ModelError;
use imagent_models::footprint::{Footprint, linear_maps};
use imagent_models::lora::{ADAPTER_TENSORS, AdapterHeader, PeftAdapter, Targets};
use serde::Serialize;

use super::info::{Args, Info, info, show};
use crate::cli::print;

/// All that is told.
#[derive(Serialize)]
struct Told {
    adapter: About,
    /// The model that it names; none if it is not here.
    base: Option<Info>,
}

#[derive(Serialize)]
struct About {
    folder: String,
    /// As the settings name it.
    base: Option<String>,
    rank: usize,
    alpha: f64,
    rslora: bool,
    /// What the low-rank term is multiplied with.
    scale: f32,
    dropout: f64,
    target_modules: Targets,
    modules: usize,
    vision_modules: usize,
    parameters: u64,
    dtypes: BTreeMap<String, u64>,
    bytes: u64,
    /// Bytes of memory to train it on weights in f32, activations aside; none if the model is not here.
    training: Option<u64>,
    /// Adapted modules and parameters by the last part of the module's name.
    kinds: BTreeMap<String, Kind>,
}

#[derive(Default, Serialize)]
struct Kind {
    modules: usize,
    parameters: u64,
}

/// Tells of the adapter in a folder.
pub(super) fn run(args: &Args, dir: &Path) -> Result<()> {
    let adapter = PeftAdapter::open(dir).map_err(Error::OpenModel)?;
    let header = adapter.header().map_err(Error::OpenModel)?;
    let mut told = Told { adapter: about(args, &adapter, &header), base: None };
    let base = base_of(dir, &adapter);
    // The embedded base is written to a folder that is gone at the end.
    let keep = if base.as_deref() == Some("nano") { Some(nano_base()?) } else { None };
    let folder = keep.as_ref().map(|keep| keep.path()).or(base.as_deref().map(Path::new));
    if let (Some(folder), Some(name)) = (folder.filter(|folder| folder.is_dir()), &base) {
        fit(&adapter, folder, &mut told.adapter).map_err(Error::OpenModel)?;
        let located = Located { dir: folder.to_owned(), remote: Vec::new() };
        told.base = Some(info(args, name, &located).map_err(Error::OpenModel)?);
    }
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&told)?));
    }
    let base = told.base.as_ref().map_or(String::new(), |base| format!("\nits model: {}", show(base)));
    print(&(text(&told) + &base))
}

/// The adapter must be one for the model in this folder.
fn fit(adapter: &PeftAdapter, folder: &Path, about: &mut About) -> Result<(), ModelError> {
    let config = Config::open(folder)?;
    adapter.check(&linear_maps(&config))?;
    about.training = Some(Footprint::of(&config).adapter_training(about.parameters));
    Ok(())
}

fn about(args: &Args, adapter: &PeftAdapter, header: &AdapterHeader) -> About {
    let config = &adapter.config;
    let mut kinds = BTreeMap::<String, Kind>::new();
    for (name, out, inputs) in &header.modules {
        let kind = kinds.entry(kind(name)).or_default();
        kind.modules += 1;
        kind.parameters += (config.rank * (out + inputs)) as u64;
    }
    About {
        folder: args.model.clone(),
        base: adapter.base.clone(),
        rank: config.rank,
        alpha: config.alpha,
        rslora: config.rslora,
        scale: config.scale(),
        dropout: config.dropout,
        target_modules: config.target_modules.clone(),
        modules: header.modules.len(),
        vision_modules: header.modules.iter().filter(|(name, ..)| name.starts_with("visual.")).count(),
        parameters: header.dtypes.values().sum(),
        dtypes: header.dtypes.clone(),
        bytes: header.bytes,
        training: None,
        kinds,
    }
}

/// The name without the number of its layer or block: `visual.blocks.*.attn.qkv`.
fn kind(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let layer = |i: usize| i > 0 && ["layers", "blocks"].contains(&parts[i - 1]);
    (0..parts.len()).map(|i| if layer(i) { "*" } else { parts[i] }).collect::<Vec<_>>().join(".")
}

fn text(told: &Told) -> String {
    let a = &told.adapter;
    let base = match (&a.base, &told.base) {
        (None, _) => "not named; give it as model.path and the adapter as model.adapter".to_owned(),
        (Some(name), Some(_)) => name.clone(),
        (Some(name), None) => format!("{name} (not a folder here)"),
    };
    let targets = match &a.target_modules {
        Targets::Names(names) => names.join(", "),
        Targets::Pattern(pattern) => pattern.clone(),
    };
    let root = if a.rslora { ", over the rank's root" } else { "" };
    let kinds: Vec<String> = a.dtypes.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let mut text = format!("{}\nadapter   rank {}, alpha {}", a.folder, a.rank, a.alpha);
    text += &format!(" (scale {}{root}), dropout {}\nbase      {base}\ntargets   {targets}\n", a.scale, a.dropout);
    text += &format!("modules   {}, {} of them in the vision tower\n", a.modules, a.vision_modules);
    text += &format!("elements  {}\nfile      {ADAPTER_TENSORS}, {}\n", kinds.join(", "), amount(a.bytes));
    if let Some(bytes) = a.training {
        text += &format!("training  {} of memory beside activations, weights in f32\n", amount(bytes));
    }
    let row =
        |(name, kind): (&String, &Kind)| vec![name.clone(), kind.modules.to_string(), kind.parameters.to_string()];
    let mut rows: Vec<Vec<String>> = a.kinds.iter().map(row).collect();
    rows.push(vec!["total".to_owned(), a.modules.to_string(), a.parameters.to_string()]);
    text + "\n" + &table(&["adapted", "modules", "parameters"], &rows)
}
