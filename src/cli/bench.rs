//! `imagent eval --bench`: a benchmark with its own scoring and a strict one, item by item.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use imagent::bench::{self, Bench, BenchOptions, Judge, Nobody, Player, Report};
use imagent::config::{Config, DatasetConfig, open_reader};
use imagent_core::BoxFrame;
use imagent_data::formats::Reader;
use imagent_models::config::Dtype;

use super::{InputError, frame, interrupt, progress, served};

/// Arguments of `imagent eval --bench`.
#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// Run a benchmark on --data and score it as its authors do, and strictly: vstar, hrbench, mme-realworld, mig, blink, muir,
    /// mantis, mmiu or mifg
    #[arg(long, value_name = "NAME")]
    pub(crate) bench: Option<String>,
    /// Of a benchmark: the i-th of n parts, each in a process of its own with the same --save; the last one reports
    #[arg(long, value_name = "I/N", requires = "bench")]
    shard: Option<String>,
    /// Of a benchmark: ask the bare question; how to answer is in the config's prompt
    #[arg(long, requires = "bench")]
    plain: bool,
    /// Of a benchmark: what the model's boxes count: shown, original, relative1000 or unit [default: shown]
    #[arg(long, value_name = "FRAME", requires = "bench")]
    frame: Option<String>,
    /// Of a benchmark whose protocol has a judge: the OpenAI-compatible server of one, asked where no rule decides
    #[arg(long, value_name = "URL", requires = "bench")]
    judge: Option<String>,
    /// The judge's name at the server
    #[arg(long, value_name = "NAME", requires = "bench")]
    judge_model: Option<String>,
    /// Keeps what the judge says, for other runs as well [default: judged.jsonl in --save]
    #[arg(long, value_name = "FILE.jsonl", requires = "bench")]
    judge_cache: Option<PathBuf>,
}

impl BenchArgs {
    /// The judge as settings.
    pub(crate) fn sets(&self) -> Vec<String> {
        served::endpoint_sets("judge", self.judge.as_deref(), self.judge_model.as_deref())
    }
}

/// A benchmark that was run: its folder, and its figures if all parts are there.
pub(crate) struct Ran {
    /// The folder of the transcript.
    pub(crate) dir: PathBuf,
    /// The figures.
    pub(crate) report: Option<Report>,
}

/// Runs a benchmark; `save` is the folder of its transcript, by default `runs/bench-NAME`.
pub(crate) fn run(
    name: &str,
    args: &BenchArgs,
    config: Config,
    dtype: Option<Dtype>,
    (limit, save): (Option<usize>, Option<&Path>),
) -> Result<Ran> {
    let bench = bench::named(name).map_err(imagent::Error::from)?;
    let data = config.data.eval.clone().unwrap_or_default();
    let options = BenchOptions {
        dir: save.map_or_else(|| Path::new("runs").join(format!("bench-{name}")), Path::to_owned),
        limit: limit.or(Some(data.limit)).filter(|&limit| limit > 0),
        shard: shard(args.shard.as_deref())?,
        frame: args.frame.as_deref().map_or(Ok(BoxFrame::Shown), frame)?,
        plain: args.plain,
        seed: config.seed,
        config: config.to_toml(),
    };
    let reader = dataset(data)?;
    options.check(bench, &*reader, config.judge.is_some()).map_err(imagent::Error::from)?;
    if args.judge_cache.is_some() && config.judge.is_none() {
        return Err(InputError("--judge-cache keeps what a judge says: name one with --judge".to_owned()).into());
    }
    let stop = interrupt::watch_saying(match config.endpoint {
        Some(_) => "interrupted: leaving what is under way, keeping what is answered",
        None => "interrupted: finishing this batch; once more to stop at once",
    });
    let course = Course { bench, reader: &*reader, options: &options, cache: args.judge_cache.as_deref(), stop };
    let report = course.run(config, dtype);
    if course.stop.load(Ordering::Relaxed) && !matches!(report, Ok(Some(_))) {
        return Err(anyhow::anyhow!("{}: not finished; the same command goes on", options.dir.display()));
    }
    Ok(Ran { report: report?, dir: options.dir })
}

/// What is run.
struct Course<'a> {
    bench: &'static Bench,
    reader: &'a dyn Reader,
    options: &'a BenchOptions,
    #[cfg_attr(not(feature = "served"), allow(dead_code))]
    cache: Option<&'a Path>,
    stop: Arc<AtomicBool>,
}

impl Course<'_> {
    fn run(&self, config: Config, dtype: Option<Dtype>) -> Result<Option<Report>> {
        let Some(judge) = config.judge.clone() else { return self.with(None, config, dtype) };
        #[cfg(feature = "served")]
        {
            let (model, at_once) = (served::client(&judge, &self.stop)?, judge.at_once);
            let own = self.options.dir.join("judged.jsonl");
            let mut judge = Judge::new(&model, at_once, self.cache.unwrap_or(&own));
            self.with(Some(&mut judge), config, dtype)
        }
        #[cfg(not(feature = "served"))]
        Err(served::refuse(&judge))
    }

    fn with(&self, judge: Option<&mut Judge<'_>>, config: Config, dtype: Option<Dtype>) -> Result<Option<Report>> {
        if bench::is_played(self.bench, self.reader, self.options, judge.is_some())? {
            return Ok(self.play(&mut Nobody, judge)?);
        }
        if let Some(endpoint) = config.endpoint.clone() {
            #[cfg(feature = "served")]
            return served::ask(config, endpoint, Arc::clone(&self.stop), |player| self.play(player, judge));
            #[cfg(not(feature = "served"))]
            return Err(served::refuse(&endpoint));
        }
        let mut parts = config.build_for_inference(Box::new(Vec::new()), None, dtype)?;
        Ok(self.play(&mut parts.experiment, judge)?)
    }

    fn play(&self, player: &mut dyn Player, judge: Option<&mut Judge<'_>>) -> Result<Option<Report>, imagent::Error> {
        let tell = progress::counter("items");
        bench::run(self.bench, self.reader, player, judge, self.options, &mut |done| {
            tell(done);
            !self.stop.load(Ordering::Relaxed)
        })
    }
}

/// The dataset, as it was published.
fn dataset(data: DatasetConfig) -> Result<Box<dyn Reader>> {
    if !data.mix.is_empty() || data.gold_crops > 0 {
        return Err(InputError("a benchmark takes one dataset as it is: name it with --data".to_owned()).into());
    }
    // The limit is of what is played: the folder may hold more items, of a run with a higher one.
    Ok(open_reader(&DatasetConfig { limit: 0, ..data }, "data.eval.path")?)
}

fn shard(text: Option<&str>) -> Result<(usize, usize)> {
    let Some(text) = text else { return Ok((1, 1)) };
    let parts = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    let parts = parts.filter(|&(_, of)| of > 0);
    parts.ok_or_else(|| InputError(format!("--shard {text}: write I/N, such as 2/4")).into())
}
