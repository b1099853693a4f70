//! The language model's weights on the host, as the engine reads them once per step: packed where the model is small, else
//! lent in the type they are stored in.

use std::borrow::Cow;

use crate::config::TextConfig;
use crate::ops::product::{self, Packed, Part};
use crate::ops::{Kernels, Lent};
use crate::qwen::layout::Linear;
use crate::qwen::model::Qwen;
use crate::qwen::weights::VectorId;

/// Elements of all maps up to which they are packed for a rollout: half a gigabyte of f32.
///
/// A rule by size alone, so that a model draws the same tokens in training and evaluation, in whatever type it is stored.
const PACKED: usize = 1 << 27;

/// Linear maps of the same rows, side by side.
pub(crate) enum HostLinear<'a> {
    /// A copy for many products.
    Packed(Packed),
    /// As they are stored.
    Lent(Vec<HostPart<'a>>),
}

/// A linear map: weight `[outputs, inputs]` and bias.
pub(crate) struct HostPart<'a> {
    weight: Lent<'a>,
    bias: Option<Cow<'a, [f32]>>,
    outputs: usize,
}

impl HostPart<'_> {
    fn part(&self) -> Part<'_> {
        Part { weight: self.weight.elements(), bias: self.bias.as_deref(), outputs: self.outputs }
    }
}

impl HostLinear<'_> {
    /// Width of the result.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.outputs(),
            Self::Lent(parts) => parts.iter().map(|part| part.outputs).sum(),
        }
    }

    /// Rows of `x[rows, inputs]` through all maps: `[rows, outputs]`.
    pub(crate) fn apply(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let mut y = vec![0.0; rows * self.outputs()];
        match self {
            Self::Packed(packed) => packed.forward(&mut y, x),
            Self::Lent(parts) => {
                let parts: Vec<Part<'_>> = parts.iter().map(HostPart::part).collect();
                product::forward(&mut y, x, &parts, x.len().checked_div(rows).unwrap_or(0));
            }
        }
        y
    }
}

/// One decoder layer.
pub(crate) struct HostLayer<'a> {
    pub(crate) input_norm: Cow<'a, [f32]>,
    pub(crate) post_norm: Cow<'a, [f32]>,
    /// Queries, then keys, then values.
    pub(crate) qkv: HostLinear<'a>,
    pub(crate) o: HostLinear<'a>,
    /// Gate, then up.
    pub(crate) gate_up: HostLinear<'a>,
    pub(crate) down: HostLinear<'a>,
}

/// The language model's weights.
pub(crate) struct HostModel<'a> {
    pub(crate) config: &'a TextConfig,
    /// Whether the maps are packed.
    pub(crate) packed: bool,
    pub(crate) embed: Lent<'a>,
    pub(crate) layers: Vec<HostLayer<'a>>,
    pub(crate) norm: Cow<'a, [f32]>,
    pub(crate) head: HostLinear<'a>,
}

impl<'a> HostModel<'a> {
    /// Packs the language model's weights, or borrows them where there are many ([`PACKED`]). Borrowing copies those that are
    /// on another device, and those that an adapter changes, which is merged into them.
    pub(crate) fn new<D: Kernels>(model: &'a Qwen<D>) -> Self {
        timed!("weights");
        let layout = &model.layout;
        let head = Linear { weight: layout.head, bias: None, module: None };
        let maps = layout.layers.iter().flat_map(|l| [l.q, l.k, l.v, l.o, l.gate, l.up, l.down]).chain([head]);
        let packed = maps.map(|map| size(model, map)).sum::<usize>() <= PACKED;
        let linear = |maps: &[Linear]| linear(model, maps, packed);
        let vector = |id: VectorId| D::lend_vector(model.weights.vector(id).values);
        let layers = layout.layers.iter().map(|layer| HostLayer {
            input_norm: vector(layer.input_norm),
            post_norm: vector(layer.post_norm),
            qkv: linear(&[layer.q, layer.k, layer.v]),
            o: linear(&[layer.o]),
            gate_up: linear(&[layer.gate, layer.up]),
            down: linear(&[layer.down]),
        });
        Self {
            config: &model.config.text,
            packed,
            embed: model.weights.matrix(layout.embed).values.lend(),
            layers: layers.collect(),
            norm: vector(layout.norm),
            head: linear(&[head]),
        }
    }
}

/// Elements of a map's weight.
fn size<D: Kernels>(model: &Qwen<D>, map: Linear) -> usize {
    let (outputs, inputs) = model.weights.matrix(map.weight).values.shape();
    outputs * inputs
}

fn linear<'a, D: Kernels>(model: &'a Qwen<D>, maps: &[Linear], packed: bool) -> HostLinear<'a> {
    let part = |map: &Linear| HostPart {
        weight: model.lend(*map),
        bias: map.bias.map(|id| D::lend_vector(model.weights.vector(id).values)),
        outputs: model.weights.matrix(map.weight).values.shape().0,
    };
    let parts: Vec<HostPart<'_>> = maps.iter().map(part).collect();
    let inputs = maps.first().map_or(0, |map| model.weights.matrix(map.weight).values.shape().1);
    if packed {
        HostLinear::Packed(Packed::new(&parts.iter().map(HostPart::part).collect::<Vec<_>>(), inputs))
    } else {
        HostLinear::Lent(parts)
    }
}
