//! `imagent attention`: where the attention of sampled tokens goes, over held-out samples.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use imagent::attention::by_token;
use imagent::config::{Config, open_dataset};
use imagent_analysis::attention::map::heat_map;
use imagent_analysis::attention::summary::{Summary, summarize};
use imagent_analysis::attention::{Attention, KINDS};
use imagent_analysis::plot::standalone;
use imagent_analysis::record::{check_target, file_stem, write_atomic};
use imagent_core::{ImageSpan, SampleSource, ScoredTrajectory, Trajectory};
use imagent_models::qwen::probe::LayerProbe;
use rayon::prelude::*;
use serde::Serialize;

use super::settings::Source;
use super::{InputError, at_least_one, interrupt, print};

/// Arguments of `imagent attention`.
///
/// Rolls out each sample as an evaluation does, runs the model once over the finished trajectory, and writes attention.json, the
/// shares as generation proceeds and by layer (SVG and PNG), and maps over the images.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Settings; where left out, those of the run that the checkpoint lies in, or defaults
    config: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
    /// Measure the first N samples
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit: Option<usize>,
    /// Layers, counted from 0: `0,2-4` [default: all]
    #[arg(long, value_name = "LAYERS")]
    layers: Option<String>,
    /// Draw maps of the first N samples
    #[arg(long, value_name = "N", default_value_t = 4)]
    maps: usize,
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = "attention")]
    out: PathBuf,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// What `attention.json` holds.
#[derive(Serialize)]
struct Output<'a> {
    model: &'a str,
    data: &'a str,
    summary: &'a Summary,
    samples: &'a [Attention],
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let mut config = args.source.config(args.config.as_deref())?;
    let Some(mut data) = config.data.eval.take() else {
        return Err(InputError("name a dataset folder with --data".to_owned()).into());
    };
    check_target(&args.out.join("attention.json"))?;
    let layers = args.layers.as_deref().map(read_layers).transpose()?;
    data.limit = args.limit.unwrap_or(data.limit);
    let (model, path) = (config.model.path.clone(), data.path.clone());
    let source = open_dataset(&data, "data.eval.path")?;
    let samples = measure(config, source.as_ref(), layers.as_deref(), &args)?;
    let summary = summarize(&samples);
    let output = Output { model: &model, data: &path, summary: &summary, samples: &samples };
    write_atomic(&args.out.join("attention.json"), &serde_json::to_vec(&output).context("attention.json")?)?;
    for (name, chart) in [("progress", summary.progress_chart()), ("layers", summary.layer_chart())] {
        write_atomic(&args.out.join(format!("{name}.svg")), standalone(&chart.svg()).as_bytes())?;
        write_atomic(&args.out.join(format!("{name}.png")), &chart.png())?;
    }
    let text = if args.json { format!("{:#}\n", serde_json::to_value(&summary)?) } else { show(&summary, &args.out) };
    print(&text)
}

fn measure(config: Config, source: &dyn SampleSource, layers: Option<&[usize]>, args: &Args) -> Result<Vec<Attention>> {
    let mut parts = config.build_for_inference(Box::new(Vec::new()), None, args.source.weights.dtype())?;
    let experiment = &mut parts.experiment;
    let depth = experiment.policy.model.config.text.layers;
    let layers: Vec<usize> = layers.map_or_else(|| (0..depth).collect(), <[usize]>::to_vec);
    if let Some(layer) = layers.iter().find(|layer| **layer >= depth) {
        return Err(InputError(format!("--layers: no layer {layer}, the model has {depth}, counted from 0")).into());
    }
    let interrupt = interrupt::watch_saying("interrupted: finishing this sample; once more to stop at once");
    let mut found = Vec::new();
    for position in 0..source.len() {
        if interrupt.load(std::sync::atomic::Ordering::Relaxed) {
            anyhow::bail!("interrupted after {position} of {} samples; nothing was written but maps", source.len());
        }
        let sample = source.get(position).map_err(|error| InputError(error.to_string()))?;
        let trajectory = experiment.play(&sample).map_err(imagent::Error::from)?;
        let scored = ScoredTrajectory::grade(trajectory, &*experiment.reward);
        let probes = experiment.policy.attention(&scored.trajectory).map_err(imagent::Error::OpenModel)?;
        found.push(by_token(&experiment.policy, &scored, &probes, &layers));
        if position < args.maps {
            draw(&scored.trajectory, &probes, &layers, &args.out.join("maps"))?;
        }
    }
    Ok(found)
}

