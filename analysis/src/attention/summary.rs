//! Attention over many samples: means with 95 % intervals, as generation proceeds and by layer.

use serde::Serialize;

use super::{Attention, KINDS};
use crate::bca::Resamples;
use crate::plot::{Chart, Series};
use crate::stats::{Interval, mean};

/// Stretches that the sampled tokens of a trajectory are cut into.
const STRETCHES: usize = 10;
/// Resamples of an interval.
const RESAMPLES: usize = 2_000;

/// What is said of many samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How the numbers come about.
    pub method: String,
    /// How many samples there are.
    pub samples: usize,
    /// The kinds of parts.
    pub kinds: [&'static str; 5],
    /// The shares of each kind in each tenth of the sampled tokens, mean over layers; `null` where fewer than two samples have such a
    /// part and such a tenth.
    pub progress: Vec<Vec<Option<Interval>>>,
    /// The layers.
    pub layers: Vec<LayerSummary>,
}

/// A layer over all sampled tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSummary {
    /// The layer, counted from 0.
    pub layer: usize,
    /// The shares of each kind.
    pub shares: Vec<Option<Interval>>,
    /// The entropy over image tokens, in nats.
    pub image_entropy: Option<Interval>,
}

/// Sums samples up. A sample counts for a kind where its trajectory has such a part that the token can see.
pub fn summarize(samples: &[Attention]) -> Summary {
    let kinds = 0..KINDS.len();
    let progress = |kind: usize| (0..STRETCHES).map(|i| over(samples, |sample| in_stretch(sample, kind, i))).collect();
    let depth = samples.iter().map(|sample| sample.layers.len()).min().unwrap_or(0);
    let layer = |at: usize| LayerSummary {
        layer: samples.first().map_or(at, |sample| sample.layers[at].layer),
        shares: kinds.clone().map(|kind| over(samples, |sample| in_layer(sample, kind, at))).collect(),
        image_entropy: over(samples, |sample| {
            let known: Vec<f64> = sample.layers[at].image_entropy.iter().flatten().copied().collect();
            mean(&known)
        }),
    };
    Summary {
        method: format!(
            "attention of the row that each sampled token was drawn from, mean over heads; tenths: by position among the sampled \
             tokens of a trajectory, mean over its layers; then the mean over samples with its 95 % BCa bootstrap interval, \
             {RESAMPLES} resamples of seed 0"
        ),
        samples: samples.len(),
        kinds: KINDS,
        progress: kinds.clone().map(progress).collect(),
        layers: (0..depth).map(layer).collect(),
    }
}

fn over(samples: &[Attention], of: impl Fn(&Attention) -> Option<f64>) -> Option<Interval> {
    let values: Vec<f64> = samples.iter().filter_map(of).collect();
    Resamples::new(values.len(), RESAMPLES, 0).interval(&values)
}

/// The share of a kind at a token; `None` where the trajectory has no such part.
fn share(sample: &Attention, kind: usize, layer: usize, token: usize) -> Option<f64> {
    let shares = &sample.layers[layer].shares[token];
    let of_kind = sample.parts.iter().zip(shares).filter(|(part, _)| part.kind() == kind);
    let values: Vec<f64> = of_kind.map(|(_, share)| *share).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

fn in_stretch(sample: &Attention, kind: usize, stretch: usize) -> Option<f64> {
    let count = sample.tokens.len();
    let tokens = (0..count).filter(|token| token * STRETCHES / count == stretch);
    let values: Vec<f64> = tokens
        .flat_map(|token| (0..sample.layers.len()).filter_map(move |layer| share(sample, kind, layer, token)))
        .collect();
    mean(&values)
}

fn in_layer(sample: &Attention, kind: usize, layer: usize) -> Option<f64> {
    let values: Vec<f64> = (0..sample.tokens.len()).filter_map(|token| share(sample, kind, layer, token)).collect();
    mean(&values)
}

impl Summary {
    /// The shares as generation proceeds.
    pub fn progress_chart(&self) -> Chart {
        let rows = self.progress.iter().map(|kind| {
            kind.iter().enumerate().map(|(i, interval)| ((i as f64 + 0.5) / STRETCHES as f64, *interval)).collect()
        });
        chart("Attention as generation proceeds", "part of the sampled tokens", rows)
    }

    /// The shares by layer.
    pub fn layer_chart(&self) -> Chart {
        let rows = (0..KINDS.len())
            .map(|kind| self.layers.iter().map(|layer| (layer.layer as f64, layer.shares[kind])).collect());
        chart("Attention by layer", "layer", rows)
    }
}

fn chart(title: &str, x_label: &str, rows: impl Iterator<Item = Vec<(f64, Option<Interval>)>>) -> Chart {
    let series = KINDS.iter().zip(rows).map(|(kind, row)| {
        let known: Vec<(f64, Interval)> = row.into_iter().filter_map(|(x, interval)| Some((x, interval?))).collect();
        Series {
            name: (*kind).to_owned(),
            points: known.iter().map(|(x, interval)| (*x, interval.mean)).collect(),
            band: known.iter().map(|(x, interval)| (*x, interval.low, interval.high)).collect(),
        }
    });
    Chart {
        title: title.to_owned(),
        x_label: x_label.to_owned(),
        y_label: "share of attention".to_owned(),
        y_range: Some((0.0, 1.0)),
        series: series.filter(|series| !series.points.is_empty()).collect(),
        ..Chart::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LayerAttention, Part, SampledToken};
    use super::*;

    fn sample(on_image: &[f64]) -> Attention {
        let token = |position| SampledToken { position, turn: 1, text: String::new() };
        let layer = |layer: usize| LayerAttention {
            layer,
            shares: on_image.iter().map(|share| vec![1.0 - share, *share]).collect(),
            image_entropy: on_image.iter().map(|_| Some(layer as f64)).collect(),
        };
        Attention {
            sample: "s".into(),
            right: None,
            parts: vec![Part::Text, Part::Image(1)],
            tokens: (0..on_image.len()).map(token).collect(),
            layers: vec![layer(0), layer(3)],
        }
    }

    #[test]
    fn tenths_and_layers_are_means_over_samples() {
        let rising: Vec<f64> = (0..20).map(|i| f64::from(i) / 20.0).collect();
        let found = summarize(&[sample(&rising), sample(&[0.5; 10]), sample(&[0.1])]);
        assert_eq!((found.samples, found.layers.len(), found.layers[1].layer), (3, 2, 3));
        let first = found.progress[1][0].unwrap();
        assert!((first.mean - (0.025 + 0.5 + 0.1) / 3.0).abs() < 1e-9 && first.n == 3, "{first:?}");
        assert_eq!(found.progress[1][9].map(|i| i.n), Some(2), "a single token is in the first tenth");
        assert_eq!(found.progress[4], vec![None; 10], "nothing was generated before");
        assert_eq!(found.layers[1].image_entropy.map(|i| i.mean), Some(3.0));
        let chart = found.progress_chart();
        assert_eq!(chart.series.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["text", "images"]);
        assert_eq!(found.layer_chart().series[0].points.len(), 2);
        assert!(summarize(&[]).layers.is_empty());
    }
}
