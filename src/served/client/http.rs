//! One request to a server, in a thread of its own so that the caller can leave it, and what came of it.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, SystemTime};

use imagent_core::chat::ChatError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use ureq::{Agent, Response};

use super::{GLANCE, retry};
use crate::config::EndpointConfig;

/// Most bytes of an answer.
const MOST_BYTES: u64 = 64 << 20;
/// Most bytes of an answer that only says why there is none.
const MOST_ERROR_BYTES: u64 = 64 << 10;
/// Most characters that are told of what a server says.
const MOST_TOLD: usize = 300;

/// Why a request was not answered.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// What happened.
    pub(super) what: String,
    /// The status, if there was an answer.
    pub(super) status: Option<u16>,
    /// Whether it may be answered another time.
    pub(super) again: bool,
    /// When the server wants to be asked again.
    pub(super) after: Option<Duration>,
    /// Whether the conversation is longer than the model can read.
    pub(super) too_long: bool,
    /// Whether the caller wants to stop.
    pub(super) stopped: bool,
}

impl Trouble {
    pub(super) fn stopped() -> Self {
        Self { stopped: true, what: "stopped".to_owned(), ..Self::default() }
    }

    fn passing(what: String) -> Self {
        Self { what, again: true, ..Self::default() }
    }

    fn lasting(what: String) -> Self {
        Self { what, ..Self::default() }
    }
}

impl From<Trouble> for ChatError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble { stopped: true, .. } => Self::Stopped,
            Trouble { too_long: true, what, .. } => Self::TooLong(what),
            Trouble { what, .. } => Self::Failed(what),
        }
    }
}

/// Sends requests with the key.
#[derive(Clone)]
pub(super) struct Http {
    agent: Agent,
    key: Option<Arc<str>>,
    timeout: Duration,
}

impl Http {
    pub(super) fn new(settings: &EndpointConfig, key: Option<String>) -> Self {
        let agent = ureq::builder()
            // The key goes to the address that was named and nowhere else.
            .redirects(0)
            .timeout_connect(Duration::from_secs_f64(settings.connect_timeout))
            .user_agent(concat!("imagent/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections_per_host(settings.at_once)
            .try_proxy_from_env(!is_local(&settings.url))
            .build();
        Self { agent, key: key.map(Arc::from), timeout: Duration::from_secs_f64(settings.timeout) }
    }

    /// The body of the answer to one request: a POST of `body`, or a GET without one.
    pub(super) fn exchange(
        &self,
        url: &str,
        body: Option<Arc<[u8]>>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Vec<u8>, Trouble> {
        let (answer, answered) = channel();
        let (http, address) = (self.clone(), url.to_owned());
        // A request cannot be taken back; one that nobody waits for any more ends at its time limit.
        let work = move || drop(answer.send(http.request(&address, body.as_deref())));
        let started = std::thread::Builder::new().name("request".to_owned()).spawn(work);
        started.map_err(|error| Trouble::lasting(format!("no thread for the request: {error}")))?;
        loop {
            if stopped() {
                return Err(Trouble::stopped());
            }
            match answered.recv_timeout(GLANCE) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Trouble::lasting("the request broke off".to_owned()));
                }
            }
        }
    }

    fn request(&self, url: &str, body: Option<&[u8]>) -> Result<Vec<u8>, Trouble> {
        let mut request = self.agent.request(if body.is_some() { "POST" } else { "GET" }, url).timeout(self.timeout);
        if let Some(key) = &self.key {
            request = request.set("Authorization", &format!("Bearer {key}"));
        }
        let answer = match body {
            Some(body) => request.set("Content-Type", "application/json").send_bytes(body),
            None => request.call(),
        };
        match answer {
            Ok(response) if (200..300).contains(&response.status()) => match read(response) {
                Ok(bytes) => Ok(self.without_key(bytes)),
                Err(trouble) => Err(Trouble { what: self.safe(&trouble.what), ..trouble }),
            },
            Ok(response) => {
                let to = response.header("location").map(|to| format!(" to {to}")).unwrap_or_default();
                let what =
                    format!("status {}{to}; redirects are not followed, name the last address", response.status());
                Err(Trouble { status: Some(response.status()), ..Trouble::lasting(self.safe(&what)) })
            }
            Err(ureq::Error::Status(status, response)) => Err(self.refused(status, response)),
            Err(ureq::Error::Transport(error)) => Err(transport(&error)),
        }
    }

