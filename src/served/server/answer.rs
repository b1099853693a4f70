//! Replies as JSON: whole (`chat.completion`), or as a stream of what is new (`chat.completion.chunk`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::response::sse;
use futures_core::Stream;
use imagent_core::chat::{ChatCall, split_calls};
use imagent_core::{Key, StopReason, derive};
use imagent_models::codec::Codec;
use imagent_models::policy::Told;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::question::Asked;
use super::refusal::Refusal;
use super::rollout::Event;
use super::routes::Place;
use super::text::ReplyText;

/// What all parts of an answer say.
pub(super) struct Heading {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) prompt_tokens: usize,
}

/// One reply as it grows.
struct Reply {
    text: ReplyText,
    key: Key,
    tokens: Vec<Value>,
    /// Tokens of `tokens` that a stream has told.
    told: usize,
    count: usize,
    finish: Option<&'static str>,
    calls: Vec<ChatCall>,
    kept: String,
    begun: bool,
}

/// The replies to a question.
pub(super) struct Answer {
    heading: Heading,
    codec: Arc<Codec>,
    replies: Vec<Reply>,
    events: UnboundedReceiver<(usize, Event)>,
    enough: Arc<[AtomicBool]>,
    logprobs: bool,
    split_calls: bool,
    stream_usage: bool,
    chunks: VecDeque<String>,
    over: bool,
    /// The request's place is free again when the answer is gone.
    _place: Place,
}

impl Answer {
    pub(super) fn new(
        asked: &Asked,
        (heading, codec): (Heading, Arc<Codec>),
        keys: &[Key],
        (events, enough): (UnboundedReceiver<(usize, Event)>, Arc<[AtomicBool]>),
        place: Place,
    ) -> Self {
        let split_calls = asked.split_calls;
        let reply = |&key: &Key| Reply {
            text: ReplyText::new(asked.stops.clone(), split_calls),
            key,
            tokens: Vec::new(),
            told: 0,
            count: 0,
            finish: None,
            calls: Vec::new(),
            kept: String::new(),
            begun: false,
        };
        Self {
            heading,
            codec,
            replies: keys.iter().map(reply).collect(),
            events,
            enough,
            logprobs: asked.logprobs.is_some(),
            split_calls,
            stream_usage: asked.stream_usage,
            chunks: VecDeque::new(),
            over: false,
            _place: place,
        }
    }

    /// Waits for all replies.
    pub(super) async fn whole(mut self) -> Result<Value, Refusal> {
        while !self.is_done() {
            let (i, event) = self.events.recv().await.ok_or_else(gone)?;
            self.take(i, event)?;
        }
        let choices: Vec<Value> = self.replies.iter().enumerate().map(|(i, reply)| self.choice(i, reply)).collect();
        Ok(json!({
            "id": self.heading.id,
            "object": "chat.completion",
            "created": self.heading.created,
            "model": self.heading.model,
            "choices": choices,
            "usage": self.usage(),
        }))
    }

    fn is_done(&self) -> bool {
        self.replies.iter().all(|reply| reply.finish.is_some())
    }

    /// Takes in what was sampled for a reply.
    fn take(&mut self, i: usize, event: Event) -> Result<(), Refusal> {
        let codec = Arc::clone(&self.codec);
        let decode = |ids: &[u32]| codec.tokenizer.decode(ids, true).unwrap_or_default();
        let reply = &mut self.replies[i];
        if reply.finish.is_some() {
            return Ok(());
        }
        match event {
            Event::Token(told) => {
                reply.count += 1;
                let stopped = reply.text.push(told.id, &decode);
                if self.logprobs {
                    reply.tokens.push(token(&codec, &told));
                }
                if stopped {
                    self.enough[i].store(true, Ordering::Relaxed);
                    self.finish(i, "stop");
                }
            }
            Event::End(Ok(stop)) => {
                reply.text.end(&decode);
                // The end token was sampled as well.
                reply.count += usize::from(stop == StopReason::EndOfTurn);
                self.finish(i, if stop == StopReason::Length { "length" } else { "stop" });
            }
            Event::End(Err(problem)) => return Err(Refusal::failed(problem)),
        }
        Ok(())
    }

    fn finish(&mut self, i: usize, why: &'static str) {
        let (prompt, reply) = (self.heading.prompt_tokens as u64, &mut self.replies[i]);
        let mut count = 0;
        let mut id = || {
            count += 1;
            format!("call_{:016x}", derive(reply.key.0, &[prompt, count]))
        };
        let whole = reply.text.whole();
        let split =
            if self.split_calls && why == "stop" { split_calls(whole, &mut id) } else { (whole.to_owned(), vec![]) };
        (reply.kept, reply.calls) = split;
        reply.finish = Some(if reply.calls.is_empty() { why } else { "tool_calls" });
    }

