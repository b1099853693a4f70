//! Conversations: ShareGPT's and LLaVA's, OpenAI's, and MGrounding-630k's, which are ShareGPT with boxes.
//!
//! The question is the first turn of the user, the answer the assistant's last turn before the user speaks again. The whole
//! conversation is kept beside them. An answer with one box, `<|box_start|>(x1,y1),(x2,y2)<|box_end|>` in thousandths, is that box, on
//! the image that the answer names, or else the question.

use imagent_core::BoxFrame;
use serde_json::Value;

use super::Format;
use super::entry::{Answer, Entry, Picture, Region, Turn};
use super::text::{MARK, image_named, only_box};
use super::view::{View, plain};
use crate::error::DataError;

pub(super) const MGROUNDING: Format = Format {
    name: "mgrounding",
    about: "MGrounding-630k, ShareGPT with boxes in thousandths",
    needs: "columns images, conversations, type",
    fits: |_, keys| keys.has(&["images", "conversations", "type"]),
    read: sharegpt,
};

pub(super) const SHAREGPT: Format = Format {
    name: "sharegpt",
    about: "ShareGPT, LLaVA and LLaMA-Factory conversations, JSON or JSON lines",
    needs: "column conversations of {from, value}, and image or images",
    fits: |_, keys| keys.has(&["conversations"]),
    read: sharegpt,
};

pub(super) const OPENAI: Format = Format {
    name: "openai",
    about: "OpenAI messages, images as a column, as data addresses or as files",
    needs: "column messages of {role, content}",
    fits: |_, keys| keys.has(&["messages"]),
    read: openai,
};

fn sharegpt(view: &View<'_>) -> Result<Entry, DataError> {
    let mut turns: Vec<Turn> = Vec::new();
    if let Some(system) = view.text("system") {
        turns.push(Turn { role: "system".into(), content: system });
    }
    for (nth, turn) in view.list("conversations").into_iter().enumerate() {
        let text = |key: &str| turn.get(key).and_then(Value::as_str);
        let (Some(from), Some(value)) = (text("from"), text("value")) else {
            return Err(view.bad(format!("conversations[{nth}] is not {{from, value}}")));
        };
        let role = match from {
            "human" | "user" => "user",
            "gpt" | "assistant" | "function_call" => "assistant",
            "system" => "system",
            "observation" | "tool" => "tool",
            other => return Err(view.bad(format!("conversations[{nth}] is from {other:?}"))),
        };
        turns.push(Turn { role: role.into(), content: value.to_owned() });
    }
    let column = if view.cell("images").is_some() { "images" } else { "image" };
    entry(view, turns, view.pictures(column)?)
}

fn openai(view: &View<'_>) -> Result<Entry, DataError> {
    let mut pictures = view.pictures("images")?;
    let mut turns = Vec::new();
    for (nth, message) in view.list("messages").into_iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str);
        let Some(role @ ("system" | "developer" | "user" | "assistant" | "tool")) = role else {
            return Err(view.bad(format!("messages[{nth}] has no role that is known")));
        };
        let role = if role == "developer" { "system" } else { role };
        let text = match message.get("content") {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Array(parts)) => Some(content(view, nth, parts, &mut pictures)?),
            _ => None,
        };
        let calls = message.get("tool_calls").filter(|calls| calls.as_array().is_some_and(|calls| !calls.is_empty()));
        let content = match (text.filter(|text| calls.is_none() || !text.trim().is_empty()), calls) {
            (Some(text), Some(calls)) => format!("{text}\n{calls}"),
            (Some(text), None) => text,
            (None, Some(calls)) => calls.to_string(),
            (None, None) => return Err(view.bad(format!("messages[{nth}] has no content"))),
        };
        turns.push(Turn { role: role.to_owned(), content });
    }
    entry(view, turns, pictures)
}

/// The parts of a message as text; images among them join `pictures`.
fn content(view: &View<'_>, nth: usize, parts: &[Value], pictures: &mut Vec<Picture>) -> Result<String, DataError> {
    let mut text = String::new();
    for (part, value) in parts.iter().enumerate() {
        match value.get("type").and_then(Value::as_str) {
            Some("text") => text.push_str(value.get("text").and_then(Value::as_str).unwrap_or_default()),
            Some("image" | "image_url") => {
                let mut picture = view.picture(value, "messages", None)?;
                if let Picture::Cell { cell, .. } = &mut picture {
                    // A cell within a cell: `tables` follows the path.
                    cell.column = format!("messages/{nth}/content/{part}");
                }
                pictures.push(picture);
                text.push_str(MARK);
            }
            other => return Err(view.bad(format!("messages[{nth}] has a part of type {other:?}"))),
        }
    }
    Ok(text)
}

fn entry(view: &View<'_>, turns: Vec<Turn>, pictures: Vec<Picture>) -> Result<Entry, DataError> {
    let first = turns.iter().position(|turn| turn.role == "user");
    let first = first.ok_or_else(|| view.bad("nobody asks: there is no turn of the user"))?;
    let after = turns[first + 1..].iter().take_while(|turn| turn.role != "user");
    let reply = after.filter(|turn| turn.role == "assistant").last();
    let reply = reply.ok_or_else(|| view.bad("nobody answers: there is no turn of the assistant after the user's"))?;
    let question = turns[first].content.clone();
    let answer = match only_box(&reply.content) {
        Some(corners) => {
            let named = image_named(&reply.content).or_else(|| image_named(&question));
            let image = named.or((pictures.len() == 1).then_some(1));
            Answer::Box(Region { image, corners, frame: BoxFrame::Relative1000 })
        }
        None => Answer::Text(reply.content.trim().to_owned()),
    };
    let marks = |turn: &Turn| turn.content.matches(MARK).count();
    let all: usize = turns.iter().map(marks).sum();
    if all != 0 && all != pictures.len() {
        return Err(view.bad(format!("{all} `{MARK}` for {} images", pictures.len())));
    }
    let mut pictures = pictures;
    if all != 0 {
        // Images of later turns are not the question's.
        let before: usize = turns[..first].iter().map(marks).sum();
        pictures = pictures.drain(before..before + marks(&turns[first])).collect();
    }
    let mut entry = view.entry(pictures, question, answer);
    if let Some(kind) = ["type", "task", "category"].into_iter().find_map(|key| view.cell(key).and_then(plain)) {
        entry.kind = kind;
    }
    entry.conversation = turns;
    entry.meta = view.meta(&["id", "tools"]);
    view.finish(entry)
}
