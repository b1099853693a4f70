//! `imagent eval`: held-out figures of a model, as a run reports them.

use std::path::PathBuf;

use anyhow::Result;
use imagent::config::{Config, open_dataset};
use imagent_analysis::before_after;
use imagent_analysis::record::{check_target, write_atomic};
use imagent_models::config::Dtype;
use serde_json::{Value, json};

use super::bench::{self, BenchArgs, Ran};
use super::served::{self, ServedArgs};
use super::settings::Source;
use super::{InputError, at_least_one, print};

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
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit: Option<usize>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Keep settings, every episode and figures in this folder: config.toml, rollouts.jsonl, eval.json [default of a benchmark:
    /// runs/bench-NAME]
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bench: BenchArgs,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let targets = args.out.clone().into_iter().chain(args.save.as_ref().map(|dir| dir.join("eval.json")));
    targets.into_iter().try_for_each(|path| check_target(&path))?;
    let mut config = args.served.config(&args.source, args.config.as_deref(), args.bench.sets())?;
    if let Some(name) = &args.bench.bench {
        return benchmark(name, &args, config);
    }
    let Some(held_out) = config.data.eval.as_mut() else {
        return Err(InputError("name a dataset folder with --data".to_owned()).into());
    };
    held_out.limit = args.limit.unwrap_or(held_out.limit);
    args.save.as_deref().map_or(Ok(()), imagent::ablate::check_saved)?;
    let (asked, resolved) = (asked(&config), config.to_toml());
    let evaluation = evaluate(config, args.source.weights.dtype())?;
    if let Some(dir) = &args.save {
        imagent::ablate::save_evaluation(dir, &resolved, &evaluation)?;
    }
    let shown = before_after(None, Some(&evaluation.metrics));
    tell(&args, asked, ("metrics", json!(evaluation.metrics)), &shown)
}

/// Runs a benchmark.
fn benchmark(name: &str, args: &Args, config: Config) -> Result<()> {
    let asked = asked(&config);
    let Ran { dir, report } =
        bench::run(name, &args.bench, config, args.source.weights.dtype(), (args.limit, args.save.as_deref()))?;
    let Some(report) = report else {
        return print(&format!("{}: this part is done, others are not\n", dir.display()));
    };
    tell(args, asked, ("benchmark", json!(report)), &report.text())
}

/// Who was asked, and on what.
fn asked(config: &Config) -> Value {
    let data: Vec<String> = config.data.eval.iter().flat_map(|data| data.parts()).map(|part| part.path).collect();
    let model = config.endpoint.as_ref().map_or(&config.model.path, |endpoint| &endpoint.model);
    let mut asked = json!({"model": model, "data": data.join(", ")});
    if let Some(endpoint) = &config.endpoint {
        asked["endpoint"] = json!(endpoint.url);
    }
    asked
}

/// Writes the figures where they are wanted, as JSON or as shown.
fn tell(args: &Args, mut asked: Value, (key, figures): (&str, Value), shown: &str) -> Result<()> {
    asked[key] = figures;
    let text = format!("{asked:#}\n");
    if let Some(out) = &args.out {
        write_atomic(out, text.as_bytes())?;
    }
    print(if args.json { &text } else { shown })
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
