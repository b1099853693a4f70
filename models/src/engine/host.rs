//! The language model's weights on the host, as the engine reads them once per step: lent, in the type they are stored in.

use std::borrow::Cow;

use crate::config::TextConfig;
use crate::ops::product::{self, Part};
use crate::ops::{Kernels, Lent};
use crate::qwen::layout::Linear;
use crate::qwen::model::Qwen;
use crate::qwen::weights::VectorId;

/// Linear maps of the same rows, side by side.
pub(crate) struct HostLinear<'a>(Vec<HostPart<'a>>);

/// A linear map: weight `[outputs, inputs]` and bias.
struct HostPart<'a> {
    weight: Lent<'a>,
    bias: Option<Cow<'a, [f32]>>,
    outputs: usize,
}

impl HostLinear<'_> {
    /// Width of the result.
    pub(crate) fn outputs(&self) -> usize {
        self.0.iter().map(|part| part.outputs).sum()
    }

    /// Rows of `x[rows, inputs]` through all maps: `[rows, outputs]`.
    pub(crate) fn apply(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let mut y = vec![0.0; rows * self.outputs()];
        let parts: Vec<Part<'_>> = (self.0.iter())
            .map(|part| Part { weight: part.weight.elements(), bias: part.bias.as_deref(), outputs: part.outputs })
            .collect();
        product::forward(&mut y, x, &parts, x.len().checked_div(rows).unwrap_or(0));
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
    pub(crate) embed: Lent<'a>,
    pub(crate) layers: Vec<HostLayer<'a>>,
    pub(crate) norm: Cow<'a, [f32]>,
    pub(crate) head: HostLinear<'a>,
}

impl<'a> HostModel<'a> {
    /// Borrows the language model's weights; copies those that are on another device, and those that an adapter changes,
    /// which is merged into them.
    pub(crate) fn new<D: Kernels>(model: &'a Qwen<D>) -> Self {
        let layout = &model.layout;
        let vector = |id: VectorId| D::lend_vector(model.weights.vector(id).values);
        let layers = layout.layers.iter().map(|layer| HostLayer {
            input_norm: vector(layer.input_norm),
            post_norm: vector(layer.post_norm),
            qkv: linear(model, &[layer.q, layer.k, layer.v]),
            o: linear(model, &[layer.o]),
            gate_up: linear(model, &[layer.gate, layer.up]),
            down: linear(model, &[layer.down]),
        });
        Self {
            config: &model.config.text,
            embed: model.weights.matrix(layout.embed).values.lend(),
            layers: layers.collect(),
            norm: vector(layout.norm),
            head: linear(model, &[Linear { weight: layout.head, bias: None, module: None }]),
        }
    }
}

fn linear<'a, D: Kernels>(model: &'a Qwen<D>, maps: &[Linear]) -> HostLinear<'a> {
    let part = |map: &Linear| HostPart {
        weight: model.lend(*map),
        bias: map.bias.map(|id| D::lend_vector(model.weights.vector(id).values)),
        outputs: model.weights.matrix(map.weight).values.shape().0,
    };
    HostLinear(maps.iter().map(part).collect())
}
