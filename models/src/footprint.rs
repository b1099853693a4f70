//! What a model of a configuration holds and needs, from its sizes alone: parameters, image tokens, memory.
//!
//! The formulas are those of `docs/memory.md`; tests compare them with checkpoints and with a counting allocator.

use serde::Serialize;

use crate::checkpoint::names;
use crate::config::Config;

/// Numbers of parameters by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// The vision tower without its merger.
    pub vision: u64,
    /// What makes image tokens of patches.
    pub merger: u64,
    /// The embedding of tokens.
    pub embedding: u64,
    /// The language model's layers and last norm.
    pub language: u64,
    /// The output head; 0 if it is the embedding.
    pub head: u64,
}

impl Parameters {
    /// Of all parts.
    pub fn total(&self) -> u64 {
        self.vision + self.merger + self.embedding + self.language + self.head
    }
}

/// What a model holds and needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Parameters by part.
    pub parameters: Parameters,
    /// Number of tensors in a checkpoint.
    pub tensors: usize,
    /// Bytes of keys and values of a token while decoding, in f32.
    pub cache_per_token: u64,
    /// Bytes that a text token's activations take from the forward to the backward pass, in f32.
    pub activations_per_token: u64,
    /// The same of an image token, its patches in the vision tower included.
    pub activations_per_image_token: u64,
}

impl Footprint {
    /// From sizes alone.
    pub fn of(config: &Config) -> Self {
        let tensors = names(config);
        let text = 4 * text_activations(config);
        Self {
            parameters: parameters(&tensors),
            tensors: tensors.len(),
            cache_per_token: 4 * 2 * (config.text.layers * config.text.kv_heads * config.text.head_dim()) as u64,
            activations_per_token: text,
            activations_per_image_token: text + 4 * vision_activations(config),
        }
    }

    /// Bytes of the weights at so many bytes an element.
    pub fn weights(&self, element: usize) -> u64 {
        self.parameters.total() * element as u64
    }

    /// Bytes of weights (f32), gradients, the copy of them that AdamW reads, and its two moments, all parameters trained.
    pub fn full_training(&self) -> u64 {
        self.parameters.total() * (4 + 8 + 8)
    }

    /// The same when `trained` parameters are trained beside frozen weights in f32.
    pub fn adapter_training(&self, trained: u64) -> u64 {
        self.weights(4) + trained * (4 + 8 + 8)
    }
}

/// Parameters of adapters of a rank on every linear map of the tower and the language model: `rank · (in + out)` each.
pub fn adapter_parameters(config: &Config, rank: u64) -> u64 {
    linear_maps(config).iter().map(|(_, out, inputs)| rank * (out + inputs) as u64).sum()
}

/// The linear maps `(hub name, out, in)` that can be adapted: all but the patch embedding, the embedding and the head.
pub fn linear_maps(config: &Config) -> Vec<(String, usize, usize)> {
    let is_map = |name: &str| !["patch_embed", "embed_tokens", "lm_head"].iter().any(|other| name.contains(other));
    let map = |(name, shape): (String, Vec<usize>)| match shape[..] {
        [out, inputs] if is_map(&name) => Some((name.strip_suffix(".weight")?.to_owned(), out, inputs)),
        _ => None,
    };
    names(config).into_iter().filter_map(map).collect()
}

fn parameters(tensors: &[(String, Vec<usize>)]) -> Parameters {
    let mut sums = Parameters::default();
    for (name, shape) in tensors {
        let part = match name.as_str() {
            name if name.starts_with("visual.merger.") => &mut sums.merger,
            name if name.starts_with("visual.") => &mut sums.vision,
            name if name.starts_with("model.embed_tokens.") => &mut sums.embedding,
            name if name.starts_with("lm_head.") => &mut sums.head,
            _ => &mut sums.language,
        };
        *part += shape.iter().product::<usize>() as u64;
    }
    sums
}

/// Numbers that the tape keeps of a token: in each layer the two norms' inputs and outputs, queries, keys, values, the
/// attention's output and its row sums, the outputs of gate and up.
fn text_activations(config: &Config) -> u64 {
    let t = &config.text;
    let kv = t.kv_heads * t.head_dim();
    (t.layers * (6 * t.hidden_size + 2 * kv + t.heads + 2 * t.intermediate_size)) as u64
}

/// Numbers that the tape keeps of an image token's patches in the tower, and of the token in the merger.
fn vision_activations(config: &Config) -> u64 {
    let v = &config.vision;
    let patches = v.spatial_merge_size * v.spatial_merge_size;
    let block = 8 * v.hidden_size + v.heads + 2 * v.intermediate_size;
    let merged = patches * v.hidden_size;
    (patches * (v.depth * block + v.patch_len()) + 4 * merged) as u64
}
