//! Reads a sampled turn: a tool call, an answer, or neither. Sees sampled text only.

use serde::{Deserialize, Serialize};

use crate::tool::{Arguments, ToolError};

/// A call as the model wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments.
    pub arguments: Arguments,
}

/// What a turn does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Calls a tool.
    Call(ToolCall),
    /// Tries to call a tool, in a way that cannot be carried out.
    BadCall(ToolError),
    /// Answers.
    Answer(String),
    /// Has an opening tag without its closing one, or the reverse.
    Malformed,
    /// Does neither.
    Nothing,
}

/// Reads a turn.
///
/// Whatever stands before the last `</think>` is thought, not action. A complete `<answer>` ends the
/// episode even beside a call; two calls in one turn are an error that the policy reads.
///
/// ```
/// use imagent_core::{Action, parse_turn};
/// assert_eq!(parse_turn("<think><answer>1</answer></think><answer> 7 </answer>"), Action::Answer("7".into()));
/// assert_eq!(parse_turn("<answer>7"), Action::Malformed);
/// assert_eq!(parse_turn("seven"), Action::Nothing);
/// ```
pub fn parse_turn(text: &str) -> Action {
    let spoken = text.rsplit_once("</think>").map_or(text, |(_, after)| after);
    let (answers, calls) = (blocks(spoken, "<answer>", "</answer>"), blocks(spoken, "<tool_call>", "</tool_call>"));
    match (answers, calls) {
        (Some(answers), Some(calls)) => match (answers.last(), calls.as_slice()) {
            (Some(answer), _) => Action::Answer(answer.trim().to_owned()),
            (None, []) => Action::Nothing,
            (None, [call]) => parse_call(call),
            (None, calls) => Action::BadCall(ToolError::SeveralCalls(calls.len())),
        },
        _ => Action::Malformed,
    }
}

/// The texts between `open` and `close`; `None` when the tags do not pair up.
fn blocks<'a>(text: &'a str, open: &str, close: &str) -> Option<Vec<&'a str>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(open) {
        let (inside, tail) = after.split_once(close)?;
        if before.contains(close) || inside.contains(open) {
            return None;
        }
        found.push(inside);
        rest = tail;
    }
    (!rest.contains(close)).then_some(found)
}

fn parse_call(text: &str) -> Action {
    /// The call's JSON; other keys are an error, as a typo would be lost otherwise.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        name: String,
        #[serde(default)]
        arguments: Arguments,
    }
    match serde_json::from_str::<Raw>(text.trim()) {
        Ok(Raw { name, arguments }) => Action::Call(ToolCall { name, arguments }),
        Err(_) => Action::BadCall(ToolError::BrokenCall),
    }
}
