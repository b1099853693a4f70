//! What a random checkpoint of a published size needs besides weights: a tokenizer, the chat template, the image
//! processor's and the generation's settings.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::FIRST_ADDED;
use crate::checkpoint::{AUX_FILES, CheckpointWriter};
use crate::config::Config;
use crate::error::{ModelError, Result, pretty};
use crate::nano_tokenizer::{QWEN_TOKENS, byte_char, tokenizer_settings};
use crate::tokenizer::Tokenizer;

/// Qwen2.5-VL's chat template.
const TEMPLATE: &str = include_str!("chat_template.jinja");
/// How Qwen2.5 cuts text before it looks up pieces.
const PIECES: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen2.5's added tokens after those that all models here have; none is special.
const CODE_TOKENS: [&str; 6] =
    ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"];

/// Copies the tokenizer and what goes with it from a folder, and writes what the folder lacks as it was published.
///
/// # Errors
/// `Io` naming the file; `Tokenizer` or `Config` if the folder's tokenizer does not fit `config`.
pub fn copy_companions(writer: &CheckpointWriter, config: &Config, from: &Path) -> Result<()> {
    Tokenizer::open(from)?.check(config, &from.join("tokenizer.json"))?;
    writer.aux(from)?;
    let has = |name: &str| AUX_FILES.contains(&name) && from.join(name).is_file();
    if !has("chat_template.json") && !has("chat_template.jinja") {
        writer.file("chat_template.json", template_json().as_bytes())?;
    }
    settings(writer, config, has)
}

/// Writes a tokenizer that knows the bytes and the added tokens, each under its published id, and what goes with it. Text
/// becomes ids that the published tokenizer decodes to the same text, but a token for each byte.
///
/// # Errors
/// `Io` naming the file.
pub fn write_companions(writer: &CheckpointWriter, config: &Config) -> Result<()> {
    let tokenizer = pretty(&tokenizer_json());
    let made = Tokenizer::from_bytes(tokenizer.as_bytes())?;
    if made.size() > config.text.vocab_size {
        let message = format!("{} ids do not fit a vocabulary of {}", made.size(), config.text.vocab_size);
        return Err(ModelError::Tokenizer { op: "build", message });
    }
    writer.file("tokenizer.json", tokenizer.as_bytes())?;
    writer.file("tokenizer_config.json", tokenizer_settings(&tokenizer, TEMPLATE)?.as_bytes())?;
    writer.file("chat_template.json", template_json().as_bytes())?;
    settings(writer, config, |_| false)
}

fn template_json() -> String {
    pretty(&json!({"chat_template": TEMPLATE}))
}

/// The image processor's and the generation's settings, as published, unless they are there.
fn settings(writer: &CheckpointWriter, config: &Config, has: impl Fn(&str) -> bool) -> Result<()> {
    if !has("preprocessor_config.json") {
        let (v, mean, std) =
            (&config.vision, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]);
        let json = json!({
            "min_pixels": 3136,
            "max_pixels": 12_845_056,
            "patch_size": v.patch_size,
            "temporal_patch_size": v.temporal_patch_size,
            "merge_size": v.spatial_merge_size,
            "image_mean": mean,
            "image_std": std,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
        });
        writer.file("preprocessor_config.json", pretty(&json).as_bytes())?;
    }
    if !has("generation_config.json") {
        let json = json!({
            "bos_token_id": config.tokens.bos,
            "pad_token_id": config.tokens.bos,
            "do_sample": true,
            "eos_token_id": config.tokens.eos,
            "repetition_penalty": 1.05,
            "temperature": 1e-6,
            "transformers_version": "4.49.0",
        });
        writer.file("generation_config.json", pretty(&json).as_bytes())?;
    }
    Ok(())
}

/// Qwen2.5's tokenizer without its merges: 256 bytes at ids 0..256 and the added tokens at theirs.
fn tokenizer_json() -> Value {
    let mut vocab = Map::new();
    let mut bytes: Vec<char> = (0..=255).map(byte_char).collect();
    // Visible characters come first in GPT-2's order, then the stand-ins of the hidden ones.
    bytes.sort_unstable();
    vocab.extend(bytes.into_iter().enumerate().map(|(id, byte)| (byte.to_string(), id.into())));
    let code = CODE_TOKENS.iter().map(|token| (*token, false));
    let tokens = QWEN_TOKENS.iter().copied().chain(code).zip(FIRST_ADDED..);
    let mut added = Vec::new();
    for ((token, special), id) in tokens {
        vocab.insert(token.to_owned(), id.into());
        added.push(json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": special}));
    }
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Isolated", "invert": false},
            level.clone(),
        ]},
        "post_processor": level.clone(),
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": [],
        },
    })
}
