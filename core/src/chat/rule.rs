//! A chat model that is a function: rules in place of a server, and fakes in tests. It checks what it is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ChatError, ChatMessage, ChatModel, ChatReply, ChatRequest};
use crate::message::Role;

type Rule = dyn Fn(&ChatRequest) -> Result<ChatReply, ChatError> + Send + Sync;

/// A function that replies. A question that no server would take is an error: no message, no reply wanted, a call that is
/// not answered, an answer to no call.
///
/// ```
/// use imagent_core::chat::{ChatMessage, ChatModel, ChatReply, ChatRequest, RuleChat};
/// use imagent_core::Role;
///
/// let seven = RuleChat::new(|_| Ok(ChatReply::text("7")));
/// let asked = ChatRequest::new(vec![ChatMessage::text(Role::User, "How many?")]);
/// assert_eq!(seven.ask(&asked)?.choices[0].text, "7");
/// assert!(seven.ask(&ChatRequest::new(Vec::new())).is_err());
/// assert_eq!(seven.asked(), 2);
/// # Ok::<(), imagent_core::chat::ChatError>(())
/// ```
pub struct RuleChat {
    rule: Box<Rule>,
    asked: AtomicUsize,
}

impl std::fmt::Debug for RuleChat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleChat").field("asked", &self.asked()).finish_non_exhaustive()
    }
}

impl RuleChat {
    /// A model that replies `rule(request)`.
    pub fn new(rule: impl Fn(&ChatRequest) -> Result<ChatReply, ChatError> + Send + Sync + 'static) -> Self {
        Self { rule: Box::new(rule), asked: AtomicUsize::new(0) }
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ChatModel for RuleChat {
    fn name(&self) -> &str {
        "rule"
    }

    fn ask(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        check(request)?;
        let reply = (self.rule)(request)?;
        let (wanted, got) = (request.n, reply.choices.len());
        if wanted == got { Ok(reply) } else { Err(wrong(&format!("asked for {wanted} replies, the rule gave {got}"))) }
    }
}

fn wrong(what: &str) -> ChatError {
    ChatError::Failed(format!("rule: {what}"))
}

/// What servers refuse as well.
fn check(request: &ChatRequest) -> Result<(), ChatError> {
    if request.messages.is_empty() || request.n == 0 || request.max_tokens == Some(0) {
        return Err(wrong("a question needs a message, a reply and a token"));
    }
    let mut open: Vec<&str> = Vec::new();
    for message in &request.messages {
        let ChatMessage { role, calls, call_id, .. } = message;
        match (role, call_id) {
            (Role::Tool, Some(id)) => match open.iter().position(|open| open == id) {
                Some(at) => drop(open.remove(at)),
                None => return Err(wrong("an answer to no call")),
            },
            (Role::Tool, None) => return Err(wrong("a tool's message names no call")),
            _ if !open.is_empty() => return Err(wrong("a call is not answered")),
            _ => open = calls.iter().map(|call| call.id.as_str()).collect(),
        }
    }
    if open.is_empty() { Ok(()) } else { Err(wrong("a call is not answered")) }
}