    /// An answer that is none.
    fn refused(&self, status: u16, response: Response) -> Trouble {
        let after = response.header("retry-after").and_then(|value| retry::after(value, SystemTime::now()));
        let mut bytes = Vec::new();
        // What could be read of it is told.
        let _ = response.into_reader().take(MOST_ERROR_BYTES).read_to_end(&mut bytes);
        let (message, code) = message(&bytes);
        let spent = code == "insufficient_quota";
        let lower = message.to_lowercase();
        let too_long = matches!(status, 400 | 413)
            && (code == "context_length_exceeded"
                || ["maximum context length", "context size", "context length"].iter().any(|say| lower.contains(say)));
        let hint = match status {
            401 | 403 if self.key.is_none() => " (no key is set in the environment, see endpoint.key_env)",
            _ => "",
        };
        let colon = if message.is_empty() { "" } else { ": " };
        let what = self.safe(&format!("status {status}{colon}{message}{hint}"));
        Trouble {
            what,
            status: Some(status),
            again: retry::is_passing(status) && !spent,
            after,
            too_long,
            stopped: false,
        }
    }

    /// An answer without the key, which a server may repeat.
    fn without_key(&self, bytes: Vec<u8>) -> Vec<u8> {
        let Some(key) = self.key.as_deref().filter(|key| !key.is_empty()) else { return bytes };
        match String::from_utf8(bytes) {
            Ok(text) if text.contains(key) => text.replace(key, "***").into_bytes(),
            Ok(text) => text.into_bytes(),
            Err(error) => error.into_bytes(),
        }
    }

    /// A text without the key.
    fn safe(&self, text: &str) -> String {
        let text = self.key.as_ref().map_or_else(|| text.to_owned(), |key| text.replace(&**key, "***"));
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_TOLD + 1).collect();
        if plain.chars().count() > MOST_TOLD {
            format!("{}…", plain.chars().take(MOST_TOLD).collect::<String>())
        } else {
            plain
        }
    }
}

/// Whether an address is one of this machine, to which no proxy leads.
fn is_local(url: &str) -> bool {
    let host = url::Url::parse(url).ok();
    match host.as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// What a server says of a refusal, and its code for it.
fn message(bytes: &[u8]) -> (String, String) {
    let text = || String::from_utf8_lossy(bytes).trim().to_owned();
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return (text(), String::new()) };
    let places = [&json["error"]["message"], &json["error"], &json["message"], &json["detail"]];
    let said = places.into_iter().find_map(Value::as_str).map_or_else(text, str::to_owned);
    let code = [&json["error"]["code"], &json["code"]].into_iter().find_map(Value::as_str).unwrap_or_default();
    (said, code.to_owned())
}

fn transport(error: &ureq::Transport) -> Trouble {
    use ureq::ErrorKind;
    let said = error.message().map(str::to_owned).unwrap_or_else(|| error.kind().to_string());
    let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    let what = said + &cause;
    match error.kind() {
        ErrorKind::Dns | ErrorKind::ConnectionFailed | ErrorKind::Io | ErrorKind::BadStatus | ErrorKind::BadHeader => {
            Trouble::passing(what)
        }
        _ => Trouble::lasting(what),
    }
}

/// The whole body of an answer that is JSON.
fn read(response: Response) -> Result<Vec<u8>, Trouble> {
    let kind = response.content_type().to_owned();
    let length: Option<u64> = response.header("content-length").and_then(|length| length.parse().ok());
    let huge = || Trouble::lasting(format!("the answer has more than {} MiB", MOST_BYTES >> 20));
    if length.is_some_and(|length| length > MOST_BYTES) {
        return Err(huge());
    }
    let mut bytes = Vec::new();
    let taken = response.into_reader().take(MOST_BYTES + 1).read_to_end(&mut bytes);
    taken.map_err(|error| Trouble::passing(format!("the answer broke off: {error}")))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(huge());
    }
    if !(kind == "application/json" || kind.ends_with("+json")) {
        return Err(Trouble::lasting(format!("expected an answer in application/json, got {kind:?}")));
    }
    match serde_json::from_slice::<Maybe>(&bytes) {
        // Without a length, the end of the connection is all that tells that the answer was cut.
        Err(error) if error.is_eof() => {
            Err(Trouble::passing("the answer broke off: its JSON is incomplete".to_owned()))
        }
        Ok(Maybe { error: Some(error), choices: None }) => Err(within(&error)),
        _ => Ok(bytes),
    }
}

/// What tells an answer from an error that is sent with the status of one.
#[derive(Deserialize)]
struct Maybe {
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    choices: Option<IgnoredAny>,
}

/// An error within a good answer, as servers send that ask others.
fn within(error: &Value) -> Trouble {
    let code =
        [&error["code"], &error["status"]].into_iter().find_map(Value::as_u64).and_then(|code| code.try_into().ok());
    let said =
        [&error["message"], error].into_iter().find_map(Value::as_str).map_or_else(|| error.to_string(), str::to_owned);
    let told = code.map(|code: u16| format!("error {code}: ")).unwrap_or_else(|| "error: ".to_owned());
    Trouble { what: told + &said, again: code.is_some_and(retry::is_passing), ..Trouble::default() }
}
