//! `imagent rollout`: one episode, shown turn by turn.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use imagent::config::{Config, open_dataset};
use imagent_analysis::record::write_atomic;
use imagent_analysis::{ImageCodec, TrajectoryRecord, TurnEntry};
use imagent_core::{Sample, ScoredTrajectory};
use imagent_models::config::Dtype;

use super::served::{self, ServedArgs};
use super::settings::Source;
use super::{InputError, print};

/// Arguments of `imagent rollout`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Settings; where left out, those of the run that the checkpoint lies in, or defaults
    config: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    served: ServedArgs,
    /// Position of the sample in the dataset, counted from 0
    #[arg(long, value_name = "I")]
    index: usize,
    /// Write trajectory.json and the images to a folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let mut config = args.served.config(&args.source, args.config.as_deref(), [])?;
    let Some(data) = config.data.eval.take() else {
        return Err(InputError("name a dataset folder with --data".to_owned()).into());
    };
    let source = open_dataset(&data, "data.eval.path")?;
    if args.index >= source.len() {
        return Err(imagent::Error::NoSample { position: args.index, samples: source.len() }.into());
    }
    let sample = source.get(args.index).map_err(|error| InputError(error.to_string()))?;
    let scored = play(config, sample, args.source.weights.dtype())?;
    let record = TrajectoryRecord::from(&scored);
    if let Some(out) = &args.out {
        let shelf = &scored.trajectory.shelf;
        let record = record.clone().with_image_files(shelf, out, "images", ImageCodec::Png, u32::MAX)?;
        let text = serde_json::to_vec_pretty(&record).context("trajectory.json")?;
        write_atomic(&out.join("trajectory.json"), &text)?;
    }
    print(&show(&record))
}

/// The episode that an evaluation would have of the sample, graded.
fn play(config: Config, sample: Arc<Sample>, dtype: Option<Dtype>) -> Result<ScoredTrajectory> {
    if let Some(endpoint) = config.endpoint.clone() {
        #[cfg(feature = "served")]
        return served::play(config, endpoint, &sample);
        #[cfg(not(feature = "served"))]
        return Err(served::refuse(&endpoint));
    }
    let mut parts = config.build_for_inference(Box::new(vec![Arc::clone(&sample)]), None, dtype)?;
    let experiment = &mut parts.experiment;
    let trajectory = experiment.play(&sample).map_err(imagent::Error::from)?;
    Ok(ScoredTrajectory::grade(trajectory, &*experiment.reward))
}

fn show(record: &TrajectoryRecord) -> String {
    let mut text = format!("sample    {}\nquestion  {}\n", record.sample, record.question);
    for image in &record.images {
        let origin = image.origin.map(|origin| format!("  from image {} {:?}", origin.image, origin.bbox));
        let (shown, origin) = (image.shown, origin.unwrap_or_default());
        let (index, width, height) = (image.index, image.width, image.height);
        let size = format!("{width}x{height}, shown as {}x{}", shown.width, shown.height);
        let _ = writeln!(text, "image {index}   {size}{origin}");
    }
    for (i, turn) in record.turns.iter().enumerate() {
        let _ = writeln!(text, "\nturn {}\n  {}", i + 1, turn.text.replace('\n', "\n  "));
        text.push_str(&observation(turn));
    }
    let answer = record.answer.as_deref().unwrap_or("none");
    let parts: Vec<String> = record.parts.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
    let _ = writeln!(text, "\nend       {}\nanswer    {answer}\ngold      {}", record.end.name(), record.gold);
    match &record.skipped {
        Some(reason) => text.push_str(&format!("reward    not graded: {reason}\n")),
        None => text.push_str(&format!("reward    {:.3}  ({})\n", record.reward, parts.join(", "))),
    }
    text
}

fn observation(turn: &TurnEntry) -> String {
    let Some(seen) = &turn.observation else { return String::new() };
    let images: Vec<String> = turn.images.iter().map(|index| format!("image {index}")).collect();
    format!("  -> {}\n", [seen.clone(), images.join(", ")].join(" ").trim())
}
