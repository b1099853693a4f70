//! The model's configuration: `config.json` in its published (flat) and newer (nested) form, read into plain structs.
//!
//! `raw` is the file as parsed, without judgement; the structs here are validated: a [`Config`] that exists can be run.
//! Sizes that differ between published models must be in the file: Hugging Face's class defaults describe another model.

mod raw;
mod write;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Result, read_json};

/// Element type of weights in files. In memory weights that are trained are f32; those of inference may stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// The name `config.json` uses, e.g. `bfloat16`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Sizes and constants of the language model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Rows of the embedding; at least the tokenizer's size, often more.
    pub vocab_size: usize,
    /// Added under the root of every RMS norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the half head dimension is divided among time, height and width; sums to `head_dim / 2`.
    pub mrope_section: [usize; 3],
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Longest sequence the publisher vouches for, in tokens; not enforced.
    pub max_position_embeddings: usize,
    /// Standard deviation of Hugging Face's initialisation; only written back.
    pub initializer_range: f64,
}

impl TextConfig {
    /// Width of a head, `hidden_size / heads`.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.heads
    }
}

/// Sizes and constants of the vision tower. Its RMS norms use 1e-6 and its rotary base is 10000, both fixed in the
/// reference implementation.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width of the tower.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of heads.
    pub heads: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch; a still image is repeated that often.
    pub temporal_patch_size: usize,
    /// Side, in patches, of the square that becomes one image token.
    pub spatial_merge_size: usize,
    /// Side of an attention window in pixels.
    pub window_size: usize,
    /// Blocks that attend to the whole image instead of a window.
    pub fullatt_block_indexes: Vec<usize>,
    /// Colour channels.
    pub in_channels: usize,
    /// Width of an image token; equals the language model's `hidden_size`.
    pub out_hidden_size: usize,
    /// Positions per second of video; only written back.
    pub tokens_per_second: f64,
}

impl VisionConfig {
    /// Width of a head, `hidden_size / heads`.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// Numbers in a patch: channels × frames × side².
    pub fn patch_len(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Side of an attention window in image tokens (merged cells).
    pub fn window_cells(&self) -> usize {
        self.window_size / self.patch_size / self.spatial_merge_size
    }
}

/// Ids of the tokens with a meaning to the model or the decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds {
    /// `<|image_pad|>`: replaced by an image token's embedding.
    pub image: u32,
    /// `<|video_pad|>`.
    pub video: u32,
    /// `<|vision_start|>`.
    pub vision_start: u32,
    /// `<|vision_end|>`.
    pub vision_end: u32,
    /// `<|vision_pad|>`, where the file tells.
    pub vision_pad: Option<u32>,
    /// `<|endoftext|>`, where the file tells.
    pub bos: Option<u32>,
    /// Tokens that end a turn: those of `generation_config.json` if it lists any, else those of `config.json`.
    pub eos: Vec<u32>,
}

/// A validated Qwen2.5-VL configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The language model.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Special tokens.
    pub tokens: TokenIds,
    /// Element type the checkpoint's files are in.
    pub dtype: Dtype,
}

impl Config {
    /// Reads `config.json`, and the end-of-turn ids of `generation_config.json` where there is one, from a folder.
    ///
    /// # Errors
    /// `Io` or `Json` naming the file; `Config` naming the field that is missing or cannot be run.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut config = Self::from_json(&read_json(&dir.join("config.json"))?)?;
        let generation = dir.join("generation_config.json");
        if generation.is_file() {
            let eos = raw::generation_eos(&read_json(&generation)?)?;
            if !eos.is_empty() {
                config.tokens.eos = eos;
            }
        }
        Ok(config)
    }

    /// Validates a parsed `config.json`, flat or nested.
    ///
    /// # Errors
    /// `Config` naming the field that is missing or cannot be run.
    pub fn from_json(json: &serde_json::Value) -> Result<Self> {
        raw::validate(json)
    }

    /// A `config.json` in the published (flat) form, which transformers 4.49 and later load.
    pub fn to_json(&self) -> serde_json::Value {
        write::to_json(self)
    }
}
