//! The nano model: a Qwen2.5-VL of about a million parameters that trains on a laptop's processor.

use std::path::Path;

use imagent_core::seed;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointWriter, SHARD_SIZE, names};
use crate::config::{Config, Dtype, TextConfig, TokenIds, VisionConfig};
use crate::error::{ModelError, Result};
use crate::nano_tokenizer::{
    NanoVocabulary, build, chat_template_json, generation_config_json, preprocessor_config_json, tokenizer_config_json,
};
use crate::tokenizer::Tokenizer;

/// Names the stream of initial weights.
const STREAM: u64 = 0x6e61_6e6f;

/// Sizes of a nano model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NanoConfig {
    /// Width of the language model.
    pub hidden_size: usize,
    /// Its layers.
    pub layers: usize,
    /// Its query heads; there are half as many key heads.
    pub heads: usize,
    /// Width of its MLP.
    pub intermediate_size: usize,
    /// Width of the vision tower.
    pub vision_hidden_size: usize,
    /// Its blocks; all see the whole image.
    pub vision_depth: usize,
    /// Its heads.
    pub vision_heads: usize,
    /// Width of its MLP.
    pub vision_intermediate_size: usize,
    /// Pixels of an image as shown.
    pub pixels: u64,
    /// Linear maps start uniform with standard deviation `linear_init / √fan_in`.
    pub linear_init: f64,
    /// Embeddings start with this standard deviation.
    pub embedding_init: f64,
}

impl Default for NanoConfig {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            layers: 6,
            heads: 4,
            intermediate_size: 384,
            vision_hidden_size: 128,
            vision_depth: 2,
            vision_heads: 4,
            vision_intermediate_size: 256,
            pixels: 112 * 112,
            linear_init: 0.6,
            embedding_init: 0.05,
        }
    }
}

/// Writes a random nano checkpoint whose tokenizer knows these words and phrases, and numbers up to 112.
///
/// # Errors
/// `Tokenizer` for a word that cannot be one token, `Io` naming the file.
pub fn init(dir: &Path, nano: &NanoConfig, words: &[&str], phrases: &[&str], seed: u64) -> Result<()> {
    let writer = CheckpointWriter::new(dir)?;
    write(&writer, nano, (words, phrases), seed, (Dtype::F32, SHARD_SIZE))?;
    writer.finish()
}

/// The same into a folder that is being written, with an element type and most bytes of tensors in a file. Returns the
/// configuration.
///
/// # Errors
/// As [`init`].
pub fn write(
    writer: &CheckpointWriter,
    nano: &NanoConfig,
    (words, phrases): (&[&str], &[&str]),
    seed: u64,
    kind: (Dtype, u64),
) -> Result<Config> {
    let json = build(&NanoVocabulary { words, phrases, numbers: 0..=112 })?;
    let tokenizer = Tokenizer::from_bytes(json.as_bytes())?;
    let config = config(nano, &tokenizer)?;
    let tensors = names(&config).into_iter().map(|(name, shape)| {
        let values = values(nano, &name, &shape, seed);
        (name, shape, values)
    });
    writer.model_sharded(&config, tensors, kind)?;
    writer.file("tokenizer_config.json", tokenizer_config_json(&json)?.as_bytes())?;
    writer.file("tokenizer.json", json.as_bytes())?;
    writer.file("chat_template.json", chat_template_json().as_bytes())?;
    writer.file("preprocessor_config.json", preprocessor_config_json(nano.pixels).as_bytes())?;
    writer.file("generation_config.json", generation_config_json(&tokenizer).as_bytes())?;
    Ok(config)
}

fn config(nano: &NanoConfig, tokenizer: &Tokenizer) -> Result<Config> {
    let special = tokenizer.special();
    let half = nano.hidden_size / nano.heads.max(1) / 2;
    let side = half * 3 / 8;
    let need = |id: Option<u32>, token: &str| {
        id.ok_or_else(|| ModelError::Tokenizer { op: "read", message: format!("{token} is missing") })
    };
    Ok(Config {
        text: TextConfig {
            hidden_size: nano.hidden_size,
            intermediate_size: nano.intermediate_size,
            layers: nano.layers,
            heads: nano.heads,
            kv_heads: (nano.heads / 2).max(1),
            vocab_size: tokenizer.size().next_multiple_of(32),
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            mrope_section: [half - 2 * side, side, side],
            tie_word_embeddings: true,
            max_position_embeddings: 32_768,
            initializer_range: 0.02,
        },
        vision: VisionConfig {
            depth: nano.vision_depth,
            hidden_size: nano.vision_hidden_size,
            intermediate_size: nano.vision_intermediate_size,
            heads: nano.vision_heads,
            patch_size: 14,
            temporal_patch_size: 2,
            spatial_merge_size: 2,
            window_size: 112,
            fullatt_block_indexes: (0..nano.vision_depth).collect(),
            in_channels: 3,
            out_hidden_size: nano.hidden_size,
            tokens_per_second: 2.0,
        },
        tokens: TokenIds {
            image: special.image_pad,
            video: need(special.video_pad, "<|video_pad|>")?,
            vision_start: special.vision_start,
            vision_end: special.vision_end,
            vision_pad: special.vision_pad,
            bos: special.endoftext,
            eos: [Some(special.im_end), special.endoftext].into_iter().flatten().collect(),
        },
        dtype: Dtype::F32,
    })
}

/// Norms 1, biases 0, matrices uniform with the configured deviation.
fn values(nano: &NanoConfig, name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let count = shape.iter().product();
    if let [_] = shape {
        return vec![if name.ends_with("bias") { 0.0 } else { 1.0 }; count];
    }
    let fan_in = shape[1..].iter().product::<usize>() as f64;
    let embedding = name.contains("embed_tokens") || name.contains("lm_head");
    let deviation = if embedding { nano.embedding_init } else { nano.linear_init / fan_in.sqrt() };
    let reach = (deviation * 3f64.sqrt()) as f32;
    let mut rng: ChaCha8Rng = seed::rng(seed, &[STREAM, seed::text(name)]);
    (0..count).map(|_| rng.random_range(-reach..reach)).collect()
}
