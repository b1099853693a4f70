//! `imagent eval`: held-out figures of a model, as a run reports them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use imagent::config::{Config, open_dataset};
use imagent_analysis::before_after;
use imagent_models::config::Dtype;
use serde_json::json;

use super::settings::Source;
use super::{InputError, bench, print};

/// Arguments of `imagent eval`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Settings; where left out, those of the run that the checkpoint lies in, or defaults
    config: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
    /// Evaluate on the first N samples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write the figures as JSON; of a benchmark, the folder of its transcript
    #[arg(long, value_name = "FILE.json|DIR")]
    out: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bench: bench::Args,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let mut config = args.source.config(args.config.as_deref())?;
    if args.bench.bench.is_some() {
        return bench::run(&args.bench, config, args.source.weights.dtype(), (args.limit, args.out, args.json));
    }
    let Some(held_out) = config.data.eval.as_mut() else {
        return Err(InputError("name a dataset folder with --data".to_owned()).into());
    };
    held_out.limit = args.limit.unwrap_or(held_out.limit);
    let data: Vec<String> = held_out.parts().into_iter().map(|part| part.path).collect();
    let (model, data) = (config.model.path.clone(), data.join(", "));
    let evaluation = evaluate(config, args.source.weights.dtype())?;
    let result = json!({"model": model, "data": data, "metrics": evaluation.metrics});
    let text = format!("{result:#}\n");
    if let Some(out) = &args.out {
        std::fs::write(out, &text).with_context(|| out.display().to_string())?;
    }
    print(&if args.json { text } else { before_after(None, Some(&evaluation.metrics)) })
}

fn evaluate(config: Config, dtype: Option<Dtype>) -> Result<imagent::Evaluation> {
    let held_out = config.data.eval.clone().unwrap_or_default();
    let held_out = open_dataset(&held_out, "data.eval.path")?;
    // Nothing is trained: the training set need not be there.
    let mut parts = config.build_for_inference(Box::new(Vec::new()), Some(held_out), dtype)?;
    Ok(parts.experiment.evaluate().map_err(imagent::Error::from)?)
}
