//! Conversations: ShareGPT's and LLaVA's, OpenAI's, and MGrounding-630k's, which are ShareGPT with boxes.
//!
//! The question is the user's first turn with an image, the answer the assistant's last turn before the user speaks again. The whole
//! conversation is kept beside them, and the images of its later turns beside the question's. An answer with one box, `<|box_start|>(x1,y1),(x2,y2)<|box_end|>` in thousandths, is that box, on
//! the image that the answer names, or else the question.

use imagent_core::conversation::MARK;
use imagent_core::{Asked, BoxFrame, Role, Turn};
use serde_json::Value;

use super::Format;
use super::entry::{Answer, Entry, Picture, Region};
use super::text::{image_named, only_box};
use super::view::{View, plain};
use crate::error::DataError;
use crate::tables::within;

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
        turns.push(Turn { role: Role::System, content: system });
    }
    for (nth, turn) in view.list("conversations").into_iter().enumerate() {
        let text = |key: &str| turn.get(key).and_then(Value::as_str);
        let (Some(from), Some(value)) = (text("from"), text("value")) else {
            return Err(view.bad(format!("conversations[{nth}] is not {{from, value}}")));
        };
        let role = match from {
            "human" | "user" => Role::User,
            "gpt" | "assistant" | "function_call" => Role::Assistant,
            "system" => Role::System,
            "observation" | "tool" => Role::Tool,
            other => return Err(view.bad(format!("conversations[{nth}] is from {other:?}"))),
        };
        turns.push(Turn { role, content: value.to_owned() });
    }
    entry(view, turns, column(view)?)
}

/// The images of the column that holds them.
fn column(view: &View<'_>) -> Result<Vec<Picture>, DataError> {
    view.pictures(if view.list("images").is_empty() { "image" } else { "images" })
}

fn openai(view: &View<'_>) -> Result<Entry, DataError> {
    let mut shown = Shown::new(column(view)?);
    let mut turns = Vec::new();
    for (nth, message) in view.list("messages").into_iter().enumerate() {
        let role = match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("tool") => Role::Tool,
            _ => return Err(view.bad(format!("messages[{nth}] has no role that is known"))),
        };
        let text = match message.get("content") {
            Some(Value::String(text)) => Some(shown.marked(text)),
            Some(Value::Array(parts)) => Some(content(view, nth, parts, &mut shown)?),
            _ => None,
        };
        let calls = message.get("tool_calls").filter(|calls| calls.as_array().is_some_and(|calls| !calls.is_empty()));
        let content = match (text.filter(|text| calls.is_none() || !text.trim().is_empty()), calls) {
            (Some(text), Some(calls)) => format!("{text}\n{calls}"),
            (Some(text), None) => text,
            (None, Some(calls)) => calls.to_string(),
            (None, None) => return Err(view.bad(format!("messages[{nth}] has no content"))),
        };
        turns.push(Turn { role, content });
    }
    entry(view, turns, shown.all())
}

/// The images of a row of messages.
struct Shown {
    /// Those of its column, each with whether a message has shown it.
    column: Vec<(Picture, bool)>,
    /// Those that messages hold or point to, in order.
    placed: Vec<Picture>,
}

impl Shown {
    fn new(column: Vec<Picture>) -> Self {
        Self { column: column.into_iter().map(|picture| (picture, false)).collect(), placed: Vec::new() }
    }

    /// Places the image of the column that a part without one points to: the one of the index, else the next.
    fn place(&mut self, index: Option<&Value>) -> Result<(), String> {
        let next = self.column.iter().position(|(_, is_placed)| !is_placed);
        let images = self.column.len();
        // pandas writes whole numbers as 1.0 in columns that have nulls.
        let whole = |index: &Value| index.as_f64().filter(|at| *at >= 0.0 && at.fract() == 0.0).map(|at| at as usize);
        let column = index.map_or(next, whole).and_then(|at| self.column.get_mut(at));
        let (picture, is_placed) = column.ok_or_else(|| match index {
            Some(index) => format!("shows the image of `index` {index}, counted from 0, of {images}"),
            None => format!("shows an image more than the {images} of `images`"),
        })?;
        *is_placed = true;
        self.placed.push(picture.clone());
        Ok(())
    }

