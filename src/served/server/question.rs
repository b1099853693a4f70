//! The JSON of a request to messages, images and limits. What is known to change replies elsewhere and does not here is refused by
//! name; whatever else a client sends along is passed over.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imagent_core::chat::{ChatCall, call_text, python_json};
use imagent_core::{Content, Message, RgbImage, Role, Sampling, ToolSpec, picture};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// Most replies to a question.
const MOST_REPLIES: usize = 16;
/// Most of the likeliest tokens that are told.
const MOST_LIKELIEST: usize = 20;
/// Most images of a conversation.
const MOST_IMAGES: usize = 64;
/// Most pixels of a conversation's images together.
const MOST_PIXELS: u64 = 100_000_000;
/// Most stop texts.
const MOST_STOPS: usize = 16;
/// Fields of OpenAI's API, and of servers like it, by which a client asks for what it would not get.
const NOT_HERE: [&str; 22] = [
    "allowed_token_ids",
    "audio",
    "bad_words",
    "best_of",
    "chat_template",
    "continue_final_message",
    "echo",
    "function_call",
    "functions",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "ignore_eos",
    "json_schema",
    "min_tokens",
    "prediction",
    "prompt_logprobs",
    "stop_token_ids",
    "structured_outputs",
    "web_search_options",
];

/// A request that can be answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) messages: Vec<Message>,
    pub(super) images: Vec<Arc<RgbImage>>,
    pub(super) tools: Vec<ToolSpec>,
    /// Whether calls are taken out of the text.
    pub(super) split_calls: bool,
    pub(super) sampling: Sampling,
    pub(super) stops: Vec<String>,
    pub(super) n: usize,
    pub(super) seed: Option<u64>,
    pub(super) max_tokens: Option<usize>,
    pub(super) stream: bool,
    pub(super) stream_usage: bool,
    /// How many of the likeliest tokens are told with each token; `None` tells of no token.
    pub(super) logprobs: Option<usize>,
}

#[derive(Deserialize)]
struct Raw {
    model: String,
    messages: Vec<Value>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    n: Option<usize>,
    stop: Option<Value>,
    seed: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<Value>,
    tools: Option<Vec<RawTool>>,
    tool_choice: Option<Value>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    response_format: Option<Value>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    repetition_penalty: Option<f64>,
    logit_bias: Option<Value>,
    modalities: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawTool {
    function: RawFunction,
}

#[derive(Deserialize)]
struct RawFunction {
    name: String,
    description: Option<String>,
    #[serde(default)]
    parameters: Value,
}

/// Reads a request to the model called `name`.
pub(super) fn read(bytes: &[u8], name: &str) -> Result<Asked, Refusal> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| Refusal::request(format!("the request: {error}")))?;
    if raw.model != name {
        return Err(Refusal::no_model(&raw.model, name));
    }
    refuse_unknown(&raw)?;
    let sampling = sampling(&raw)?;
    let stops = stops(raw.stop.as_ref())?;
    let n = raw.n.unwrap_or(1);
    if n == 0 || n > MOST_REPLIES {
        return Err(Refusal::field("n", format!("n must be from 1 to {MOST_REPLIES}, got {n}")));
    }
    let likeliest = raw.top_logprobs.unwrap_or(0);
    if likeliest > MOST_LIKELIEST || (likeliest > 0 && raw.logprobs != Some(true)) {
        let message = format!("top_logprobs must be at most {MOST_LIKELIEST}, and needs logprobs");
        return Err(Refusal::field("top_logprobs", message));
    }
    let max_tokens = raw.max_completion_tokens.or(raw.max_tokens);
    if max_tokens == Some(0) {
        return Err(Refusal::field("max_tokens", "max_tokens must be at least 1"));
    }
    let tools = raw.tools.unwrap_or_default();
    let split_calls = !tools.is_empty() && raw.tool_choice.as_ref().is_none_or(|choice| choice != "none");
    let tools = tools.into_iter().map(|tool| ToolSpec {
        name: tool.function.name,
        description: tool.function.description.unwrap_or_default(),
        parameters: tool.function.parameters,
    });
    let (messages, images) = messages(&raw.messages)?;
    Ok(Asked {
        messages,
        images,
        tools: tools.collect(),
        split_calls,
        sampling,
        stops,
        n,
        seed: raw.seed.map(|seed| seed as u64),
        max_tokens,
        stream: raw.stream.unwrap_or(false),
        stream_usage: raw.stream_options.is_some_and(|options| options["include_usage"] == true),
        logprobs: (raw.logprobs == Some(true)).then_some(likeliest),
    })
}

