//! `imagent data pipeline` and `imagent data review`: questions made by agents, and looked at by people.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use imagent::config::EndpointConfig;
use imagent::pipeline::config::PipelineConfig;
use imagent::pipeline::{DATASET, Served};

use super::{InputError, interrupt, print, progress};

/// Runs a pipeline.
pub(crate) fn run(file: &Path, out: Option<PathBuf>, mut sets: Vec<String>, json: bool) -> Result<()> {
    if let Some(out) = &out {
        let out = out.to_str().ok_or_else(|| InputError(format!("{}: the path is not UTF-8", out.display())))?;
        sets.push(format!("out={}", toml::Value::from(out)));
    }
    let config = PipelineConfig::read(file, &sets).map_err(imagent::Error::from)?;
    let stop = interrupt::watch_saying("interrupted: what is done is kept; the same command goes on");
    let connect = |endpoint: &EndpointConfig| connect(endpoint, &stop);
    let summary = imagent::pipeline::run(&config, &connect, &stop, &mut progress::pipeline())?;
    if json {
        return print(&format!("{:#}\n", serde_json::json!(summary)));
    }
    let left = match summary.samples() {
        0 => "no question is left".to_owned(),
        samples => format!("{samples} samples in {}", config.folder().join(DATASET).display()),
    };
    print(&format!("{}\n{left}\n", summary.table()))
}

#[cfg(feature = "served")]
fn connect(endpoint: &EndpointConfig, stop: &Arc<AtomicBool>) -> Result<Served, imagent::Error> {
    let model = super::served::client(endpoint, stop)?;
    let view = model.image_view()?;
    Ok(Served { model: Box::new(model), view, endpoint: endpoint.clone() })
}

#[cfg(not(feature = "served"))]
fn connect(endpoint: &EndpointConfig, _: &Arc<AtomicBool>) -> Result<Served, imagent::Error> {
    let problem = "this build cannot ask served models; build with `--features served`".to_owned();
    Err(imagent::Error::BadFile { path: endpoint.url.clone().into(), problem })
}

/// Shows the questions of a pipeline.
#[cfg(feature = "served")]
pub(crate) fn review(folder: PathBuf, port: u16) -> Result<()> {
    use imagent::pipeline::review::{ReviewOptions, serve};
    let stop = interrupt::watch_saying("interrupted: what was decided is kept");
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
