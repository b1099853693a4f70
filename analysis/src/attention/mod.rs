//! Where the attention of sampled tokens goes: its shares on the parts of a trajectory, from weights that a model gives.
//!
//! Of a token at position `p` the weights are those of the row before it, `p − 1`, whose state the token was drawn from; they are
//! the mean over the heads of a layer and sum to 1.
//!
//! * this file: the parts of a trajectory, shares and entropy;
//! * [`summary`]: means over samples with intervals, as generation proceeds and by layer;
//! * [`map`]: weights drawn over an image.

pub mod map;
pub mod summary;

use imagent_core::{Origin, Trajectory};
use serde::Serialize;

use crate::stats::mean;

/// A part of a trajectory that attention goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", content = "image", rename_all = "snake_case")]
pub enum Part {
    /// The prompt without its images: instructions and question.
    Text,
    /// An image of the sample, by its shelf index.
    Image(usize),
    /// What tools and the template wrote.
    ObservationText,
    /// An image that a tool returned, by its shelf index.
    ObservationImage(usize),
    /// What the policy sampled before.
    Generated,
}

/// The kinds of parts, by which samples are compared.
pub const KINDS: [&str; 5] = ["text", "images", "observation text", "observation images", "generated"];

impl Part {
    /// The position of its kind in [`KINDS`].
    pub fn kind(self) -> usize {
        match self {
            Self::Text => 0,
            Self::Image(_) => 1,
            Self::ObservationText => 2,
            Self::ObservationImage(_) => 3,
            Self::Generated => 4,
        }
    }

    /// Whether it is an image, of the sample or of a tool.
    pub fn is_image(self) -> bool {
        matches!(self, Self::Image(_) | Self::ObservationImage(_))
    }
}

/// Which part each position of a trajectory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The parts that occur, sorted.
    pub parts: Vec<Part>,
    /// For each position, the place of its part in `parts`.
    pub of: Vec<usize>,
}

impl Layout {
    /// The layout of a trajectory. An image that stands in it several times (as `look_back` returns it) counts as the one that each
    /// span names.
    pub fn new(trajectory: &Trajectory) -> Self {
        let mut all: Vec<Part> = trajectory
            .origins
            .iter()
            .map(|origin| match origin {
                Origin::Prompt => Part::Text,
                Origin::Observation => Part::ObservationText,
                Origin::Sampled => Part::Generated,
            })
            .collect();
        for span in &trajectory.spans {
            let part = match span.start < trajectory.prompt_len {
                true => Part::Image(span.image),
                false => Part::ObservationImage(span.image),
            };
            all[span.range()].fill(part);
        }
        let mut parts = all.clone();
        parts.sort_unstable();
        parts.dedup();
        let of = all.iter().map(|part| parts.partition_point(|known| known < part)).collect();
        Self { parts, of }
    }

    /// The sum of the weights on each part, in the order of `parts`; `weights` may be shorter than the trajectory.
    pub fn shares(&self, weights: &[f32]) -> Vec<f64> {
        let mut shares = vec![0.0; self.parts.len()];
        weights.iter().zip(&self.of).for_each(|(&weight, &part)| shares[part] += f64::from(weight));
        shares
    }

    /// The entropy of the weights on image tokens among themselves, in nats: 0 when one token has all, `ln n` when `n` have equal
    /// parts. `None` where no image has any.
    pub fn image_entropy(&self, weights: &[f32]) -> Option<f64> {
        let on_images = weights.iter().zip(&self.of).filter(|(_, part)| self.parts[**part].is_image());
        let on_images: Vec<f64> = on_images.map(|(&weight, _)| f64::from(weight)).filter(|w| *w > 0.0).collect();
        let total: f64 = on_images.iter().sum();
        (total > 0.0).then(|| on_images.iter().map(|weight| weight / total).map(|p| -p * p.ln()).sum())
    }
}