fn refuse_unknown(raw: &Raw) -> Result<(), Refusal> {
    let text_only = |value: &Value| value["type"] == "text";
    let choice = |value: &Value| value.is_null() || value == "auto" || value == "none";
    let changed = |value: Option<f64>, neutral: f64| value.is_some_and(|value| value != neutral);
    let unknown = [
        ("response_format", raw.response_format.as_ref().is_some_and(|value| !value.is_null() && !text_only(value))),
        ("tool_choice", raw.tool_choice.as_ref().is_some_and(|value| !choice(value))),
        ("presence_penalty", changed(raw.presence_penalty, 0.0)),
        ("frequency_penalty", changed(raw.frequency_penalty, 0.0)),
        ("repetition_penalty", changed(raw.repetition_penalty, 1.0)),
        (
            "logit_bias",
            raw.logit_bias.as_ref().is_some_and(|bias| bias.as_object().is_none_or(|bias| !bias.is_empty())),
        ),
        ("modalities", raw.modalities.as_ref().is_some_and(|value| *value != serde_json::json!(["text"]))),
    ];
    let says = |field: &&str| raw.rest.get(*field).is_some_and(|value| !is_nothing(value));
    let elsewhere = NOT_HERE.iter().copied().find(says).map(|field| (field, true));
    match unknown.into_iter().chain(elsewhere).find(|(_, wrong)| *wrong) {
        Some((field, _)) => Err(Refusal::field(field, format!("this value of {field} is not supported"))),
        None => Ok(()),
    }
}

/// Whether a value is what a client sends that wants nothing: null, false, 0, or empty.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn sampling(raw: &Raw) -> Result<Sampling, Refusal> {
    let sampling = Sampling {
        temperature: raw.temperature.unwrap_or(1.0),
        top_p: raw.top_p.unwrap_or(1.0),
        // −1 is some clients' "all".
        top_k: usize::try_from(raw.top_k.unwrap_or(0)).unwrap_or(0),
        min_p: raw.min_p.unwrap_or(0.0),
        ..Sampling::default()
    };
    let wrong = |(field, problem): (&str, String)| Refusal::field(field, format!("{field} {problem}"));
    sampling.validate().map_err(wrong)?;
    Ok(sampling)
}

fn stops(value: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let stops: Option<Vec<String>> = match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(stop)) => Some(vec![stop.clone()]),
        Some(Value::Array(list)) => list.iter().map(|stop| stop.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    };
    stops.filter(|stops| stops.len() <= MOST_STOPS && stops.iter().all(|stop| !stop.is_empty())).ok_or_else(|| {
        Refusal::field("stop", format!("stop must be a text or a list of at most {MOST_STOPS}, none of them empty"))
    })
}

/// A conversation as it is read.
#[derive(Default)]
struct Reading {
    messages: Vec<Message>,
    images: Vec<Arc<RgbImage>>,
    pixels: u64,
    /// Whether the last message is what a tool returned.
    after_tool: bool,
}

fn messages(raw: &[Value]) -> Result<(Vec<Message>, Vec<Arc<RgbImage>>), Refusal> {
    if raw.is_empty() {
        return Err(Refusal::field("messages", "messages must not be empty"));
    }
    let mut reading = Reading::default();
    for (i, message) in raw.iter().enumerate() {
        let at = format!("messages[{i}]");
        reading.message(message).map_err(|problem| Refusal::field(at.clone(), format!("{at}: {problem}")))?;
    }
    Ok((reading.messages, reading.images))
}

