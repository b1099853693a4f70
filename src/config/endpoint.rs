//! The `[endpoint]` and `[judge]` tables: a model that somebody serves in OpenAI's form, and how it is asked.

use serde::{Deserialize, Serialize};

/// How tools are told and called. Calls in either form are understood with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calls {
    /// The system message describes the tools in Qwen2.5's words, `<tool_call>` calls them, and what they return is a user's
    /// message. Works with any server.
    #[default]
    Text,
    /// As `text`, but the API's `tools` tell of them, in the words of the model's own template; `tool_choice = "none"` leaves calls
    /// in the text. What our own server and vLLM do with that is what a model of ours was trained on.
    Template,
    /// The API's fields: `tools`, `tool_calls`, and messages of the role `tool`, their images in a user's message after it.
    Api,
}

/// The `[endpoint]` table, a model that `eval` and `rollout` ask in place of `[model]`, and the `[judge]` table, one that benchmarks ask.
/// Training looks at neither.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointConfig {
    /// Where it is: `http://HOST:PORT` or `https://…`; `/v1` is put behind an address without a path.
    pub url: String,
    /// The model's name at the server.
    pub model: String,
    /// The environment variable that holds the key; it may be unset where the server asks for none. Default `OPENAI_API_KEY`.
    pub key_env: String,
    /// How tools are told and called. Default `text`.
    pub calls: Calls,
    /// Asks for the log-probability of each token. Default false.
    pub logprobs: bool,
    /// Most requests under way at once. Default 8.
    pub at_once: usize,
    /// How often a request is sent again that could not be answered. Default 5.
    pub retries: u32,
    /// The longest pause before it is sent again, in seconds; a server that asks for a longer one is given up. Default 60.
    pub max_wait: f64,
    /// Seconds within which a connection must be made. Default 10.
    pub connect_timeout: f64,
    /// Seconds within which an answer must be complete. Default 600.
    pub timeout: f64,
    /// Fewest pixels of an image as it is sent. Default: what the server tells, else 3136, as Qwen2.5-VL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_pixels: Option<u64>,
    /// Most pixels of an image as it is sent. Default: what the server tells, else 12,845,056, as Qwen2.5-VL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            model: String::new(),
            key_env: "OPENAI_API_KEY".to_owned(),
            calls: Calls::default(),
            logprobs: false,
            at_once: 8,
            retries: 5,
            max_wait: 60.0,
            connect_timeout: 10.0,
            timeout: 600.0,
            min_pixels: None,
            max_pixels: None,
        }
    }
}

impl EndpointConfig {
    /// The address that paths like `/chat/completions` go behind.
    pub fn base(&self) -> String {
        let url = self.url.trim_end_matches('/');
        let host = url.split_once("://").map_or(url, |(_, rest)| rest);
        if host.contains('/') { url.to_owned() } else { format!("{url}/v1") }
    }

    /// Checks the values; the error is a field and what is wrong with it.
    ///
    /// # Errors
    /// Names the first field that cannot be.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let rest = self.url.strip_prefix("http://").or_else(|| self.url.strip_prefix("https://"));
        let host = rest.unwrap_or_default().split('/').next().unwrap_or_default();
        if host.is_empty() || self.url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(("url", format!("must be http://HOST or https://HOST, got {:?}", self.url)));
        }
        if host.contains('@') {
            return Err((
                "url",
                "must not hold a user or a key; a key comes from the environment (key_env)".to_owned(),
            ));
        }
        if self.url.contains(['?', '#']) {
            return Err(("url", format!("must not have a query, got {:?}", self.url)));
        }
        if self.model.trim().is_empty() {
            return Err(("model", "must be the model's name at the server".to_owned()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.key_env.is_empty() || !self.key_env.chars().all(plain) {
            // Not shown: it may be a key that was put here by mistake.
            return Err(("key_env", "must be the name of an environment variable".to_owned()));
        }
        if self.at_once == 0 {
            return Err(("at_once", "must be at least 1, got 0".to_owned()));
        }
        for (field, value) in
            [("max_wait", self.max_wait), ("connect_timeout", self.connect_timeout), ("timeout", self.timeout)]
        {
            if !(value > 0.0 && value <= 86_400.0) {
                return Err((field, format!("must be in (0, 86400] seconds, got {value}")));
            }
        }
        let (min, max) = (self.min_pixels.unwrap_or(1), self.max_pixels.unwrap_or(u64::MAX));
        if min == 0 || min > max {
            return Err(("min_pixels", format!("must be at least 1 and at most max_pixels, got {min}")));
        }
        Ok(())
    }
}
