//! Reading a turn: any text is read, and reading is the inverse of writing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use imagent_core::{Action, ToolError, parse_turn};
use proptest::prelude::*;

/// Text made of tags, JSON and noise.
fn any_text() -> impl Strategy<Value = String> {
    let tags = ["<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>"];
    let call = r#"{"name": "zoom_in", "arguments": {"image": 1}}"#;
    let piece =
        prop_oneof![prop::sample::select(tags.to_vec()).prop_map(str::to_owned), Just(call.to_owned()), ".{0,5}"];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", tagged in any_text()) {
        let _ = parse_turn(&text);
        let _ = parse_turn(&tagged);
    }

    #[test]
    fn an_answer_needs_both_its_tags_after_the_thought(text in any_text()) {
        let spoken = text.rsplit("</think>").next().unwrap();
        let count = |tag: &str| spoken.matches(tag).count();
        match parse_turn(&text) {
            Action::Answer(answer) => {
                prop_assert!(count("<answer>") > 0 && count("<answer>") == count("</answer>"));
                prop_assert!(spoken.contains(&answer) && answer.trim() == answer);
            }
            Action::Call(_) | Action::BadCall(_) => prop_assert!(count("<answer>") == 0 && count("<tool_call>") > 0),
            Action::Nothing => prop_assert!(count("<answer>") + count("<tool_call>") == 0),
            Action::Malformed => prop_assert!(spoken.contains("answer>") || spoken.contains("tool_call>")),
        }
    }

    #[test]
    fn tags_that_do_not_pair_are_malformed(text in any_text()) {
        let spoken = text.rsplit("</think>").next().unwrap();
        let odd = |name: &str| spoken.matches(&format!("<{name}>")).count() != spoken.matches(&format!("</{name}>")).count();
        if odd("answer") || odd("tool_call") {
            prop_assert_eq!(parse_turn(&text), Action::Malformed);
        }
    }

    #[test]
    fn a_written_call_is_read_back(name in "[a-z_]{1,8}", key in "[a-z]{1,4}", value in any::<i32>(), thought in "[a-z<> ]{0,20}") {
        let arguments = serde_json::json!({key: value}).as_object().unwrap().clone();
        let json = serde_json::json!({"name": name.clone(), "arguments": arguments.clone()});
        let text = format!("<think>{thought}</think>\n<tool_call>\n{json}\n</tool_call>");
        match parse_turn(&text) {
            Action::Call(call) => prop_assert_eq!((call.name, call.arguments), (name, arguments)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn calls_that_cannot_be_carried_out() {
    let call = |json: &str| parse_turn(&format!("<tool_call>{json}</tool_call>"));
    let deep = format!("{{\"name\": \"a\", \"arguments\": {{\"x\": {}1{}}}}}", "[".repeat(5000), "]".repeat(5000));
    for broken in
        ["", "{}", "null", "7", "{\"name\": 7}", "{\"name\": \"a\", \"args\": {}}", "{\"name\": \"a\"} x", &deep]
    {
        assert_eq!(call(broken), Action::BadCall(ToolError::BrokenCall), "{broken:.40}");
    }
    let two = "<tool_call>{}</tool_call><tool_call>{}</tool_call>";
    assert_eq!(parse_turn(two), Action::BadCall(ToolError::SeveralCalls(2)));
    assert!(matches!(call("{\"name\": \"a\"}"), Action::Call(call) if call.arguments.is_empty()));
}

#[test]
fn of_several_answers_the_last_counts() {
    assert_eq!(parse_turn("<answer>1</answer> no, <answer>2</answer>"), Action::Answer("2".into()));
    assert_eq!(parse_turn("<answer></answer>"), Action::Answer(String::new()));
}
