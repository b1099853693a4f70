//! Fuzzes the reading of a turn: any text is read, and a call that is written again is read as the same.
#![no_main]

use imagent::core::{Action, parse_turn};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match parse_turn(text) {
        Action::Answer(answer) => assert!(text.contains(&answer) && answer.trim() == answer),
        Action::Call(call) => {
            let json = serde_json::to_string(&call).unwrap();
            // A `<` that the model wrote as an escape would now be read as a tag.
            if !json.contains('<') {
                assert_eq!(parse_turn(&format!("<tool_call>{json}</tool_call>")), Action::Call(call));
            }
        }
        Action::BadCall(error) => assert!(!error.to_string().is_empty()),
        Action::Malformed | Action::Nothing => {}
    }
});
