//! The small files beside a nano model's weights: tokenizer settings, chat template, image processor, generation.

use serde_json::{Map, Value, json};

use super::QWEN_TOKENS;
use crate::error::{Result, pretty};
use crate::tokenizer::Tokenizer;

/// The nano chat template: Qwen's turns without a default system prompt, and of each tool only its name.
const TEMPLATE: &str = include_str!("chat_template.jinja");

/// Content of `chat_template.json`.
///
/// A turn is `<|im_start|>role\ncontent<|im_end|>\n`, an image `<|vision_start|><|image_pad|><|vision_end|>`. With `tools`,
/// the system text is followed by `\n# Tools` and `\n name` for each. A `tool` message is a user's turn with
/// `<tool_response>\n…\n</tool_response>`, several in a row share one; `tool_calls` follow the assistant's text as
/// `<tool_call>\n{"name": …, "arguments": …}\n</tool_call>`.
pub fn chat_template_json() -> String {
    pretty(&json!({"chat_template": TEMPLATE}))
}

/// Content of `tokenizer_config.json` for the content of a `tokenizer.json` made by [`build`](super::build).
///
/// # Errors
/// `Tokenizer` if `tokenizer` cannot be read.
pub fn tokenizer_config_json(tokenizer: &str) -> Result<String> {
    tokenizer_settings(tokenizer, TEMPLATE)
}

/// The same with another chat template.
pub(crate) fn tokenizer_settings(tokenizer: &str, template: &str) -> Result<String> {
    Tokenizer::from_bytes(tokenizer.as_bytes())?;
    let json: Value = serde_json::from_str(tokenizer).unwrap_or_default();
    let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    let mut decoder = Map::new();
    for token in added {
        let mut entry = token.as_object().cloned().unwrap_or_default();
        let id = entry.shift_remove("id").unwrap_or_default();
        decoder.insert(id.to_string(), Value::Object(entry));
    }
    let additional: Vec<&str> =
        QWEN_TOKENS.iter().filter(|(token, special)| *special && *token != "<|endoftext|>").map(|(t, _)| *t).collect();
    Ok(pretty(&json!({
        "add_bos_token": false,
        "add_prefix_space": false,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": additional,
        "bos_token": null,
        "chat_template": template,
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 32768,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": false,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": null,
    })))
}

/// Content of `preprocessor_config.json`: every image is shown at about `pixels` pixels (`min_pixels` = `max_pixels`).
/// A square of 112 × 112 is 12,544 pixels: 16 image tokens.
pub fn preprocessor_config_json(pixels: u64) -> String {
    pretty(&json!({
        "min_pixels": pixels,
        "max_pixels": pixels,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    }))
}

/// Content of `generation_config.json`: turns end at `<|im_end|>` or `<|endoftext|>`; sampling at temperature 1.
pub fn generation_config_json(tokenizer: &Tokenizer) -> String {
    let special = tokenizer.special();
    let eos: Vec<u32> = [Some(special.im_end), special.endoftext].into_iter().flatten().collect();
    pretty(&json!({
        "bos_token_id": special.endoftext,
        "pad_token_id": special.endoftext,
        "do_sample": true,
        "eos_token_id": eos,
        "temperature": 1.0,
        "transformers_version": "4.49.0",
    }))
}
