//! From a parsed `config.json` to a validated [`Config`]: finds each field in either form, and says which one is wrong.

use serde_json::Value;

use super::{Config, Dtype, TextConfig, TokenIds, VisionConfig};
use crate::error::{ModelError, Result};

const FILE: &str = "config.json";

/// An object of the file and where it is, so that errors can name fields in full.
struct Section<'a> {
    at: &'static str,
    value: &'a Value,
}

fn wrong(field: String, expected: impl Into<String>, got: impl ToString) -> ModelError {
    ModelError::Config { file: FILE.into(), field, expected: expected.into(), got: got.to_string() }
}

/// Far more layers than any model has.
const MOST_LAYERS: usize = 4096;

impl<'a> Section<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.at)
    }

    fn missing(&self, key: &str, expected: &str) -> ModelError {
        wrong(self.path(key), expected, "nothing")
    }

    fn size(&self, key: &str) -> Result<usize> {
        let value = self.get(key).ok_or_else(|| self.missing(key, "a positive integer"))?;
        as_size(value).ok_or_else(|| wrong(self.path(key), "a positive integer below 2^31", value))
    }

    /// How many layers: what a list of their tensors is made for before any file is looked at.
    fn layers(&self, key: &str) -> Result<usize> {
        let count = self.size(key)?;
        if count > MOST_LAYERS {
            return Err(wrong(self.path(key), format!("at most {MOST_LAYERS} layers"), count));
        }
        Ok(count)
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_some() { self.size(key) } else { Ok(default) }
    }

    fn real_or(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v
                .as_f64()
                .filter(|x| x.is_finite() && *x > 0.0)
                .ok_or_else(|| wrong(self.path(key), "a positive number", v)),
        }
    }

    fn id(&self, key: &str) -> Result<Option<u32>> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => as_id(v).map(Some).ok_or_else(|| wrong(self.path(key), "a token id", v)),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => v.as_bool().map(Some).ok_or_else(|| wrong(self.path(key), "true or false", v)),
        }
    }

    /// Refuses any value but `accepted` (absent is fine).
    fn only(&self, key: &str, accepted: &[Value]) -> Result<()> {
        match self.get(key) {
            Some(v) if !accepted.contains(v) => {
                let list: Vec<String> = accepted.iter().map(Value::to_string).collect();
                Err(wrong(self.path(key), list.join(" or "), v))
            }
            _ => Ok(()),
        }
    }
}

fn as_size(value: &Value) -> Option<usize> {
    value.as_u64().filter(|&n| n > 0 && n < 1 << 31).map(|n| n as usize)
}

fn as_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok())
}

/// One id, or a list of ids.
fn ids(value: &Value) -> Option<Vec<u32>> {
    match value {
        Value::Array(list) => list.iter().map(as_id).collect(),
        one => as_id(one).map(|id| vec![id]),
    }
}

/// `eos_token_id` of a parsed `generation_config.json`; empty if it has none.
pub(super) fn generation_eos(json: &Value) -> Result<Vec<u32>> {
    match json.get("eos_token_id").filter(|v| !v.is_null()) {
        None => Ok(Vec::new()),
        Some(v) => ids(v).ok_or_else(|| ModelError::Config {
            file: "generation_config.json".into(),
            field: "eos_token_id".into(),
            expected: "a token id or a list of them".into(),
            got: v.to_string(),
        }),
    }
}

/// See [`Config::from_json`].
pub(super) fn validate(json: &Value) -> Result<Config> {
    let root = Section { at: "", value: json };
    if !json.is_object() {
        return Err(wrong("(root)".into(), "an object", json));
    }
    match root.get("model_type") {
        Some(Value::String(s)) if s == "qwen2_5_vl" => {}
        other => {
            return Err(wrong("model_type".into(), "\"qwen2_5_vl\"", other.unwrap_or(&Value::Null)));
        }
    }
    let text = match root.get("text_config") {
        Some(value) => Section { at: "text_config.", value },
        None => Section { at: "", value: json },
    };
    let vision = root.get("vision_config").ok_or_else(|| root.missing("vision_config", "an object"))?;
    let vision = Section { at: "vision_config.", value: vision };
    if let Some(method) = root.get("quantization_config") {
        let got = method.get("quant_method").unwrap_or(method);
        return Err(wrong("quantization_config".into(), "none: weights in float32, float16 or bfloat16", got));
    }
    let config = Config {
        text: text_config(&root, &text)?,
        vision: vision_config(&vision)?,
        tokens: token_ids(&root, &text)?,
        dtype: dtype(&root, &text)?,
    };
    check_text(&config.text, &text)?;
    check_vision(&config, &vision)?;
    Ok(config)
}

