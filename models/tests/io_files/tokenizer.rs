//! Tokens against transformers' table.

use imagent_models::tokenizer::Tokenizer;

use super::parity;

#[test]
fn table_of_strings() {
    let tokenizer = Tokenizer::open(&parity().join("tokenizer/checkpoint")).unwrap();
    let rows = super::json(&parity().join("tokenizer/tokenizer_cases.json"));
    for row in rows.as_array().unwrap() {
        let ids: Vec<u32> = row["ids"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode(row["text"].as_str().unwrap()).unwrap(), ids, "{row}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), row["decoded"], "{row}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), row["decoded_skip_special"], "{row}");
    }
}

#[test]
fn ids_with_a_meaning() {
    let tokenizer = Tokenizer::open(&parity().join("tokenizer/checkpoint")).unwrap();
    let s = tokenizer.special();
    assert_eq!((s.im_start, s.im_end, s.endoftext), (920, 921, Some(919)));
    assert_eq!((s.vision_start, s.image_pad, s.video_pad), (928, 931, Some(932)));
    assert_eq!((tokenizer.size(), tokenizer.id("<tool_call>")), (941, Some(933)));
    assert_eq!(tokenizer.token(931).as_deref(), Some("<|image_pad|>"));
    assert!(tokenizer.is_special(921) && !tokenizer.is_special(933) && !tokenizer.is_special(5));
    let never: Vec<u32> = [928, 929, 930, 931, 932].into_iter().chain(941..960).collect();
    assert_eq!(tokenizer.never_sampled(960), never);
}

#[test]
fn sampled_text_keeps_tool_calls_and_drops_the_end_of_the_turn() {
    let tokenizer = Tokenizer::open(&parity().join("tokenizer/checkpoint")).unwrap();
    let text = "<tool_call>\n{\"a\": 1}\n</tool_call>";
    let mut ids = tokenizer.encode(text).unwrap();
    ids.push(tokenizer.special().im_end);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), format!("{text}<|im_end|>"));
}

#[test]
fn unreadable_files_are_named() {
    assert!(Tokenizer::open(&parity()).unwrap_err().to_string().contains("tokenizer.json"));
    assert!(Tokenizer::from_bytes(b"{}").unwrap_err().to_string().contains("tokenizer: read"));
}