/// The attention of a trajectory's sampled tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attention {
    /// The sample's id.
    pub sample: String,
    /// Whether the answer is right, where that is known.
    pub right: Option<bool>,
    /// The parts, in the order of the shares.
    pub parts: Vec<Part>,
    /// The sampled tokens, in order.
    pub tokens: Vec<SampledToken>,
    /// The layers, in order.
    pub layers: Vec<LayerAttention>,
}

impl Attention {
    /// The share of the attention that goes to some of the parts, mean over tokens and layers; `None` where no token was sampled.
    pub fn mean_share(&self, of: impl Fn(Part) -> bool) -> Option<f64> {
        let sum =
            |shares: &Vec<f64>| self.parts.iter().zip(shares).filter(|(part, _)| of(**part)).map(|(_, s)| s).sum();
        let sums: Vec<f64> = self.layers.iter().flat_map(|layer| &layer.shares).map(sum).collect();
        mean(&sums)
    }
}

/// A sampled token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SampledToken {
    /// Its position in the trajectory.
    pub position: usize,
    /// Its turn, counted from 1.
    pub turn: usize,
    /// Its text.
    pub text: String,
}

/// The attention of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerAttention {
    /// The layer, counted from 0.
    pub layer: usize,
    /// For each token the shares of the parts; they sum to 1.
    pub shares: Vec<Vec<f64>>,
    /// For each token the entropy over image tokens, in nats; `null` where no image is seen.
    pub image_entropy: Vec<Option<f64>>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imagent_core::{EndReason, ImageShelf, ImageSpan, Sample};

    use super::*;

    fn trajectory() -> Trajectory {
        let mut origins = vec![Origin::Prompt; 5];
        origins.extend([Origin::Sampled; 2]);
        origins.extend([Origin::Observation; 3]);
        origins.push(Origin::Sampled);
        let span = |start, image| ImageSpan { start, rows: 1, columns: 2, image };
        Trajectory {
            sample: Arc::new(Sample {
                id: "s".into(),
                images: Vec::new(),
                later_images: Vec::new(),
                question: String::new(),
                answer: String::new(),
                kind: String::new(),
                zooms_needed: None,
                gold: Vec::new(),
                meta: serde_json::Map::new(),
            }),
            index: 0,
            prompt_len: 5,
            ids: vec![0; origins.len()],
            logprobs: vec![0.0; origins.len()],
            origins,
            spans: vec![span(1, 1), span(8, 2)],
            shelf: ImageShelf::new(),
            turns: Vec::new(),
            answer: None,
            end: EndReason::NoAnswer,
        }
    }

    #[test]
    fn every_position_has_one_part_and_shares_add_up() {
        let layout = Layout::new(&trajectory());
        let expected = [Part::Text, Part::Image(1), Part::ObservationText, Part::ObservationImage(2), Part::Generated];
        assert_eq!(layout.parts, expected);
        assert_eq!(layout.of, [0, 1, 1, 0, 0, 4, 4, 2, 3, 3, 4]);
        assert_eq!(expected.map(Part::kind), [0, 1, 2, 3, 4]);
        let weights: Vec<f32> = (0..10).map(|i| i as f32 / 45.0).collect();
        let shares = layout.shares(&weights);
        let sums = [7.0, 3.0, 7.0, 17.0, 11.0];
        assert!(shares.iter().zip(sums).all(|(share, sum)| (share - sum / 45.0).abs() < 1e-6), "{shares:?}");
    }

    #[test]
    fn entropy_is_that_of_the_image_tokens_alone() {
        let layout = Layout::new(&trajectory());
        let even: Vec<f32> = layout.of.iter().map(|&p| if p == 1 || p == 3 { 0.125 } else { 0.05 }).collect();
        assert!((layout.image_entropy(&even).unwrap() - 4f64.ln()).abs() < 1e-9);
        assert_eq!(layout.image_entropy(&[1.0, 0.0, 0.0]), None);
        assert_eq!(layout.image_entropy(&[0.5, 0.5]), Some(0.0));
    }
}