impl Reading {
    fn message(&mut self, raw: &Value) -> Result<(), String> {
        let role = raw["role"].as_str().ok_or("expected an object with `role` and `content`")?;
        let mut content = self.content(&raw["content"])?;
        let images = content.contains(&Content::Image);
        let after_tool = std::mem::replace(&mut self.after_tool, role == "tool");
        let role = match role {
            "system" | "developer" if !images => Role::System,
            "assistant" if !images => {
                content.extend(calls(raw, &content)?);
                Role::Assistant
            }
            "user" if after_tool && !content.is_empty() && content.iter().all(|part| *part == Content::Image) => {
                // Images that a tool returned: OpenAI's API has no place for them in the tool's message.
                let response = self.messages.last_mut().ok_or("no message before it")?;
                let end = response.content.len().saturating_sub(1);
                response.content.splice(end..end, content);
                return Ok(());
            }
            "user" => Role::User,
            "tool" => {
                self.tool(content, after_tool);
                return Ok(());
            }
            "system" | "developer" | "assistant" => return Err("images are the user's and the tools'".to_owned()),
            other => return Err(format!("the role {other:?} is not known")),
        };
        self.messages.push(Message { role, content });
        Ok(())
    }

    /// What a tool returned, as the model was taught to read it.
    fn tool(&mut self, content: Vec<Content>, after_tool: bool) {
        let mut wrapped = vec![Content::text("<tool_response>")];
        wrapped.extend(content);
        wrapped.push(Content::text("</tool_response>"));
        match self.messages.last_mut().filter(|_| after_tool) {
            Some(last) => {
                last.content.push(Content::text("\n"));
                last.content.extend(wrapped);
            }
            None => self.messages.push(Message { role: Role::User, content: wrapped }),
        }
    }

    fn content(&mut self, raw: &Value) -> Result<Vec<Content>, String> {
        match raw {
            Value::Null => Ok(Vec::new()),
            Value::String(text) => Ok(vec![Content::text(text.clone())]),
            Value::Array(parts) => parts.iter().map(|part| self.part(part)).collect(),
            _ => Err("`content` must be a text or a list of parts".to_owned()),
        }
    }

    fn part(&mut self, raw: &Value) -> Result<Content, String> {
        match raw["type"].as_str() {
            Some("text") => {
                let text = raw["text"].as_str().ok_or("a part of type `text` needs a `text`")?;
                Ok(Content::text(text))
            }
            Some("image_url") => {
                let url = raw["image_url"]["url"].as_str().or_else(|| raw["image_url"].as_str());
                self.image(url.ok_or("a part of type `image_url` needs an `image_url` with a `url`")?)?;
                Ok(Content::Image)
            }
            Some(other) => Err(format!("parts of type {other:?} are not supported")),
            None => Err("a part without `type`".to_owned()),
        }
    }

    fn image(&mut self, url: &str) -> Result<(), String> {
        if self.images.len() == MOST_IMAGES {
            return Err(format!("more than {MOST_IMAGES} images"));
        }
        let Some(data) = url.strip_prefix("data:") else {
            return Err("images are taken as data URLs only (data:image/png;base64,…); nothing is fetched".to_owned());
        };
        let data = data.split_once(',').filter(|(kind, _)| kind.ends_with(";base64"));
        let (_, data) = data.ok_or("a data URL must be `data:image/…;base64,…`")?;
        let bytes = STANDARD.decode(data.trim()).map_err(|error| format!("the data URL of an image: {error}"))?;
        let pixels = picture::decode(&bytes).map_err(|error| format!("image {}: {error}", self.images.len() + 1))?;
        self.pixels += u64::from(pixels.width()) * u64::from(pixels.height());
        if self.pixels > MOST_PIXELS {
            return Err(format!("the images have more than {MOST_PIXELS} pixels together"));
        }
        self.images.push(Arc::new(pixels));
        Ok(())
    }
}

/// The calls of an assistant's message, as the text of its turn.
fn calls(raw: &Value, said: &[Content]) -> Result<Vec<Content>, String> {
    let mut out: Vec<Content> = Vec::new();
    for call in raw["tool_calls"].as_array().into_iter().flatten() {
        let name = call["function"]["name"].as_str().ok_or("a call without `function` with a `name`")?;
        let arguments = match &call["function"]["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => "{}".to_owned(),
            other => python_json(other),
        };
        let call = ChatCall { id: String::new(), name: name.to_owned(), arguments };
        let spoken = said.iter().any(|part| matches!(part, Content::Text { text } if !text.is_empty()));
        let line = if spoken || !out.is_empty() { "\n" } else { "" };
        out.push(Content::text(format!("{line}{}", call_text(&call))));
    }
    Ok(out)
}
