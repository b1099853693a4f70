//! The published sizes of Qwen2.5-VL, and random checkpoints of them.

mod companions;

use imagent_core::seed;
use rand::Rng;
use rand_distr::StandardNormal;

use crate::checkpoint::CheckpointWriter;
use crate::config::{Config, Dtype, TextConfig, TokenIds, VisionConfig};
use crate::error::Result;

pub use companions::{copy_companions, write_companions};

/// Names the stream of initial weights.
const STREAM: u64 = 0x7175_6265;
/// Id of the first added token, `<|endoftext|>`.
const FIRST_ADDED: u32 = 151_643;
/// Elements that come from one generator; divides the pieces in which tensors are written.
const BLOCK: usize = 1 << 16;

/// A size that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 3,754,622,976 parameters, the head tied to the embedding.
    B3,
    /// 8,292,166,656 parameters.
    B7,
    /// 33,452,718,336 parameters.
    B32,
    /// 73,410,777,344 parameters.
    B72,
}

impl Size {
    /// The configuration that was published, in bf16.
    pub fn config(self) -> Config {
        let (hidden_size, intermediate_size, layers, heads, kv_heads) = match self {
            Self::B3 => (2048, 11_008, 36, 16, 2),
            Self::B7 => (3584, 18_944, 28, 28, 4),
            Self::B32 => (5120, 27_648, 64, 40, 8),
            Self::B72 => (8192, 29_568, 80, 64, 8),
        };
        let small = matches!(self, Self::B3 | Self::B7);
        Config {
            text: TextConfig {
                hidden_size,
                intermediate_size,
                layers,
                heads,
                kv_heads,
                vocab_size: if self == Self::B3 { 151_936 } else { 152_064 },
                rms_norm_eps: 1e-6,
                rope_theta: 1e6,
                mrope_section: [16, 24, 24],
                tie_word_embeddings: self == Self::B3,
                max_position_embeddings: 128_000,
                initializer_range: 0.02,
            },
            vision: VisionConfig {
                depth: 32,
                hidden_size: 1280,
                intermediate_size: if small { 3420 } else { 3456 },
                heads: 16,
                patch_size: 14,
                temporal_patch_size: 2,
                spatial_merge_size: 2,
                window_size: 112,
                fullatt_block_indexes: vec![7, 15, 23, 31],
                in_channels: 3,
                out_hidden_size: hidden_size,
                tokens_per_second: 2.0,
            },
            tokens: tokens(),
            dtype: Dtype::Bf16,
        }
    }
}

/// Ids of the published tokenizer.
fn tokens() -> TokenIds {
    let id = |place: u32| FIRST_ADDED + place;
    TokenIds {
        image: id(12),
        video: id(13),
        vision_start: id(9),
        vision_end: id(10),
        vision_pad: Some(id(11)),
        bos: Some(id(0)),
        eos: vec![id(2), id(0)],
    }
}

/// Writes random weights of any configuration, and `config.json`, as Hugging Face would initialise the model: norms 1,
/// biases 0, all else normal with deviation `initializer_range`. A value is a function of `seed`, the tensor's name and the
/// element's place, whatever the number of threads and however the model is divided into files.
///
/// # Errors
/// `Io` naming the file.
pub fn write_random(
    writer: &CheckpointWriter,
    config: &Config,
    seed: u64,
    (dtype, shard_size): (Dtype, u64),
    done: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    let deviation = config.text.initializer_range as f32;
    let fill = |name: &str, shape: &[usize], first: usize, values: &mut [f32]| match shape {
        [_] => values.fill(if name.ends_with("bias") { 0.0 } else { 1.0 }),
        _ => normal(seed, name, deviation, first, values),
    };
    writer.model_from(config, (dtype, shard_size), &fill, done)
}

/// Elements `first..` of a tensor; `first` is a multiple of [`BLOCK`].
fn normal(seed: u64, name: &str, deviation: f32, first: usize, values: &mut [f32]) {
    let tensor = seed::derive(seed, &[STREAM, seed::text(name)]);
    for (number, block) in values.chunks_mut(BLOCK).enumerate() {
        let mut rng = seed::rng(tensor, &[(first / BLOCK + number) as u64]);
        block.iter_mut().for_each(|value| *value = deviation * rng.sample::<f32, _>(StandardNormal));
    }
}
