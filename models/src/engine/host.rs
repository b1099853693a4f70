//! The language model's weights on the host, as the engine reads them once per step.

use crate::config::TextConfig;
use crate::error::Result;
use crate::ops::Kernels;
use crate::qwen::model::Qwen;

/// A linear map: weight `[out, in]` and bias.
pub(crate) struct HostLinear {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) out: usize,
}

/// One decoder layer.
pub(crate) struct HostLayer {
    pub(crate) input_norm: Vec<f32>,
    pub(crate) post_norm: Vec<f32>,
    /// Queries, keys and values as one map: rows of q, then k, then v.
    pub(crate) qkv: HostLinear,
    pub(crate) o: HostLinear,
    /// Gate, then up.
    pub(crate) gate_up: HostLinear,
    pub(crate) down: HostLinear,
}

/// The language model's weights.
pub(crate) struct HostModel {
    pub(crate) config: TextConfig,
    pub(crate) embed: Vec<f32>,
    pub(crate) layers: Vec<HostLayer>,
    pub(crate) norm: Vec<f32>,
    /// `None` when tied to the embedding.
    pub(crate) head: Option<Vec<f32>>,
}

impl HostModel {
    /// Copies the language model's weights from the device, an adapter merged into them.
    pub(crate) fn new<D: Kernels>(model: &Qwen<D>) -> Result<Self> {
        let config = model.config.text.clone();
        let get = |name: &str| model.weights.index(name).map(|index| model.merged(index));
        let layers = (0..config.layers).map(|i| layer(i, &get)).collect::<Result<_>>()?;
        let head = if config.tie_word_embeddings { None } else { Some(get("lm_head.weight")?) };
        Ok(Self { embed: get("model.embed_tokens.weight")?, norm: get("model.norm.weight")?, layers, head, config })
    }

    pub(crate) fn head(&self) -> &[f32] {
        self.head.as_deref().unwrap_or(&self.embed)
    }
}

fn layer(i: usize, get: &impl Fn(&str) -> Result<Vec<f32>>) -> Result<HostLayer> {
    let at = |part: &str| get(&format!("model.layers.{i}.{part}"));
    let stack = |names: &[&str], kind: &str| -> Result<Vec<f32>> {
        let parts = names.iter().map(|name| at(&format!("{name}.{kind}"))).collect::<Result<Vec<_>>>()?;
        Ok(parts.concat())
    };
    let (input_norm, post_norm) = (at("input_layernorm.weight")?, at("post_attention_layernorm.weight")?);
    let width = input_norm.len();
    let linear = |weight: Vec<f32>, bias, input: usize| HostLinear { out: weight.len() / input, weight, bias };
    let projections = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
    let qkv = linear(stack(&projections, "weight")?, Some(stack(&projections, "bias")?), width);
    let o = at("self_attn.o_proj.weight")?;
    let attention_width = o.len() / width;
    let gate_up = linear(stack(&["mlp.gate_proj", "mlp.up_proj"], "weight")?, None, width);
    let down = at("mlp.down_proj.weight")?;
    let inner = down.len() / width;
    Ok(HostLayer {
        input_norm,
        post_norm,
        qkv,
        o: linear(o, None, attention_width),
        gate_up,
        down: linear(down, None, inner),
    })
}
