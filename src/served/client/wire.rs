//! Questions and replies as the JSON of `/v1/chat/completions`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imagent_core::Role;
use imagent_core::chat::{
    ChatCall, ChatChoice, ChatError, ChatMessage, ChatPart, ChatReply, ChatRequest, ChatToken, Finish, Usage,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The body that asks a question.
pub(super) fn question(model: &str, request: &ChatRequest) -> Result<Value, ChatError> {
    let messages = request.messages.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model));
    body.insert("messages".to_owned(), json!(messages));
    let tools: Vec<Value> = request.tools.iter().map(|tool| json!({"type": "function", "function": tool})).collect();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(key.to_owned(), value);
        }
    };
    put("tools", (!tools.is_empty()).then(|| json!(tools)));
    put("max_tokens", request.max_tokens.map(|value| json!(value)));
    put("temperature", request.temperature.map(number));
    put("top_p", request.top_p.map(number));
    put("top_k", request.top_k.map(|value| json!(value)));
    put("min_p", request.min_p.map(number));
    put("stop", (!request.stop.is_empty()).then(|| json!(request.stop)));
    put("n", (request.n != 1).then(|| json!(request.n)));
    put("seed", request.seed.map(|value| json!(value)));
    put("logprobs", request.logprobs.map(|_| json!(true)));
    put("top_logprobs", request.logprobs.filter(|&count| count > 0).map(|count| json!(count)));
    Ok(Value::Object(body))
}

/// The shortest decimal of an f32: 0.7, not 0.699999988079071.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

fn message(message: &ChatMessage) -> Result<Value, ChatError> {
    let content = match message.parts.as_slice() {
        [ChatPart::Text(text)] => json!(text),
        [] if !message.calls.is_empty() => Value::Null,
        parts => json!(parts.iter().map(part).collect::<Result<Vec<_>, _>>()?),
    };
    let mut out = Map::new();
    out.insert("role".to_owned(), json!(message.role));
    out.insert("content".to_owned(), content);
    if !message.calls.is_empty() && message.role == Role::Assistant {
        let call = |call: &ChatCall| json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
        out.insert("tool_calls".to_owned(), json!(message.calls.iter().map(call).collect::<Vec<_>>()));
    }
    if let Some(id) = &message.call_id {
        out.insert("tool_call_id".to_owned(), json!(id));
    }
    Ok(Value::Object(out))
}

fn part(part: &ChatPart) -> Result<Value, ChatError> {
    Ok(match part {
        ChatPart::Text(text) => json!({"type": "text", "text": text}),
        ChatPart::Image(image) => {
            let url = format!("data:image/png;base64,{}", STANDARD.encode(image.png()?));
            json!({"type": "image_url", "image_url": {"url": url}})
        }
    })
}

#[derive(Deserialize)]
struct RawReply {
    choices: Vec<RawChoice>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct RawUsage {
    #[serde(default)]
    prompt_tokens: Option<usize>,
    #[serde(default)]
    completion_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct RawChoice {
    #[serde(default)]
    index: Option<usize>,
    message: RawMessage,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<RawLogprobs>,
}

#[derive(Deserialize)]
struct RawMessage {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<RawCall>>,
}

#[derive(Deserialize)]
struct RawCall {
    #[serde(default)]
    id: String,
    function: RawFunction,
}

#[derive(Deserialize)]
struct RawFunction {
    name: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
struct RawLogprobs {
    #[serde(default)]
    content: Option<Vec<RawToken>>,
}

#[derive(Deserialize)]
struct RawToken {
    token: String,
    logprob: f32,
    #[serde(default)]
    top_logprobs: Vec<RawTop>,
}

#[derive(Deserialize)]
struct RawTop {
    token: String,
    logprob: f32,
}

/// Reads a reply; the error says what is wrong with it.
pub(super) fn reply(bytes: &[u8]) -> Result<ChatReply, String> {
    let raw: RawReply = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("the answer is no chat completion: {error}"),
        _ => format!("the answer is not valid JSON: {error}"),
    })?;
    let usage = raw.usage.map(|usage| Usage {
        prompt_tokens: usage.prompt_tokens.unwrap_or_default(),
        completion_tokens: usage.completion_tokens.unwrap_or_default(),
    });
    let mut choices = raw.choices;
    choices.sort_by_key(|choice| choice.index);
    let choices = choices.into_iter().map(choice).collect();
    Ok(ChatReply { choices, usage, model: raw.model.unwrap_or_default() })
}

fn choice(raw: RawChoice) -> ChatChoice {
    let call = |(i, call): (usize, RawCall)| ChatCall {
        id: if call.id.is_empty() { format!("call_{i}") } else { call.id },
        name: call.function.name,
        // Some servers send the object itself.
        arguments: match call.function.arguments {
            Value::String(text) => text,
            Value::Null => "{}".to_owned(),
            other => other.to_string(),
        },
    };
    let token = |raw: RawToken| ChatToken {
        text: raw.token,
        logprob: raw.logprob,
        top: raw.top_logprobs.into_iter().map(|top| (top.token, top.logprob)).collect(),
    };
    ChatChoice {
        text: raw.message.content.unwrap_or_default(),
        reasoning: raw.message.reasoning_content.or(raw.message.reasoning),
        finish: match raw.finish_reason.as_deref() {
            Some("stop" | "eos") | None => Finish::Stop,
            Some("length") => Finish::Length,
            Some("tool_calls" | "function_call") => Finish::Calls,
            Some(other) => Finish::Other(other.to_owned()),
        },
        calls: raw.message.tool_calls.unwrap_or_default().into_iter().enumerate().map(call).collect(),
        tokens: raw.logprobs.and_then(|raw| raw.content).map(|tokens| tokens.into_iter().map(token).collect()),
    }
}

/// Fewest and most pixels of an image, where the server tells of the model as ours does.
pub(super) fn image_limits(bytes: &[u8], model: &str) -> Option<(u64, u64)> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    let found = json["data"].as_array()?.iter().find(|entry| entry["id"] == model)?;
    let pixels = |key: &str| found["image"][key].as_u64().filter(|&pixels| pixels > 0);
    Some((pixels("min_pixels")?, pixels("max_pixels")?)).filter(|(min, max)| min <= max)
}
