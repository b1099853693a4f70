//! `imagent data pipeline` and `imagent data review`: questions made by agents, and looked at by people.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use imagent::pipeline::config::PipelineConfig;
use imagent::pipeline::summary::StepSummary;
use imagent::pipeline::{DATASET, Served};

use super::{InputError, interrupt, print};

/// Runs a pipeline.
pub(crate) fn run(file: &Path, out: Option<PathBuf>, mut sets: Vec<String>, json: bool) -> Result<()> {
    if let Some(out) = &out {
        let out = out.to_str().ok_or_else(|| InputError(format!("{}: the path is not UTF-8", out.display())))?;
        sets.push(format!("out={}", toml::Value::from(out)));
    }
    let config = PipelineConfig::read(file, &sets).map_err(imagent::Error::from)?;
    let stop = interrupt::watch_saying("interrupted: what is done is kept; the same command goes on")?;
    let served = connect(&config, &stop)?;
    let mut tell = |step: &StepSummary| {
        use std::io::Write;
        // Nobody listens: it is told no more.
        let _ = writeln!(std::io::stderr(), "{}: {} of {} kept", step.name, step.kept, step.items);
    };
    let summary = imagent::pipeline::run(&config, &served, &stop, &mut tell)?;
    if json {
        return print(&format!("{:#}\n", serde_json::json!(summary)));
    }
    let dataset = config.folder().join(DATASET);
    print(&format!("{}\n{} samples in {}\n", summary.table(), summary.dataset, dataset.display()))
}

/// The served models that the roles name.
#[cfg(feature = "served")]
fn connect(
    config: &PipelineConfig,
    stop: &std::sync::Arc<std::sync::atomic::AtomicBool>,
) -> Result<BTreeMap<String, Served>> {
    let mut served = BTreeMap::new();
    for name in config.played_by() {
        let Some(endpoint) = config.endpoints.get(name) else { continue };
        let model = super::served::client(endpoint, stop)?;
        let view = model.image_view().map_err(imagent::Error::from)?;
        served.insert(name.to_owned(), Served { model: Box::new(model), view, endpoint: endpoint.clone() });
    }
    Ok(served)
}

#[cfg(not(feature = "served"))]
fn connect(
    config: &PipelineConfig,
    _: &std::sync::Arc<std::sync::atomic::AtomicBool>,
) -> Result<BTreeMap<String, Served>> {
    match config.played_by().iter().find_map(|name| config.endpoints.get(*name)) {
        Some(endpoint) => Err(super::served::refuse(endpoint)),
        None => Ok(BTreeMap::new()),
    }
}

/// Shows the questions of a pipeline.
#[cfg(feature = "served")]
pub(crate) fn review(folder: PathBuf, port: u16) -> Result<()> {
    use imagent::pipeline::review::{ReviewOptions, serve};
    let stop = interrupt::watch_saying("interrupted: what was decided is kept")?;
    let mut ready = |address, count| {
        // A closed output is no reason not to show them.
        let _ = print(&format!("{count} questions at http://{address}/\n"));
        Ok(())
    };
    Ok(serve(&ReviewOptions { folder, port }, &stop, &mut ready)?)
}

/// Shows the questions of a pipeline.
#[cfg(not(feature = "served"))]
pub(crate) fn review(_: PathBuf, _: u16) -> Result<()> {
    Err(InputError("this build has no page for reviews; build with `--features served`".to_owned()).into())
}
