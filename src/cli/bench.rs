//! `imagent eval --bench`: a benchmark with its own scoring and a strict one, item by item.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::Result;
use imagent::bench::{self, BenchError, BenchOptions, Report};
use imagent::config::Config;
use imagent_core::BoxFrame;
use imagent_data::formats::{Select, open};
use imagent_models::config::Dtype;
use serde_json::{Value, json};

use super::{InputError, interrupt, print, progress};

/// Arguments of `imagent eval --bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run a benchmark on --data and score it as its authors do, and strictly; the transcript goes to the folder --out
    #[arg(long, value_name = "NAME")]
    pub(crate) bench: Option<String>,
    /// Of a benchmark: the i-th of n parts, each in a process of its own; the last one reports
    #[arg(long, value_name = "I/N", requires = "bench")]
    shard: Option<String>,
    /// Of a benchmark: ask the bare question; how to answer is in the config's prompt
    #[arg(long, requires = "bench")]
    plain: bool,
    /// Of a benchmark: what the model's boxes count: shown, original, relative1000 or unit [default: shown]
    #[arg(long, value_name = "FRAME", requires = "bench")]
    frame: Option<String>,
    /// Of a benchmark: only tables whose names begin so
    #[arg(long, value_name = "NAME", requires = "bench")]
    split: Option<String>,
}

/// Runs it.
pub(crate) fn run(
    args: &Args,
    config: Config,
    dtype: Option<Dtype>,
    (limit, out, json): (Option<usize>, Option<PathBuf>, bool),
) -> Result<()> {
    let bench = bench::named(args.bench.as_deref().unwrap_or_default()).map_err(input)?;
    let data = config.data.eval.clone().filter(|data| !data.path.is_empty());
    let data = data.ok_or_else(|| InputError("name a dataset with --data".to_owned()))?;
    let out = out.ok_or_else(|| InputError("name a folder for the transcript with --out".to_owned()))?;
    let select =
        Select { format: Some(data.format.as_str()).filter(|name| !name.is_empty()), split: args.split.as_deref() };
    let reader = open(Path::new(&data.path), select).map_err(imagent::Error::from)?;
    let options = BenchOptions {
        limit,
        shard: shard(args.shard.as_deref())?,
        frame: frame(args.frame.as_deref())?,
        plain: args.plain,
        seed: config.seed,
        settings: settings(&config, &data.path)?,
        out,
    };
    let stop = interrupt::watch_saying("interrupted: finishing this batch; the same command goes on from there")?;
    let mut parts = config.build_for_inference(Box::new(Vec::new()), None, dtype)?;
    let tell = progress::counter("items");
    let report = bench::run(bench, reader.as_ref(), &mut parts.experiment, &options, &mut |done, _| {
        tell(done);
        !stop.load(Ordering::Relaxed)
    });
    match report.map_err(input)? {
        Some(report) => finish(&report, &options.out, json),
        None if stop.load(Ordering::Relaxed) => Err(anyhow::anyhow!("{}: not finished", options.out.display())),
        None => print(&format!("{}: this part is done, others are not\n", options.out.display())),
    }
}

fn finish(report: &Report, out: &Path, json: bool) -> Result<()> {
    let text = format!("{:#}\n", serde_json::to_value(report)?);
    bench::write_result(out, &text).map_err(input)?;
    print(&if json { text } else { report.text() })
}

/// What is at fault: a model that fails is the run's, everything else is input.
fn input(error: BenchError) -> anyhow::Error {
    match error {
        BenchError::Play(error) => imagent::Error::from(error).into(),
        BenchError::Data(error) => imagent::Error::from(error).into(),
        other => InputError(other.to_string()).into(),
    }
}

fn shard(text: Option<&str>) -> Result<(usize, usize)> {
    let Some(text) = text else { return Ok((1, 1)) };
    let parts = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    parts.ok_or_else(|| InputError(format!("--shard {text}: write I/N, such as 2/4")).into())
}

fn frame(text: Option<&str>) -> Result<BoxFrame> {
    let Some(text) = text else { return Ok(BoxFrame::Shown) };
    let known = serde_json::from_value(Value::from(text));
    known.map_err(|_| InputError(format!("--frame {text}: is none of shown, original, relative1000, unit")).into())
}

/// What makes two runs the same, besides the benchmark's own settings.
fn settings(config: &Config, data: &str) -> Result<Value> {
    Ok(json!({
        "model": config.model.path,
        "adapter": config.model.adapter,
        "data": data,
        "tools": serde_json::to_value(&config.tools)?,
        "prompt": serde_json::to_value(&config.prompt)?,
        "limits": serde_json::to_value(&config.limits)?,
        "sampling": serde_json::to_value(&config.train.eval_sampling)?,
    }))
}
