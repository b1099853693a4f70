//! `imagent eval`: held-out figures of a model, as a run reports them.

use std::path::PathBuf;

use anyhow::Result;
use imagent::config::{Config, open_dataset};
use imagent_analysis::record::write_atomic;
use imagent_analysis::{TrajectoryRecord, before_after, write_rollouts};
use imagent_models::config::Dtype;
use serde_json::json;

use super::served::{self, ServedArgs};
use super::settings::Source;
use super::{InputError, bench, print};

/// Arguments of `imagent eval`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Settings; where left out, those of the run that the checkpoint lies in, or defaults
    config: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    served: ServedArgs,
    /// Evaluate on the first N samples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write the figures as JSON; of a benchmark, the folder of its transcript
    #[arg(long, value_name = "FILE.json|DIR")]
    out: Option<PathBuf>,
    /// Write every episode, one line of JSON each
    #[arg(long, value_name = "FILE.jsonl")]
    transcripts: Option<PathBuf>,
    /// Keep settings, trajectories and figures in this folder: config.toml, rollouts.jsonl, eval.json
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bench: bench::Args,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let mut config = args.served.config(&args.source, args.config.as_deref())?;
    if args.bench.bench.is_some() {
        return bench::run(&args.bench, config, args.source.weights.dtype(), (args.limit, args.out, args.json));
    }
    let Some(held_out) = config.data.eval.as_mut() else {
        return Err(InputError("name a dataset folder with --data".to_owned()).into());
    };
    held_out.limit = args.limit.unwrap_or(held_out.limit);
    let data: Vec<String> = held_out.parts().into_iter().map(|part| part.path).collect();
    let data = data.join(", ");
    let (model, endpoint) = match &config.endpoint {
        Some(endpoint) => (endpoint.model.clone(), Some(endpoint.url.clone())),
        None => (config.model.path.clone(), None),
    };
    let resolved = config.to_toml();
    let evaluation = evaluate(config, args.source.weights.dtype())?;
    if let Some(dir) = &args.save {
        imagent::ablate::save_evaluation(dir, &resolved, &evaluation)?;
    }
    if let Some(path) = &args.transcripts {
        let members = evaluation.groups.iter().flat_map(|group| &group.members);
        write_rollouts(path, &members.map(TrajectoryRecord::from).collect::<Vec<_>>())?;
    }
    let mut result = json!({"model": model, "data": data, "metrics": evaluation.metrics});
    if let Some(url) = endpoint {
        result["endpoint"] = json!(url);
    }
    let text = format!("{result:#}\n");
    if let Some(out) = &args.out {
        write_atomic(out, text.as_bytes())?;
    }
    print(&if args.json { text } else { before_after(None, Some(&evaluation.metrics)) })
}

fn evaluate(config: Config, dtype: Option<Dtype>) -> Result<imagent::Evaluation> {
    let held_out = config.data.eval.clone().unwrap_or_default();
    let held_out = open_dataset(&held_out, "data.eval.path")?;
    if let Some(endpoint) = config.endpoint.clone() {
        #[cfg(feature = "served")]
        return served::evaluate(config, endpoint, &*held_out);
        #[cfg(not(feature = "served"))]
        return Err(served::refuse(&endpoint));
    }
    // Nothing is trained: the training set need not be there.
    let mut parts = config.build_for_inference(Box::new(Vec::new()), Some(held_out), dtype)?;
    Ok(parts.experiment.evaluate().map_err(imagent::Error::from)?)
}
