//! `--endpoint`: the served model that a command asks in place of one of ours.

use std::path::Path;

use anyhow::Result;
use imagent::config::Config;

use super::settings::Source;

/// Which served model.
#[derive(clap::Args)]
pub(crate) struct ServedArgs {
    /// Ask a model that an OpenAI-compatible server has at this address, in place of one of our own; the key is read from
    /// the environment (OPENAI_API_KEY, or what endpoint.key_env names)
    #[arg(long, value_name = "URL", conflicts_with = "model")]
    endpoint: Option<String>,
    /// The model's name at the server
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    served_model: Option<String>,
}

impl ServedArgs {
    /// The settings of a command: those of the config, or of the run that a checkpoint lies in, with the endpoint and `more` put
    /// in. A model named on the command line comes before an endpoint in the config.
    pub(crate) fn config(
        &self,
        source: &Source,
        file: Option<&Path>,
        more: impl IntoIterator<Item = String>,
    ) -> Result<Config> {
        let named = self.endpoint.is_some() || self.served_model.is_some();
        let mut sets = source.sets.clone();
        sets.extend(endpoint_sets("endpoint", self.endpoint.as_deref(), self.served_model.as_deref()));
        sets.extend(more);
        let mut config = source.config_with(file, &sets, named)?;
        if source.model.is_some() {
            config.endpoint = None;
        }
        Ok(config)
    }
}

/// A model at an address as settings of a table.
pub(crate) fn endpoint_sets(table: &str, url: Option<&str>, model: Option<&str>) -> Vec<String> {
    let set = |(key, value): (&str, Option<&str>)| Some(format!("{table}.{key}={}", toml::Value::from(value?)));
    [("url", url), ("model", model)].into_iter().filter_map(set).collect()
}

/// A build that cannot ask says so.
#[cfg(not(feature = "served"))]
pub(crate) fn refuse(endpoint: &imagent::config::EndpointConfig) -> anyhow::Error {
    let url = &endpoint.url;
    super::InputError(format!("{url}: this build cannot ask served models; build with `--features served`")).into()
}

#[cfg(feature = "served")]
mod asking {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use anyhow::Result;
    use imagent::config::{Config, EndpointConfig};
    use imagent::core::{Sample, SampleSource, ScoredTrajectory};
    use imagent::served::OpenAi;
    use imagent::served::evaluate::ServedExperiment;

    use super::super::interrupt;

    /// The model of an endpoint, which `stop` ends asking.
    pub(crate) fn client(endpoint: &EndpointConfig, stop: &Arc<AtomicBool>) -> Result<OpenAi, imagent::Error> {
        let notice = |text: &str| {
            // Nobody listens: it is told no more.
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        Ok(OpenAi::new(endpoint.clone(), Arc::clone(stop), Box::new(notice))?)
    }

    /// Does something with the served model of a config.
    pub(crate) fn ask<T>(
        config: Config,
        endpoint: EndpointConfig,
        stop: Arc<AtomicBool>,
        act: impl FnOnce(&mut ServedExperiment<'_>) -> Result<T, imagent::Error>,
    ) -> Result<T> {
        let model = client(&endpoint, &stop)?;
        let view = model.image_view().map_err(imagent::Error::from)?;
        Ok(act(&mut ServedExperiment { model: &model, endpoint, view, config })?)
    }

    fn watch() -> Arc<AtomicBool> {
        interrupt::watch_saying("interrupted: leaving what is under way")
    }

    /// An evaluation over a served model.
    pub(crate) fn evaluate(
        config: Config,
        endpoint: EndpointConfig,
        source: &dyn SampleSource,
    ) -> Result<imagent::Evaluation> {
        ask(config, endpoint, watch(), |experiment| {
            experiment.evaluate(source, &mut |done, all| {
                // As above.
                let _ = writeln!(std::io::stderr(), "{done} of {all} samples");
            })
        })
    }

    /// An episode over a served model.
    pub(crate) fn play(config: Config, endpoint: EndpointConfig, sample: &Arc<Sample>) -> Result<ScoredTrajectory> {
        let played = ask(config, endpoint, watch(), |experiment| experiment.episode(sample))?;
        played.ok_or_else(|| anyhow::anyhow!("no episode was played"))
    }
}

#[cfg(feature = "served")]
pub(crate) use asking::{ask, client, evaluate, play};
