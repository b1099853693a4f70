//! verl's rows for reinforcement learning, and DeepEyes-47k, which has them with a tool environment.

use imagent_core::conversation::MARK;
use serde_json::Value;

use super::Format;
use super::entry::{Answer, Entry};
use super::text::{letter, split_options, to_position};
use super::view::{View, plain};
use crate::error::DataError;

pub(super) const FORMAT: Format = Format {
    name: "verl",
    about: "verl's parquet or JSON for reinforcement learning; DeepEyes-47k",
    needs: "columns data_source, prompt, reward_model, images",
    fits: |_, keys| keys.has(&["data_source", "prompt", "reward_model"]),
    read,
};

/// What a message says: a text, or parts, of which images are those of the row in order.
fn text_of(content: &Value) -> Option<String> {
    let Value::Array(parts) = content else { return content.as_str().map(str::to_owned) };
    let part = |part: &Value| match part.get("type").and_then(Value::as_str)? {
        "text" => part.get("text")?.as_str().map(str::to_owned),
        "image" | "image_url" => Some(MARK.to_owned()),
        _ => None,
    };
    parts.iter().map(part).collect()
}

/// The question is `extra_info.question` where there is one: the prompt may tell of the tools of another program.
fn read(view: &View<'_>) -> Result<Entry, DataError> {
    let messages = view.list("prompt");
    let said = |role: &str| {
        let by = |message: &&&Value| message.get("role").and_then(Value::as_str) == Some(role);
        messages.iter().rev().find(by).and_then(|message| text_of(message.get("content")?))
    };
    let prompt = said("user")
        .ok_or_else(|| view.bad("`prompt` has no message of the user in text or parts of type text and image"))?;
    let inner = |column: &str, key: &str| view.cell(column).and_then(|value| value.get(key)).and_then(plain);
    let gold = inner("reward_model", "ground_truth").or_else(|| inner("extra_info", "answer"));
    let gold = gold.ok_or_else(|| view.bad("`reward_model.ground_truth` is missing or empty"))?;
    let question = inner("extra_info", "question").unwrap_or_else(|| prompt.clone());
    let pictures = view.pictures("images")?;
    let of_options = |options: &[String]| letter(&gold).is_some_and(|letter| to_position(letter) < options.len());
    let options = split_options(&question).filter(|(_, options)| of_options(options));
    let mut entry = match options {
        Some((question, options)) => view.choice(pictures, question, options, &gold)?,
        None => view.entry(pictures, question, Answer::Text(gold)),
    };
    entry.kind = view.need("data_source")?;
    entry.meta = view.meta(&["ability", "env_name", "agent_name"]);
    let extra = view.cell("extra_info").and_then(Value::as_object).into_iter().flatten();
    let extra = extra.filter(|(key, value)| !["question", "answer"].contains(&key.as_str()) && !value.is_null());
    entry.meta.insert("extra_info".into(), extra.map(|(key, value)| (key.clone(), value.clone())).collect());
    entry.meta.insert("prompt".into(), prompt.into());
    entry.meta.extend(said("system").map(|system| ("system".to_owned(), Value::from(system))));
    view.finish(entry)
}
