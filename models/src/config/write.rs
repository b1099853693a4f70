//! Writes a [`Config`] as the published (flat) `config.json`.

use serde_json::{Value, json};

use super::{Config, VisionConfig};

/// See [`Config::to_json`].
pub(super) fn to_json(config: &Config) -> Value {
    let (t, ids) = (&config.text, &config.tokens);
    let eos = ids.eos.first().copied();
    json!({
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "image_token_id": ids.image,
        "video_token_id": ids.video,
        "vision_start_token_id": ids.vision_start,
        "vision_end_token_id": ids.vision_end,
        "vision_token_id": ids.vision_pad,
        "tie_word_embeddings": t.tie_word_embeddings,
        "bos_token_id": ids.bos,
        "eos_token_id": eos,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": t.hidden_size,
        "initializer_range": t.initializer_range,
        "intermediate_size": t.intermediate_size,
        "max_position_embeddings": t.max_position_embeddings,
        "max_window_layers": t.layers,
        "num_attention_heads": t.heads,
        "num_hidden_layers": t.layers,
        "num_key_value_heads": t.kv_heads,
        "rms_norm_eps": t.rms_norm_eps,
        "rope_scaling": {"type": "mrope", "mrope_section": t.mrope_section},
        "rope_theta": t.rope_theta,
        "sliding_window": 32768,
        "use_cache": true,
        "use_sliding_window": false,
        "vocab_size": t.vocab_size,
        "torch_dtype": config.dtype.torch_name(),
        "transformers_version": "4.49.0",
        "vision_config": vision(&config.vision),
    })
}

fn vision(v: &VisionConfig) -> Value {
    json!({
        "model_type": "qwen2_5_vl",
        "depth": v.depth,
        "hidden_act": "silu",
        "hidden_size": v.hidden_size,
        "intermediate_size": v.intermediate_size,
        "num_heads": v.heads,
        "in_chans": v.in_channels,
        "in_channels": v.in_channels,
        "out_hidden_size": v.out_hidden_size,
        "patch_size": v.patch_size,
        "spatial_patch_size": v.patch_size,
        "spatial_merge_size": v.spatial_merge_size,
        "temporal_patch_size": v.temporal_patch_size,
        "window_size": v.window_size,
        "fullatt_block_indexes": v.fullatt_block_indexes,
        "tokens_per_second": tokens_per_second(v.tokens_per_second),
    })
}

/// transformers 5 wants an integer here; a whole number is written as one.
fn tokens_per_second(value: f64) -> Value {
    if value.fract() == 0.0 { Value::from(value as u64) } else { Value::from(value) }
}
