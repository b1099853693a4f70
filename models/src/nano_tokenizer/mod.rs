//! Makes a compact byte-level tokenizer for nano models, and the small files that go with it in a model's folder.
//!
//! Qwen's special tokens, all 256 bytes, the given words, numbers and phrases as single tokens, nothing else: an embedding
//! of a few hundred rows. Any text survives encoding and decoding, because what is no word goes byte by byte.

mod companions;

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

pub(crate) use companions::tokenizer_settings;
pub use companions::{chat_template_json, generation_config_json, preprocessor_config_json, tokenizer_config_json};

use crate::error::{ModelError, Result, pretty};

/// Qwen's added tokens, in its order, and whether each is special (dropped by decoding with `skip_special`).
pub const QWEN_TOKENS: [(&str, bool); 16] = [
    ("<|endoftext|>", true),
    ("<|im_start|>", true),
    ("<|im_end|>", true),
    ("<|object_ref_start|>", true),
    ("<|object_ref_end|>", true),
    ("<|box_start|>", true),
    ("<|box_end|>", true),
    ("<|quad_start|>", true),
    ("<|quad_end|>", true),
    ("<|vision_start|>", true),
    ("<|vision_end|>", true),
    ("<|vision_pad|>", true),
    ("<|image_pad|>", true),
    ("<|video_pad|>", true),
    ("<tool_call>", false),
    ("</tool_call>", false),
];

/// How text is cut before words are looked up: letters with at most one space in front, up to three digits, other signs,
/// line ends, other white space. Every character is in exactly one piece.
const PIECES: &str = r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a nano tokenizer knows.
#[derive(Clone, Debug)]
pub struct NanoVocabulary<'a> {
    /// Words that are one token each, with and without a space in front. A word is a run of letters, or of signs.
    pub words: &'a [&'a str],
    /// Texts that are one token wherever they occur, before anything else is looked at; the longest wins. ASCII.
    pub phrases: &'a [&'a str],
    /// Numbers that are one token each, within 0..=999, written without leading zeros.
    pub numbers: RangeInclusive<u32>,
}

/// Content of a `tokenizer.json` (Hugging Face `tokenizers`, also read by transformers): ids 0..256 are the bytes, then the
/// numbers, the words, [`QWEN_TOKENS`] and the phrases, each in the order given. The same vocabulary gives the same text.
///
/// # Errors
/// `Tokenizer` naming the word or phrase that could never become one token (not a single piece, not ASCII, empty, or a
/// number above 999).
///
/// ```
/// # use imagent_models::{nano_tokenizer::{NanoVocabulary, build}, tokenizer::Tokenizer};
/// let json = build(&NanoVocabulary { words: &["red"], phrases: &["<answer>"], numbers: 0..=112 }).unwrap();
/// let tokenizer = Tokenizer::from_bytes(json.as_bytes()).unwrap();
/// assert_eq!(tokenizer.encode("<answer>112 red").unwrap().len(), 3); // the space belongs to the word
/// ```
pub fn build(vocabulary: &NanoVocabulary<'_>) -> Result<String> {
    let mut vocab = Map::new();
    let mut add = |token: String| {
        let id = vocab.len();
        vocab.entry(token).or_insert(id.into());
    };
    for byte in 0..=255 {
        add(byte_char(byte).to_string());
    }
    for number in vocabulary.numbers.clone() {
        add(number.to_string());
    }
    for word in vocabulary.words {
        add(visible(word));
        add(visible(&format!(" {word}")));
    }
    let added = added_tokens(vocab.len(), vocabulary.phrases)?;
    let text = pretty(&file(vocab, added));
    check(&text, vocabulary)?;
    Ok(text)
}

fn file(vocab: Map<String, Value>, added: Vec<Value>) -> Value {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Isolated", "invert": false},
            byte_level.clone(),
        ]},
        "post_processor": byte_level.clone(),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            // With no merges at all: a piece is a word of the vocabulary, or its bytes.
            "ignore_merges": true,
            "vocab": vocab,
            "merges": [],
        },
    })
}

fn added_tokens(first: usize, phrases: &[&str]) -> Result<Vec<Value>> {
    if let Some(phrase) = phrases.iter().find(|p| p.is_empty() || !p.is_ascii()) {
        return Err(refused(format!("phrase {phrase:?} is empty or not ASCII")));
    }
    let mut all = QWEN_TOKENS.to_vec();
    for phrase in phrases {
        if !all.iter().any(|(token, _)| token == phrase) {
            all.push((phrase, false));
        }
    }
    let entry = |(i, (content, special)): (usize, &(&str, bool))| {
        json!({"id": first + i, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": special})
    };
    Ok(all.iter().enumerate().map(entry).collect())
}

/// Every word, phrase and number must come out as one token.
fn check(text: &str, vocabulary: &NanoVocabulary<'_>) -> Result<()> {
    if *vocabulary.numbers.end() > 999 {
        return Err(refused(format!("number {} has more than three digits", vocabulary.numbers.end())));
    }
    let tokenizer = crate::tokenizer::Tokenizer::from_bytes(text.as_bytes())?;
    let spaced = vocabulary.words.iter().map(|word| format!(" {word}"));
    let numbers = vocabulary.numbers.clone().map(|n| n.to_string());
    let plain = vocabulary.words.iter().chain(vocabulary.phrases).map(|s| (*s).to_owned());
    for token in plain.chain(spaced).chain(numbers) {
        if tokenizer.encode(&token)?.len() != 1 {
            return Err(refused(format!("{token:?} would not be one token (letters and signs do not mix in a word)")));
        }
    }
    Ok(())
}

fn refused(message: String) -> ModelError {
    ModelError::Tokenizer { op: "build", message }
}

/// Text as byte-level models write it: one visible character a byte.
fn visible(text: &str) -> String {
    text.bytes().map(byte_char).collect()
}

/// GPT-2's visible character for a byte: itself where it is visible, else U+0100 and up in order.
pub(crate) fn byte_char(byte: u8) -> char {
    let shown = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if shown(byte) {
        return char::from(byte);
    }
    let hidden = (0..byte).filter(|&b| !shown(b)).count() as u32;
    char::from_u32(0x100 + hidden).unwrap_or(char::REPLACEMENT_CHARACTER)
}