fn text_config(root: &Section<'_>, text: &Section<'_>) -> Result<TextConfig> {
    text.only("hidden_act", &["silu".into()])?;
    text.only("use_sliding_window", &[false.into()])?;
    let heads = text.size("num_attention_heads")?;
    let tie = match root.flag("tie_word_embeddings")? {
        Some(tie) => tie,
        None => {
            text.flag("tie_word_embeddings")?.ok_or_else(|| root.missing("tie_word_embeddings", "true or false"))?
        }
    };
    let (rope_theta, mrope_section) = rope(text)?;
    Ok(TextConfig {
        hidden_size: text.size("hidden_size")?,
        intermediate_size: text.size("intermediate_size")?,
        layers: text.layers("num_hidden_layers")?,
        heads,
        kv_heads: text.size_or("num_key_value_heads", heads)?,
        vocab_size: text.size("vocab_size")?,
        rms_norm_eps: text.real_or("rms_norm_eps", 1e-5)?,
        rope_theta,
        mrope_section,
        tie_word_embeddings: tie,
        max_position_embeddings: text.size_or("max_position_embeddings", 32768)?,
        initializer_range: text.real_or("initializer_range", 0.02)?,
    })
}

/// Rotary base and M-RoPE sections, from `rope_parameters` (newer) or `rope_scaling` and `rope_theta` (published).
fn rope(text: &Section<'_>) -> Result<(f64, [usize; 3])> {
    let key = if text.get("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
    let value = text.get(key).ok_or_else(|| text.missing(key, "an object with mrope_section"))?;
    for kind in ["type", "rope_type"] {
        match value.get(kind) {
            None | Some(Value::Null) => {}
            Some(Value::String(s)) if s == "mrope" || s == "default" => {}
            Some(other) => {
                return Err(wrong(text.path(&format!("{key}.{kind}")), "\"mrope\" or \"default\"", other));
            }
        }
    }
    let inner = Section { at: "", value };
    let theta = match inner.get("rope_theta") {
        Some(_) => inner.real_or("rope_theta", 0.0)?,
        None => text.real_or("rope_theta", 1e6)?,
    };
    let list = value.get("mrope_section").unwrap_or(&Value::Null);
    let section: Option<Vec<usize>> = list.as_array().and_then(|a| a.iter().map(as_size).collect());
    let section: Option<[usize; 3]> = section.and_then(|s| s.try_into().ok());
    let field = || text.path(&format!("{key}.mrope_section"));
    Ok((theta, section.ok_or_else(|| wrong(field(), "three positive integers", list))?))
}

fn vision_config(vision: &Section<'_>) -> Result<VisionConfig> {
    vision.only("hidden_act", &["silu".into()])?;
    let channels = if vision.get("in_channels").is_some() { "in_channels" } else { "in_chans" };
    let key = "fullatt_block_indexes";
    let full = vision.get(key).ok_or_else(|| vision.missing(key, "a list of blocks"))?;
    let blocks: Option<Vec<usize>> =
        full.as_array().and_then(|a| a.iter().map(|v| v.as_u64().map(|n| n as usize)).collect());
    Ok(VisionConfig {
        depth: vision.layers("depth")?,
        hidden_size: vision.size("hidden_size")?,
        intermediate_size: vision.size("intermediate_size")?,
        heads: vision.size("num_heads")?,
        patch_size: vision.size_or("patch_size", 14)?,
        temporal_patch_size: vision.size_or("temporal_patch_size", 2)?,
        spatial_merge_size: vision.size_or("spatial_merge_size", 2)?,
        window_size: vision.size_or("window_size", 112)?,
        fullatt_block_indexes: blocks.ok_or_else(|| wrong(vision.path(key), "a list of blocks", full))?,
        in_channels: vision.size_or(channels, 3)?,
        out_hidden_size: vision.size("out_hidden_size")?,
        tokens_per_second: vision.real_or("tokens_per_second", 4.0)?,
    })
}

fn token_ids(root: &Section<'_>, text: &Section<'_>) -> Result<TokenIds> {
    let required = |key: &str| root.id(key)?.ok_or_else(|| root.missing(key, "a token id"));
    let eos = root.get("eos_token_id").or_else(|| text.get("eos_token_id"));
    let eos = match eos {
        None => Vec::new(),
        Some(v) => ids(v).ok_or_else(|| wrong("eos_token_id".into(), "a token id or a list of them", v))?,
    };
    let bos = root.id("bos_token_id")?;
    Ok(TokenIds {
        image: required("image_token_id")?,
        video: required("video_token_id")?,
        vision_start: required("vision_start_token_id")?,
        vision_end: required("vision_end_token_id")?,
        vision_pad: root.id("vision_token_id")?,
        bos: if bos.is_some() { bos } else { text.id("bos_token_id")? },
        eos,
    })
}

fn dtype(root: &Section<'_>, text: &Section<'_>) -> Result<Dtype> {
    let keys = ["dtype", "torch_dtype"];
    let found = keys.iter().find_map(|k| root.get(k).or_else(|| text.get(k)));
    match found.and_then(Value::as_str).map(|s| s.trim_start_matches("torch.")) {
        None | Some("float32" | "auto") => Ok(Dtype::F32),
        Some("float16") => Ok(Dtype::F16),
        Some("bfloat16") => Ok(Dtype::Bf16),
        Some(other) => Err(wrong("dtype".into(), "float32, float16 or bfloat16", other)),
    }
}

fn check_text(c: &TextConfig, at: &Section<'_>) -> Result<()> {
    if !c.hidden_size.is_multiple_of(c.heads) {
        return Err(wrong(
            at.path("num_attention_heads"),
            format!("a divisor of hidden_size {}", c.hidden_size),
            c.heads,
        ));
    }
    if !c.heads.is_multiple_of(c.kv_heads) {
        return Err(wrong(at.path("num_key_value_heads"), format!("a divisor of {} heads", c.heads), c.kv_heads));
    }
    let head_dim = at.size_or("head_dim", c.head_dim())?;
    if head_dim != c.head_dim() {
        return Err(wrong(at.path("head_dim"), format!("hidden_size / heads = {}", c.head_dim()), head_dim));
    }
    if c.mrope_section.iter().sum::<usize>() * 2 != c.head_dim() {
        let expected = format!("three numbers that sum to half the head dimension {}", c.head_dim());
        return Err(wrong(at.path("mrope_section"), expected, format!("{:?}", c.mrope_section)));
    }
    Ok(())
}

fn check_vision(c: &Config, at: &Section<'_>) -> Result<()> {
    let v = &c.vision;
    if !v.hidden_size.is_multiple_of(v.heads) || !v.head_dim().is_multiple_of(4) {
        let expected = format!("a divisor of hidden_size {} with heads a multiple of 4 wide", v.hidden_size);
        return Err(wrong(at.path("num_heads"), expected, v.heads));
    }
    if v.out_hidden_size != c.text.hidden_size {
        let expected = format!("the language model's hidden_size {}", c.text.hidden_size);
        return Err(wrong(at.path("out_hidden_size"), expected, v.out_hidden_size));
    }
    if v.window_cells() == 0 {
        let expected = format!("at least {} pixels, one image token", v.patch_size * v.spatial_merge_size);
        return Err(wrong(at.path("window_size"), expected, v.window_size));
    }
    let base = at.get("rope_parameters").and_then(|r| r.get("rope_theta"));
    if base.and_then(Value::as_f64).is_some_and(|b| b != 1e4) {
        return Err(wrong(at.path("rope_parameters.rope_theta"), "10000", base.unwrap_or(&Value::Null)));
    }
    Ok(())
}
