//! Chats in JSON files, OpenAI-style, as tokens and images.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use imagent_core::Segment;
use imagent_models::chat_template::RenderOptions;
use imagent_models::codec::Codec;
use imagent_models::image_processor::decode;
use serde_json::Value as Json;

use super::InputError;

/// The chats of a file.
pub(crate) struct Chats {
    /// One for each.
    pub(crate) segments: Vec<Segment>,
    /// Whether the file is a list of chats, not of messages.
    pub(crate) several: bool,
}

/// Reads a list of messages (or of such lists). Content is a text, or a list of parts with `text` or an image; image
/// paths are relative to the file. A chat whose last message is not the assistant's ends with the opening of its turn.
pub(crate) fn read(path: &Path, codec: &Codec) -> Result<Chats> {
    let wrong = |what: String| InputError(format!("{}: {what}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let json: Json = serde_json::from_slice(&text).map_err(|error| wrong(format!("not valid JSON: {error}")))?;
    let json = json.get("messages").unwrap_or(&json);
    let list = json.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| wrong("expected a list of messages".to_owned()))?;
    let several = list[0].is_array();
    let chats: Vec<&[Json]> = match list.iter().map(|chat| chat.as_array().map(Vec::as_slice)).collect() {
        Some(chats) if several => chats,
        _ => vec![list],
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let segments = chats.iter().map(|chat| segment(chat, folder, codec).map_err(|what| wrong(what).into()));
    Ok(Chats { segments: segments.collect::<Result<_>>()?, several })
}

fn segment(messages: &[Json], folder: &Path, codec: &Codec) -> Result<Segment, String> {
    let mut images = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        let at = |what: String| format!("message {}: {what}", i + 1);
        if !message["role"].is_string() {
            return Err(at("expected an object with `role` and `content`".to_owned()));
        }
        for part in message["content"].as_array().into_iter().flatten() {
            if let Some(image) = image_path(part).map_err(at)? {
                let pixels = decode(&folder.join(image)).map_err(|error| at(error.to_string()))?;
                let shown = codec.processor.shown_size(pixels.width(), pixels.height());
                shown.map_err(|error| at(format!("{image}: {error}")))?;
                images.push(Arc::new(pixels));
            }
        }
    }
    let answered = messages.last().is_some_and(|message| message["role"] == "assistant");
    let options = RenderOptions { add_generation_prompt: !answered, ..RenderOptions::default() };
    let text = codec.template.render(messages, &options).map_err(|error| error.to_string())?;
    let segment = codec.segment(&text, &images).map_err(|error| error.to_string())?;
    if segment.ids.is_empty() { Err("a chat without tokens".to_owned()) } else { Ok(segment) }
}

/// Where the image of a part lies; `None` for a part that is no image.
fn image_path(part: &Json) -> Result<Option<&str>, String> {
    let places = [&part["image_url"]["url"], &part["image_url"], &part["image"], &part["url"], &part["path"]];
    let is_image = matches!(part["type"].as_str(), Some("image" | "image_url"))
        || part.get("image_url").is_some()
        || part.get("image").is_some();
    if !is_image {
        return refuse_other_media(part).map(|()| None);
    }
    let path = places.into_iter().find_map(Json::as_str);
    let path = path.ok_or_else(|| "an image part needs the path of its image".to_owned())?;
    let path = path.strip_prefix("file://").unwrap_or(path);
    if path.contains("://") || path.starts_with("data:") {
        let short: String = path.chars().take(40).collect();
        return Err(format!("image `{short}`: expected a path; nothing is read from elsewhere"));
    }
    Ok(Some(path))
}

/// A part that is no image must be text: a template would pass over anything else, or leave a token without pixels.
fn refuse_other_media(part: &Json) -> Result<(), String> {
    let kind = part["type"].as_str();
    if matches!(kind, Some("video" | "video_url")) || part.get("video").is_some() || part.get("video_url").is_some() {
        return Err("videos are not supported; give their frames as images".to_owned());
    }
    match kind {
        Some("text") | None if part["text"].is_string() => Ok(()),
        Some(kind) => Err(format!("a part of type `{kind}`: expected `text` with its text, or `image_url`")),
        None => Err("a part without `text` or `image_url`".to_owned()),
    }
}