/// A map of every image and layer: the mean over the tokens that can see the image.
fn draw(trajectory: &Trajectory, probes: &[LayerProbe], layers: &[usize], dir: &Path) -> Result<()> {
    let stem = file_stem(&trajectory.sample.id);
    for &layer in layers {
        let means: Vec<(usize, Vec<f32>)> =
            trajectory.sampled().collect::<Vec<_>>().par_iter().map(|&p| (p, probes[layer].mean(p - 1))).collect();
        for span in &trajectory.spans {
            let Some(image) = trajectory.shelf.get(span.image) else { continue };
            let Some(weights) = span_weights(span, &means) else { continue };
            let png = heat_map(&image.pixels, (span.rows, span.columns), &weights)?;
            write_atomic(&dir.join(&stem).join(format!("image-{}-layer-{layer:02}.png", span.image)), &png)?;
        }
    }
    Ok(())
}

fn span_weights(span: &ImageSpan, means: &[(usize, Vec<f32>)]) -> Option<Vec<f64>> {
    let after: Vec<&Vec<f32>> =
        means.iter().filter(|(position, _)| *position >= span.range().end).map(|(_, weights)| weights).collect();
    let mean = |cell: usize| after.iter().map(|weights| f64::from(weights[cell])).sum::<f64>() / after.len() as f64;
    (!after.is_empty()).then(|| span.range().map(mean).collect())
}

/// `0,2-4` as 0, 2, 3, 4.
fn read_layers(text: &str) -> Result<Vec<usize>> {
    let wrong = || InputError(format!("--layers: expected numbers and ranges like 0,2-4, got {text:?}"));
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|layer| *layer < 10_000);
    let mut layers = Vec::new();
    for part in text.split(',') {
        let range = match part.split_once('-') {
            Some((from, to)) => number(from).zip(number(to)).filter(|(from, to)| from <= to),
            None => number(part).map(|layer| (layer, layer)),
        };
        let (from, to) = range.ok_or_else(wrong)?;
        layers.extend(from..=to);
    }
    layers.sort_unstable();
    layers.dedup();
    Ok(layers)
}

fn show(summary: &Summary, out: &Path) -> String {
    let header = ["layer", KINDS[0], KINDS[1], KINDS[2], KINDS[3], KINDS[4], "image entropy"];
    let percent = |share: &Option<imagent_analysis::stats::Interval>| {
        share.map_or("–".to_owned(), |interval| format!("{:.1} %", interval.mean * 100.0))
    };
    let row = |layer: &imagent_analysis::attention::summary::LayerSummary| {
        let entropy = layer.image_entropy.map_or("–".to_owned(), |interval| format!("{:.3}", interval.mean));
        let shares = layer.shares.iter().map(percent);
        std::iter::once(layer.layer.to_string()).chain(shares).chain([entropy]).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = summary.layers.iter().map(row).collect();
    let table = imagent_analysis::table(&header, &rows);
    format!("{table}\n{} samples; written to {}\n", summary.samples, out.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn layers_are_numbers_and_ranges() {
        assert_eq!(read_layers("0, 2-4,3").unwrap(), [0, 2, 3, 4]);
        for text in ["", "a", "3-1", "1-", "-1", "0-99999999999"] {
            assert!(read_layers(text).is_err(), "{text}");
        }
    }
}