    /// A text, for each of whose marks the next image of the column is placed. Whether there are enough is seen at the end.
    fn marked(&mut self, text: &str) -> String {
        text.matches(MARK).for_each(|_| drop(self.place(None)));
        text.to_owned()
    }

    /// All in order; those of the column that nothing points to come first.
    fn all(self) -> Vec<Picture> {
        let rest = self.column.into_iter().filter(|(_, is_placed)| !is_placed).map(|(picture, _)| picture);
        rest.chain(self.placed).collect()
    }
}

/// The parts of a message as text; its images join those that are shown.
fn content(view: &View<'_>, nth: usize, parts: &[Value], shown: &mut Shown) -> Result<String, DataError> {
    let mut text = String::new();
    for (part, value) in parts.iter().enumerate() {
        match value.get("type").and_then(Value::as_str) {
            Some("text" | "input_text" | "output_text") => {
                let said = ["text", "content"].into_iter().find_map(|key| value.get(key)?.as_str());
                let said = said.ok_or_else(|| view.bad(format!("messages[{nth}] has a part of text without one")))?;
                text.push_str(&shown.marked(said));
            }
            Some("image" | "image_url" | "input_image") => {
                if within(value).is_some() {
                    let mut picture = view.picture(value, "messages", None)?;
                    if let Picture::Cell { cell, .. } = &mut picture {
                        // A cell within a cell: `tables` follows the path.
                        cell.column = format!("messages/{nth}/content/{part}");
                    }
                    shown.placed.push(picture);
                } else {
                    let index = value.get("index").filter(|index| !index.is_null());
                    shown.place(index).map_err(|problem| view.bad(format!("messages[{nth}] {problem}")))?;
                }
                text.push_str(MARK);
            }
            other => {
                let kind = other.map_or_else(|| "no type".to_owned(), |kind| format!("the type {kind:?}"));
                return Err(view.bad(format!("messages[{nth}] has a part of {kind}")));
            }
        }
    }
    Ok(text)
}

fn entry(view: &View<'_>, turns: Vec<Turn>, mut pictures: Vec<Picture>) -> Result<Entry, DataError> {
    let asked = Asked::of(&turns, pictures.len()).map_err(|problem| view.bad(problem))?;
    let later_pictures = pictures.split_off(asked.images);
    let after = turns[asked.turn + 1..].iter().take_while(|turn| turn.role != Role::User);
    let reply = after.filter(|turn| turn.role == Role::Assistant).last();
    let reply = reply.ok_or_else(|| view.bad("nobody answers: there is no turn of the assistant after the user's"))?;
    let asking = &turns[asked.turn];
    let answer = match only_box(&reply.content) {
        Some(corners) => {
            let named = image_named(&reply.content).or_else(|| image_named(&asking.content));
            let image = named.or((pictures.len() == 1).then_some(1));
            Answer::Box(Region { image, corners, frame: BoxFrame::Relative1000 })
        }
        None => Answer::Text(reply.content.trim().to_owned()),
    };
    // Images that were shown before it are shown with the question.
    let before = if asking.images() == 0 { 0 } else { pictures.len() - asking.images() };
    let question = MARK.repeat(before) + &asking.content;
    let mut entry = view.entry(pictures, question, answer);
    entry.later_pictures = later_pictures;
    if let Some(kind) = ["type", "task", "category"].into_iter().find_map(|key| view.cell(key).and_then(plain)) {
        entry.kind = kind;
    }
    entry.conversation = turns;
    entry.meta = view.meta(&["id", "tools"]);
    view.finish(entry)
}
