//! The nano tokenizer and its companions.

use imagent_models::chat_template::{ChatTemplate, RenderOptions};
use imagent_models::config::Config;
use imagent_models::image_processor::ImageProcessor;
use imagent_models::nano_tokenizer::{
    NanoVocabulary, QWEN_TOKENS, build, chat_template_json, generation_config_json, preprocessor_config_json,
    tokenizer_config_json,
};
use imagent_models::tokenizer::Tokenizer;
use proptest::prelude::*;
use serde_json::{Value, json};

const CALL: &str = "{\"name\": \"zoom_in\", \"arguments\": {\"image\": ";
const PHRASES: [&str; 7] =
    [CALL, ", \"bbox_2d\": [", "]}}", "<answer>", "</answer>", "<tool_response>", "</tool_response>"];
const WORDS: [&str; 8] = ["what", "digit", "is", "on", "the", "red", "circle", "?"];

fn text() -> String {
    build(&NanoVocabulary { words: &WORDS, phrases: &PHRASES, numbers: 0..=112 }).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(text().as_bytes()).unwrap()
}

#[test]
fn the_same_words_give_the_same_file() {
    assert_eq!(text(), text());
    let t = tokenizer();
    assert_eq!(t.size(), 256 + 103 + 15 + 16 + 7); // bytes, 10..=112, words twice ("?" is a byte), Qwen's, phrases
    assert_eq!(t.id("!"), Some(33));
}

#[test]
fn tokens_are_as_few_as_meant() {
    let t = tokenizer();
    let tokens = |s: &str| t.encode(s).unwrap().len();
    for word in WORDS {
        assert_eq!((tokens(word), tokens(&format!(" {word}"))), (1, 1), "{word}");
    }
    for n in 0..=999u32 {
        let expected = if n <= 112 { 1 } else { n.to_string().len() };
        assert_eq!(tokens(&n.to_string()), expected, "{n}");
    }
    for (token, special) in QWEN_TOKENS {
        assert_eq!(tokens(token), 1, "{token}");
        assert_eq!(t.is_special(t.id(token).unwrap()), special, "{token}");
    }
    assert_eq!(
        tokens(&format!("<tool_call>\n{CALL}1, \"bbox_2d\": [20, 10, 90, 66]}}}}\n</tool_call>")),
        1 + 1 + 1 + 1 + 1 + 4 + 6 + 1 + 1 + 1
    );
    assert_eq!(tokens("what digit is on the red circle ?"), 8);
    assert_eq!(tokens("<answer>7</answer><|im_end|>"), 4);
}

#[test]
fn what_could_never_be_one_token_is_refused() {
    let refuse = |words: &[&str], phrases: &[&str], numbers| {
        build(&NanoVocabulary { words, phrases, numbers }).unwrap_err().to_string()
    };
    assert!(refuse(&["bbox_2d"], &[], 0..=9).contains("bbox_2d"));
    assert!(refuse(&["two words"], &[], 0..=9).contains("two words"));
    assert!(refuse(&[""], &[], 0..=9).contains("one token"));
    assert!(refuse(&[], &["é"], 0..=9).contains("ASCII"));
    assert!(refuse(&[], &[""], 0..=9).contains("empty"));
    assert!(refuse(&[], &[], 0..=1000).contains("1000"));
}

proptest! {
    #[test]
    fn any_text_survives(text in "\\PC*|(.|\\n|\\s|[a-z0-9 ,\\[\\]{}<>|\"]){0,40}") {
        let t = tokenizer();
        let ids = t.encode(&text).unwrap();
        prop_assert_eq!(t.decode(&ids, false).unwrap(), text);
    }

    #[test]
    fn tokens_of_any_kind_survive(parts in prop::collection::vec(0usize..40, 0..12)) {
        let pool: Vec<String> = WORDS.iter().map(|w| format!(" {w}")).chain(PHRASES.map(str::to_owned))
            .chain(QWEN_TOKENS.map(|(s, _)| s.to_owned())).chain(["\u{301}e", "\n\n", "  ", "112", "\0", "𝒳", "ſ", "Ġ"].map(str::to_owned)).collect();
        let text: String = parts.iter().map(|&i| pool[i % pool.len()].as_str()).collect();
        let t = tokenizer();
        prop_assert_eq!(t.decode(&t.encode(&text).unwrap(), false).unwrap(), text);
    }
}

#[test]
fn companions_make_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer_json = text();
    let t = tokenizer();
    let files = [
        ("tokenizer_config.json", tokenizer_config_json(&tokenizer_json).unwrap()),
        ("chat_template.json", chat_template_json()),
        ("preprocessor_config.json", preprocessor_config_json(12_544)),
        ("generation_config.json", generation_config_json(&t)),
        ("tokenizer.json", tokenizer_json),
    ];
    for (name, text) in &files {
        serde_json::from_str::<Value>(text).unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let processor = ImageProcessor::open(dir.path()).unwrap();
    assert_eq!(processor.shown_size(448, 448).unwrap(), (112, 112));
    assert_eq!(processor.grid(448, 448).unwrap().tokens(2), 16);

    let config = super::parity().join("tool_turn/checkpoint/config.json");
    std::fs::copy(config, dir.path().join("config.json")).unwrap();
    let ends = [t.id("<|im_end|>").unwrap(), t.id("<|endoftext|>").unwrap()];
    assert_eq!(Config::open(dir.path()).unwrap().tokens.eos, ends);

    let template = ChatTemplate::open(dir.path()).unwrap();
    let messages = [
        json!({"role": "system", "content": "Answer."}),
        json!({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what ?"}]}),
    ];
    let tools = [json!({"type": "function", "function": {"name": "zoom_in"}})];
    let options = RenderOptions { tools: Some(&tools), add_generation_prompt: true, add_vision_id: false };
    let expected = "<|im_start|>system\nAnswer.\n# Tools\n zoom_in<|im_end|>\n<|im_start|>user\n\
                    <|vision_start|><|image_pad|><|vision_end|>what ?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(template.render(&messages, &options).unwrap(), expected);
}
