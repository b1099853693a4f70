//! A served model asked from a program: `cargo run --release --example ask -- URL MODEL QUESTION [IMAGE.png]`.
//!
//! Prints the reply as a line of JSON. The key is read from `OPENAI_API_KEY`, where the server asks for one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use imagent::config::EndpointConfig;
use imagent::core::Role;
use imagent::core::chat::{ChatMessage, ChatModel, ChatPart, ChatRequest};
use imagent::core::picture;
use imagent::served::OpenAi;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, model, question, images @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: ask URL MODEL QUESTION [IMAGE]...");
    };
    let settings = EndpointConfig { url: url.clone(), model: model.clone(), ..EndpointConfig::default() };
    let model = OpenAi::new(settings, Arc::new(AtomicBool::new(false)), Box::new(|notice| eprintln!("{notice}")))?;
    let view = model.image_view()?;
    let mut parts = Vec::new();
    for path in images {
        let bytes = std::fs::read(path).with_context(|| path.clone())?;
        let pixels = picture::decode(&bytes).with_context(|| path.clone())?;
        parts.push(ChatPart::image(Arc::new(view.resize(&pixels)?)));
    }
    parts.push(ChatPart::text(question.as_str()));
    let asked = ChatRequest {
        max_tokens: Some(100),
        temperature: Some(0.0),
        logprobs: Some(2),
        ..ChatRequest::new(vec![ChatMessage::new(Role::User, parts)])
    };
    let reply = model.ask(&asked)?;
    let choice = &reply.choices[0];
    let tokens = choice.tokens.as_ref().map(|tokens| tokens.iter().map(|token| (&token.text, token.logprob)));
    let line = serde_json::json!({
        "text": choice.text,
        "finish": format!("{:?}", choice.finish),
        "prompt_tokens": reply.usage.map(|usage| usage.prompt_tokens),
        "completion_tokens": reply.usage.map(|usage| usage.completion_tokens),
        "tokens": tokens.map(|tokens| tokens.collect::<Vec<_>>()),
    });
    println!("{line}");
    Ok(())
}
