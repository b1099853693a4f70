//! Which parameters each layer uses: hub names looked up once, when a model is built.

use std::sync::Arc;

use imagent_core::seed;

use super::weights::{MatrixId, VectorId, Weights};
use crate::config::Config;
use crate::error::Result;
use crate::ops::Kernels;

/// A linear map's weight and bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: MatrixId,
    pub(crate) bias: Option<VectorId>,
    /// Index into [`Layout::modules`]; `None` for the patch embedding, which is a convolution and is not adapted.
    pub(crate) module: Option<usize>,
}

/// A linear map that can be adapted.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    /// Its name on the hub.
    pub(crate) name: String,
    /// Names it in the keys of random choices.
    pub(crate) key: u64,
    pub(crate) weight: MatrixId,
    /// Whether it is in the tower.
    pub(crate) vision: bool,
}

/// One block of the vision tower.
#[derive(Clone, Debug)]
pub(crate) struct VisionBlock {
    pub(crate) norm1: VectorId,
    pub(crate) norm2: VectorId,
    pub(crate) qkv: Linear,
    pub(crate) proj: Linear,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// One decoder layer.
#[derive(Clone, Debug)]
pub(crate) struct TextLayer {
    pub(crate) input_norm: VectorId,
    pub(crate) post_norm: VectorId,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) patch_embed: Linear,
    pub(crate) blocks: Vec<VisionBlock>,
    pub(crate) merger_norm: VectorId,
    /// Without its bias, which is added on the way into the unit.
    pub(crate) merger1: Linear,
    pub(crate) merger1_bias: VectorId,
    pub(crate) merger2: Linear,
    pub(crate) embed: MatrixId,
    pub(crate) layers: Vec<TextLayer>,
    pub(crate) norm: VectorId,
    pub(crate) head: MatrixId,
    /// Every linear map but the head and the patch embedding, in order.
    pub(crate) modules: Arc<Vec<Module>>,
    /// For each module the pair of the adapter that it has; empty without an adapter.
    pub(crate) adapted: Vec<Option<usize>>,
}

impl Layout {
    /// Looks up every name.
    pub(crate) fn new<D: Kernels>(config: &Config, weights: &Weights<D>) -> Result<Self> {
        let mut names = Names { weights, modules: Vec::new() };
        let patch_embed = weights.matrix_id("visual.patch_embed.proj.weight")?;
        let blocks = (0..config.vision.depth).map(|i| names.vision_block(i)).collect::<Result<_>>()?;
        let merger1 = names.linear("visual.merger.mlp.0", false)?;
        let merger1_bias = weights.vector_id("visual.merger.mlp.0.bias")?;
        let merger2 = names.linear("visual.merger.mlp.2", true)?;
        let layers = (0..config.text.layers).map(|i| names.text_layer(i)).collect::<Result<_>>()?;
        let embed = weights.matrix_id("model.embed_tokens.weight")?;
        let tied = config.text.tie_word_embeddings;
        Ok(Self {
            patch_embed: Linear { weight: patch_embed, bias: None, module: None },
            blocks,
            merger_norm: weights.vector_id("visual.merger.ln_q.weight")?,
            merger1,
            merger1_bias,
            merger2,
            embed,
            layers,
            norm: weights.vector_id("model.norm.weight")?,
            head: if tied { embed } else { weights.matrix_id("lm_head.weight")? },
            modules: Arc::new(names.modules),
            adapted: Vec::new(),
        })
    }
}

struct Names<'a, D: Kernels> {
    weights: &'a Weights<D>,
    modules: Vec<Module>,
}

impl<D: Kernels> Names<'_, D> {
    fn linear(&mut self, name: &str, bias: bool) -> Result<Linear> {
        let weight = self.weights.matrix_id(&format!("{name}.weight"))?;
        let bias = if bias { Some(self.weights.vector_id(&format!("{name}.bias"))?) } else { None };
        let (vision, key) = (name.starts_with("visual."), seed::text(name));
        self.modules.push(Module { name: name.to_owned(), key, weight, vision });
        Ok(Linear { weight, bias, module: Some(self.modules.len() - 1) })
    }

    fn vision_block(&mut self, i: usize) -> Result<VisionBlock> {
        let at = |part: &str| format!("visual.blocks.{i}.{part}");
        Ok(VisionBlock {
            norm1: self.weights.vector_id(&at("norm1.weight"))?,
            norm2: self.weights.vector_id(&at("norm2.weight"))?,
            qkv: self.linear(&at("attn.qkv"), true)?,
            proj: self.linear(&at("attn.proj"), true)?,
            gate: self.linear(&at("mlp.gate_proj"), true)?,
            up: self.linear(&at("mlp.up_proj"), true)?,
            down: self.linear(&at("mlp.down_proj"), true)?,
        })
    }

    fn text_layer(&mut self, i: usize) -> Result<TextLayer> {
        let at = |part: &str| format!("model.layers.{i}.{part}");
        Ok(TextLayer {
            input_norm: self.weights.vector_id(&at("input_layernorm.weight"))?,
            post_norm: self.weights.vector_id(&at("post_attention_layernorm.weight"))?,
            q: self.linear(&at("self_attn.q_proj"), true)?,
            k: self.linear(&at("self_attn.k_proj"), true)?,
            v: self.linear(&at("self_attn.v_proj"), true)?,
            o: self.linear(&at("self_attn.o_proj"), false)?,
            gate: self.linear(&at("mlp.gate_proj"), false)?,
            up: self.linear(&at("mlp.up_proj"), false)?,
            down: self.linear(&at("mlp.down_proj"), false)?,
        })
    }
}
