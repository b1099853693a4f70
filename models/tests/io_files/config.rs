//! Configuration files in all their forms.

use imagent_models::config::{Config, Dtype};
use serde_json::{Value, json};

use super::{cases, parity};

fn published() -> Value {
    super::json(&parity().join("tool_turn/checkpoint/config.json"))
}

/// The same configuration as newer transformers write it.
fn nested() -> Value {
    let mut root = published();
    let map = root.as_object_mut().unwrap();
    let mut text = serde_json::Map::new();
    let outer = ["architectures", "model_type", "vision_config", "tie_word_embeddings"];
    for key in map.keys().cloned().collect::<Vec<_>>() {
        if !outer.contains(&key.as_str()) && !key.ends_with("_token_id") {
            text.insert(key.clone(), map.shift_remove(&key).unwrap());
        }
    }
    map.shift_remove("eos_token_id");
    text.insert("eos_token_id".into(), json!(921));
    text.shift_remove("rope_scaling");
    text.shift_remove("rope_theta");
    text.insert(
        "rope_parameters".into(),
        json!({"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}),
    );
    text.shift_remove("torch_dtype");
    map.insert("text_config".into(), text.into());
    map.insert("dtype".into(), json!("float32"));
    let channels = map["vision_config"].as_object_mut().unwrap().shift_remove("in_chans").unwrap();
    map["vision_config"]["in_channels"] = channels;
    root
}

#[test]
fn flat_form() {
    let c = Config::from_json(&published()).unwrap();
    assert_eq!((c.text.hidden_size, c.text.layers, c.text.heads, c.text.kv_heads), (64, 3, 4, 2));
    assert_eq!((c.text.head_dim(), c.text.mrope_section, c.text.rope_theta), (16, [2, 3, 3], 1e6));
    assert_eq!((c.vision.depth, c.vision.window_cells(), c.vision.patch_len()), (4, 4, 1176));
    assert_eq!(c.vision.fullatt_block_indexes, [1, 3]);
    assert_eq!((c.tokens.image, c.tokens.vision_start, c.tokens.eos.as_slice()), (931, 928, &[921][..]));
    assert_eq!(c.dtype, Dtype::F32);
}

#[test]
fn nested_form_says_the_same() {
    assert_eq!(Config::from_json(&nested()).unwrap(), Config::from_json(&published()).unwrap());
}

#[test]
fn generation_config_lists_the_ends_of_a_turn() {
    for case in cases() {
        let c = Config::open(&case.join("checkpoint")).unwrap();
        assert_eq!(c.tokens.eos, [921, 919], "{}", case.display());
    }
}

#[test]
fn written_and_read_again() {
    for case in cases() {
        let mut c = Config::open(&case.join("checkpoint")).unwrap();
        c.tokens.eos.truncate(1); // the rest is in generation_config.json
        assert_eq!(Config::from_json(&c.to_json()).unwrap(), c, "{}", case.display());
    }
}

#[test]
fn errors_name_the_field() {
    let cases = [
        ("/hidden_size", json!(null), "`hidden_size`"),
        ("/num_attention_heads", json!(5), "`num_attention_heads`"),
        ("/num_key_value_heads", json!(3), "`num_key_value_heads`"),
        ("/rope_scaling/mrope_section", json!([2, 3, 4]), "`mrope_section`"),
        ("/rope_scaling/type", json!("yarn"), "`rope_scaling.type`"),
        ("/use_sliding_window", json!(true), "`use_sliding_window`"),
        ("/model_type", json!("qwen3_vl"), "`model_type`"),
        ("/tie_word_embeddings", json!(null), "`tie_word_embeddings`"),
        ("/num_hidden_layers", json!(2_000_000_000), "`num_hidden_layers`"),
        ("/vision_config/depth", json!(-1), "`vision_config.depth`"),
        ("/vision_config/depth", json!(2_000_000_000), "at most 4096 layers"),
        ("/vision_config/out_hidden_size", json!(32), "`vision_config.out_hidden_size`"),
        ("/torch_dtype", json!("int8"), "`dtype`"),
        ("/image_token_id", json!("x"), "`image_token_id`"),
    ];
    for (pointer, value, field) in cases {
        let mut json = published();
        *json.pointer_mut(pointer).unwrap() = value;
        let message = Config::from_json(&json).unwrap_err().to_string();
        assert!(message.contains(field) && message.contains("config.json"), "{pointer}: {message}");
    }
    let mut json = published();
    json["quantization_config"] = json!({"quant_method": "awq"});
    let message = Config::from_json(&json).unwrap_err().to_string();
    assert!(message.contains("`quantization_config`: expected none") && message.contains("awq"), "{message}");
}