    fn choice(&self, i: usize, reply: &Reply) -> Value {
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        let silent = reply.kept.is_empty() && !reply.calls.is_empty();
        message.insert("content".to_owned(), if silent { Value::Null } else { json!(reply.kept) });
        if !reply.calls.is_empty() {
            message.insert("tool_calls".to_owned(), json!(reply.calls.iter().map(call).collect::<Vec<_>>()));
        }
        let logprobs = if self.logprobs { json!({"content": reply.tokens}) } else { Value::Null };
        json!({"index": i, "message": message, "logprobs": logprobs, "finish_reason": reply.finish})
    }

    fn usage(&self) -> Value {
        let (prompt, sampled) =
            (self.heading.prompt_tokens, self.replies.iter().map(|reply| reply.count).sum::<usize>());
        json!({"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled})
    }

    /// What is new of a reply, as chunks.
    fn tell(&mut self, i: usize) {
        let reply = &mut self.replies[i];
        let mut deltas = Vec::new();
        if !reply.begun {
            reply.begun = true;
            deltas.push((json!({"role": "assistant", "content": ""}), Value::Null));
        }
        let finish = reply.finish;
        let mut news = reply.text.news(finish.is_some()).to_owned();
        if finish.is_some() {
            news.push_str(reply.text.rest(&reply.kept));
        }
        if !news.is_empty() {
            deltas.push((json!({"content": news}), Value::Null));
        }
        if finish.is_some() && !reply.calls.is_empty() {
            let numbered = |(index, told): (usize, &ChatCall)| {
                let mut told = call(told);
                told["index"] = json!(index);
                told
            };
            let calls: Vec<Value> = reply.calls.iter().enumerate().map(numbered).collect();
            deltas.push((json!({"tool_calls": calls}), Value::Null));
        }
        if let Some(finish) = finish {
            deltas.push((json!({}), json!(finish)));
        }
        let says = deltas.iter().any(|(delta, _)| delta.get("role").is_none());
        let fresh = if self.logprobs && says { reply.tokens[reply.told..].to_vec() } else { Vec::new() };
        reply.told += fresh.len();
        let mut logprobs = if fresh.is_empty() { Value::Null } else { json!({"content": fresh}) };
        for (delta, finish) in deltas {
            let told = if delta.get("role").is_some() { Value::Null } else { logprobs.take() };
            let choice = json!({"index": i, "delta": delta, "logprobs": told, "finish_reason": finish});
            self.chunk(json!([choice]), Value::Null);
        }
    }

    fn chunk(&mut self, choices: Value, usage: Value) {
        let mut chunk = json!({
            "id": self.heading.id,
            "object": "chat.completion.chunk",
            "created": self.heading.created,
            "model": self.heading.model,
            "choices": choices,
        });
        if self.stream_usage {
            chunk["usage"] = usage;
        }
        self.chunks.push_back(chunk.to_string());
    }

    /// The last chunks.
    fn close(&mut self, failed: Option<Refusal>) {
        self.over = true;
        match failed {
            Some(refusal) => self.chunks.push_back(refusal.json().to_string()),
            None if self.stream_usage => {
                let usage = self.usage();
                self.chunk(json!([]), usage);
            }
            None => {}
        }
        self.chunks.push_back("[DONE]".to_owned());
    }
}

impl Stream for Answer {
    type Item = Result<sse::Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Poll::Ready(Some(Ok(sse::Event::default().data(chunk))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let (i, event) = match self.events.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(told)) => told,
                Poll::Ready(None) => {
                    self.close(Some(gone()));
                    continue;
                }
            };
            match self.take(i, event) {
                Ok(()) => self.tell(i),
                Err(refusal) => self.close(Some(refusal)),
            }
            if !self.over && self.is_done() {
                self.close(None);
            }
        }
    }
}

fn gone() -> Refusal {
    Refusal::failed("the model is gone")
}

fn call(call: &ChatCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

/// A token in OpenAI's form.
fn token(codec: &Codec, told: &Told) -> Value {
    let one = |id: u32, logprob: f32| {
        let text = codec.tokenizer.decode(&[id], false).unwrap_or_default();
        // A part of a letter has no text of its own.
        let bytes = if text.contains('\u{fffd}') { Value::Null } else { json!(text.as_bytes()) };
        json!({"token": text, "logprob": logprob.max(-9999.0), "bytes": bytes})
    };
    let mut out = one(told.id, told.logprob);
    out["top_logprobs"] = told.likeliest.iter().map(|&(id, logprob)| one(id, logprob)).collect();
    out
}
