//! The real Qwen2.5 tokenizer against the reference `tokenizers`, and its chat template against Jinja in Python
//! (`tests/parity/qwen_tokenizer/make_corpus.py`).

use std::io::Read;
use std::path::PathBuf;

use imagent_models::chat_template::{ChatTemplate, RenderOptions};
use imagent_models::tokenizer::Tokenizer;
use serde_json::Value;

use super::parity;

fn folder() -> PathBuf {
    parity().join("qwen_tokenizer")
}

fn tokenizer() -> Tokenizer {
    let packed = std::fs::read(folder().join("tokenizer.json.gz")).unwrap();
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut json).unwrap();
    Tokenizer::from_bytes(&json).unwrap()
}

fn ids(row: &Value) -> Vec<u32> {
    row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn the_real_tokenizer_encodes_and_decodes_as_the_reference() {
    let (tokenizer, corpus) = (tokenizer(), super::json(&folder().join("corpus.json")));
    let texts = corpus["texts"].as_array().unwrap();
    for row in texts {
        let text = row["text"].as_str().unwrap();
        let ids = ids(row);
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
        let decoded = row["decoded"].as_str().unwrap_or(text);
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), decoded);
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), row["bare"].as_str().unwrap_or(decoded));
    }
    for row in corpus["pieces"].as_array().unwrap() {
        assert_eq!(tokenizer.decode(&ids(row), false).unwrap(), row["decoded"].as_str().unwrap());
    }
    assert!(texts.len() > 350);
}

#[test]
fn published_ids_are_the_real_ones() {
    let tokenizer = tokenizer();
    let special = tokenizer.special();
    assert_eq!((special.im_start, special.im_end, special.endoftext), (151_644, 151_645, Some(151_643)));
    assert_eq!((special.vision_start, special.image_pad, special.vision_end), (151_652, 151_655, 151_653));
    assert_eq!(tokenizer.size(), 151_665);
    let golden = [
        ("Hello, world!", vec![9707, 11, 1879, 0]),
        ("你好，世界 12345", vec![108_386, 3837, 99_489, 220, 16, 17, 18, 19, 20]),
        (
            "<think>a</think><answer>B</answer>",
            vec![13_708, 766, 43_875, 522, 26_865, 1784, 9217, 36_721, 522, 9217, 29],
        ),
    ];
    for (text, ids) in golden {
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text}");
    }
}

#[test]
fn its_template_renders_tools_and_calls_as_in_python() {
    let (tokenizer, corpus) = (tokenizer(), super::json(&folder().join("corpus.json")));
    let config = super::json(&folder().join("tokenizer_config.json"));
    let template = ChatTemplate::new(config["chat_template"].as_str().unwrap()).unwrap();
    let chats = corpus["chats"].as_array().unwrap();
    for chat in chats {
        let options = RenderOptions {
            tools: chat["tools"].as_array().map(Vec::as_slice),
            add_generation_prompt: chat["add_generation_prompt"] == true,
            add_vision_id: false,
        };
        let text = template.render(chat["messages"].as_array().unwrap(), &options).unwrap();
        assert_eq!(text, chat["rendered"].as_str().unwrap());
        assert_eq!(tokenizer.encode(&text).unwrap(), ids(chat));
    }
    assert_eq!(chats.len(), 16);
}
