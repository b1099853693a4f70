//! Asking a chat model that somebody serves: messages with images in, texts out. What agents, judges and makers of data ask
//! through; whoever implements [`ChatModel`] knows how the model is reached.
//!
//! * this file: the question, the reply and the trait;
//! * `calls`: tool calls as text in a turn, and back;
//! * `agent`: episodes with tools over a chat model;
//! * `rule`: a chat model that is a function;
//! * `side_by_side`: several questions at once.

mod agent;
mod calls;
mod rule;
mod side_by_side;

use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use image::RgbImage;
use serde::{Deserialize, Serialize};

pub use agent::{CallStyle, ChatAgent, View};
pub use calls::{PythonFormatter, call_text, describe_tools, python_json, split_calls};
pub use rule::RuleChat;
pub use side_by_side::side_by_side;

use crate::encoder::EncodeError;
use crate::message::Role;
use crate::tool::ToolSpec;

/// An image of a chat, as the model is to see it. It is encoded once, however often it is sent.
#[derive(Debug)]
pub struct ChatImage {
    pixels: Arc<RgbImage>,
    png: OnceLock<Vec<u8>>,
}

impl ChatImage {
    /// An image of these pixels.
    pub fn new(pixels: Arc<RgbImage>) -> Self {
        Self { pixels, png: OnceLock::new() }
    }

    /// Its pixels.
    pub fn pixels(&self) -> &Arc<RgbImage> {
        &self.pixels
    }

    /// Its content as a PNG file.
    ///
    /// # Errors
    /// When the image has no pixels.
    pub fn png(&self) -> Result<&[u8], ChatError> {
        if self.png.get().is_none() {
            let mut bytes = Vec::new();
            let encoded = self.pixels.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png);
            encoded.map_err(|error| ChatError::Failed(format!("an image cannot be sent: {error}")))?;
            // Another thread may have been first; it has the same bytes.
            let _ = self.png.set(bytes);
        }
        Ok(self.png.get().map_or(&[], Vec::as_slice))
    }
}

/// One piece of what is said.
#[derive(Clone, Debug)]
pub enum ChatPart {
    /// A text.
    Text(String),
    /// An image.
    Image(Arc<ChatImage>),
}

impl ChatPart {
    /// A text piece.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// An image piece.
    pub fn image(pixels: Arc<RgbImage>) -> Self {
        Self::Image(Arc::new(ChatImage::new(pixels)))
    }
}

/// A call in the form of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatCall {
    /// Names the call; what the tool returned is sent back under this name.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments: the JSON text as the model wrote it, which need not be valid.
    pub arguments: String,
}

/// One message.
#[derive(Clone, Debug)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<ChatPart>,
    /// Calls of an assistant's message.
    pub calls: Vec<ChatCall>,
    /// The call that a tool's message answers.
    pub call_id: Option<String>,
}

impl ChatMessage {
    /// A message of these parts.
    pub fn new(role: Role, parts: Vec<ChatPart>) -> Self {
        Self { role, parts, calls: Vec::new(), call_id: None }
    }

    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self::new(role, vec![ChatPart::text(text)])
    }
}

/// A question to a chat model.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// The conversation so far.
    pub messages: Vec<ChatMessage>,
    /// Tools in the form of the API. Empty: the model is told of none, and its text is returned as written.
    pub tools: Vec<ToolSpec>,
    /// Most tokens of a reply; `None` leaves it to the server.
    pub max_tokens: Option<usize>,
    /// Divides the logits; 0 takes the likeliest token. `None` leaves it to the server.
    pub temperature: Option<f32>,
    /// Share of the probability that tokens are drawn from; `None` leaves it to the server.
    pub top_p: Option<f32>,
    /// The number of likeliest tokens that are drawn from; not every server knows it.
    pub top_k: Option<usize>,
    /// Least probability of a token relative to the likeliest; not every server knows it.
    pub min_p: Option<f32>,
    /// Texts that end the reply. They are not part of it.
    pub stop: Vec<String>,
    /// How many replies.
    pub n: usize,
    /// Names the randomness, where the server knows seeds. At most 2³¹ − 1, which all of them read.
    pub seed: Option<u32>,
    /// Whether to return the log-probability of each token, and of how many others at its place.
    pub logprobs: Option<usize>,
}

impl ChatRequest {
    /// A conversation to be continued once, everything else left to the server.
    pub fn new(messages: Vec<ChatMessage>) -> Self {
        Self {
            messages,
            tools: Vec::new(),
            max_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            min_p: None,
            stop: Vec::new(),
            n: 1,
            seed: None,
            logprobs: None,
        }
    }
}

/// Why a reply ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn, or wrote a stop text.
    Stop,
    /// It ran out of tokens.
    Length,
    /// It called tools.
    Calls,
    /// Whatever else the server says (`content_filter`).
    Other(String),
}

/// A token of a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatToken {
    /// Its text.
    pub text: String,
    /// Its log-probability, as the server defines it.
    pub logprob: f32,
    /// The likeliest tokens at its place and their log-probabilities, falling.
    pub top: Vec<(String, f32)>,
}

/// One of the replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChoice {
    /// Its text.
    pub text: String,
    /// What it thought, where the server takes that out of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Why it ended.
    pub finish: Finish,
    /// Its calls in the form of the API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ChatCall>,
    /// Its tokens, where they were asked for and the server tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<ChatToken>>,
}

impl ChatChoice {
    /// A reply that ended by itself.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), reasoning: None, finish: Finish::Stop, calls: Vec::new(), tokens: None }
    }
}

/// What a question cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the conversation, images included.
    pub prompt_tokens: usize,
    /// Tokens of all replies.
    pub completion_tokens: usize,
}

/// What a chat model said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// As many as were asked for.
    pub choices: Vec<ChatChoice>,
    /// What it cost, where the server tells.
    pub usage: Option<Usage>,
    /// The model's name as the server gives it.
    pub model: String,
}

impl ChatReply {
    /// A reply of one text at no cost; for models that are rules.
    pub fn text(text: impl Into<String>) -> Self {
        Self { choices: vec![ChatChoice::text(text)], usage: None, model: String::new() }
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The model could not be asked, or its server refused or failed; says which, and after how many attempts.
    #[error("{0}")]
    Failed(String),
    /// The conversation is longer than the model can read.
    #[error("{0}")]
    TooLong(String),
    /// An image cannot be shown to the model.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The caller wants to stop.
    #[error("stopped")]
    Stopped,
}

/// A chat model that can be asked. It may be asked from several threads at once; whoever implements it limits how many
/// questions are under way.
pub trait ChatModel: Send + Sync {
    /// Its name, for records.
    fn name(&self) -> &str;

    /// Asks it and waits for the reply.
    ///
    /// # Errors
    /// When there is no reply, after whatever was tried again.
    fn ask(&self, request: &ChatRequest) -> Result<ChatReply, ChatError>;
}
