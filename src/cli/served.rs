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
    /// The settings of a command: those of the config, or of the run that a checkpoint lies in, with the endpoint put in. A
    /// model named on the command line comes before an endpoint in the config.
    pub(crate) fn config(&self, source: &Source, file: Option<&Path>) -> Result<Config> {
        let named = self.endpoint.is_some() || self.served_model.is_some();
        let mut sets = source.sets.clone();
        for (key, value) in [("url", &self.endpoint), ("model", &self.served_model)] {
            sets.extend(value.as_ref().map(|value| format!("endpoint.{key}={}", toml::Value::from(value.as_str()))));
        }
        let mut config = source.config_with(file, &sets, named)?;
        if source.model.is_some() {
            config.endpoint = None;
        }
        Ok(config)
    }
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

    use anyhow::Result;
    use imagent::config::{Config, EndpointConfig};
    use imagent::core::{Sample, SampleSource, ScoredTrajectory};
    use imagent::served::OpenAi;
    use imagent::served::evaluate::ServedExperiment;

    use super::super::interrupt;

    fn client(endpoint: &EndpointConfig) -> Result<OpenAi> {
        let stop = interrupt::watch_saying("interrupted: leaving what is under way")?;
        let notice = |text: &str| {
            // Nobody listens: it is told no more.
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        Ok(OpenAi::new(endpoint.clone(), stop, Box::new(notice)).map_err(imagent::Error::from)?)
    }

    fn ask<T>(
        config: Config,
        endpoint: EndpointConfig,
        act: impl FnOnce(&ServedExperiment<'_>) -> Result<T, imagent::Error>,
    ) -> Result<T> {
        let model = client(&endpoint)?;
        let view = model.image_view().map_err(imagent::Error::from)?;
        Ok(act(&ServedExperiment { model: &model, endpoint, view, config })?)
    }

    /// An evaluation over a served model.
    pub(crate) fn evaluate(
        config: Config,
        endpoint: EndpointConfig,
        source: &dyn SampleSource,
    ) -> Result<imagent::Evaluation> {
        ask(config, endpoint, |experiment| {
            experiment.evaluate(source, &mut |done, all| {
                // As above.
                let _ = writeln!(std::io::stderr(), "{done} of {all} samples");
            })
        })
    }

    /// An episode over a served model.
    pub(crate) fn play(config: Config, endpoint: EndpointConfig, sample: &Arc<Sample>) -> Result<ScoredTrajectory> {
        let played = ask(config, endpoint, |experiment| experiment.episode(sample))?;
        played.ok_or_else(|| anyhow::anyhow!("no episode was played"))
    }
}

#[cfg(feature = "served")]
pub(crate) use asking::{evaluate, play};
