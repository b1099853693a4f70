//! A chat model behind an OpenAI-compatible server.
//!
//! * this file: one question, whatever it takes to have it answered;
//! * `http`: one request and what came of it;
//! * `retry`: when to ask again;
//! * `wire`: the JSON of questions and replies;
//! * `slots`: how many questions are under way.

mod http;
mod retry;
mod slots;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use imagent_core::chat::{ChatError, ChatModel, ChatReply, ChatRequest};
use imagent_models::image_processor::ImageProcessor;
use serde_json::Value;

use self::http::{Http, Trouble};
use self::slots::Slots;
use crate::config::{Calls, EndpointConfig};

/// How often the caller's wish to stop is looked at.
const GLANCE: Duration = Duration::from_millis(50);
/// Most pixels of an image as Qwen2.5-VL's checkpoints publish it.
const QWEN_MAX_PIXELS: u64 = 12_845_056;

/// Told what goes on while a question waits to be asked again.
pub type Notice = Box<dyn Fn(&str) + Send + Sync>;

/// A model at an address. Its key is read from the environment, sent to that address alone, and never shown.
pub struct OpenAi {
    settings: EndpointConfig,
    http: Http,
    slots: Slots,
    stop: Arc<AtomicBool>,
    notice: Notice,
}

impl std::fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenAi").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl OpenAi {
    /// The model of these settings. `stop` ends what is under way; `notice` is told of every attempt that failed.
    ///
    /// # Errors
    /// When a setting cannot be, or the key is no text that can be sent.
    pub fn new(settings: EndpointConfig, stop: Arc<AtomicBool>, notice: Notice) -> Result<Self, ChatError> {
        let refused = |(field, problem): (&str, String)| ChatError::Failed(format!("`endpoint.{field}` {problem}"));
        settings.validate().map_err(refused)?;
        let key = std::env::var(&settings.key_env).ok().filter(|key| !key.trim().is_empty());
        let key = key.map(|key| key.trim().to_owned());
        if key.as_ref().is_some_and(|key| !key.chars().all(|c| c.is_ascii_graphic())) {
            return Err(ChatError::Failed(format!(
                "{}: the key holds a blank or a letter that cannot be sent",
                settings.key_env
            )));
        }
        let http = Http::new(&settings, key);
        Ok(Self { slots: Slots::new(settings.at_once), settings, http, stop, notice })
    }

    /// The settings.
    pub fn settings(&self) -> &EndpointConfig {
        &self.settings
    }

    /// How images are sent: by the settings, else as the server tells of the model, else as Qwen2.5-VL is published. Fails early
    /// where the server cannot be reached or refuses the key.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub fn image_view(&self) -> Result<ImageProcessor, ChatError> {
        let mut view = ImageProcessor { max_pixels: QWEN_MAX_PIXELS, ..ImageProcessor::default() };
        if self.settings.min_pixels.is_none() || self.settings.max_pixels.is_none() {
            let told = match self.send("/models", None) {
                Ok(bytes) => wire::image_limits(&bytes, &self.settings.model),
                // Not every server lists its models.
                Err(Trouble { status: Some(400 | 404 | 405 | 501), .. }) => None,
                Err(trouble) => return Err(trouble.into()),
            };
            (view.min_pixels, view.max_pixels) = told.unwrap_or((view.min_pixels, view.max_pixels));
        }
        view.min_pixels = self.settings.min_pixels.unwrap_or(view.min_pixels);
        view.max_pixels = self.settings.max_pixels.unwrap_or(view.max_pixels).max(view.min_pixels);
        Ok(view)
    }

    /// Sends a request until it is answered, or it makes no sense to try again.
    fn send(&self, path: &str, body: Option<&Value>) -> Result<Vec<u8>, Trouble> {
        let url = format!("{}{path}", self.settings.base());
        let body = body.map(|body| Arc::<[u8]>::from(body.to_string().into_bytes()));
        let _slot = self.slots.take(&|| self.stopped()).ok_or_else(Trouble::stopped)?;
        let mut attempt = 0;
        loop {
            let trouble = match self.http.exchange(&url, body.clone(), &|| self.stopped()) {
                Ok(bytes) => return Ok(bytes),
                Err(trouble) => trouble,
            };
            attempt += 1;
            let given_up = attempt > self.settings.retries;
            let again = (trouble.again && !given_up).then(|| retry::pause(attempt, trouble.after));
            let Some(pause) = again.filter(|pause| pause.as_secs_f64() <= self.settings.max_wait) else {
                return Err(last_word(trouble, &url, attempt, self.settings.max_wait));
            };
            (self.notice)(&format!("{url}: {}; again in {:.1} s", trouble.what, pause.as_secs_f64()));
            self.wait(pause)?;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn wait(&self, pause: Duration) -> Result<(), Trouble> {
        let end = Instant::now() + pause;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.stopped() {
                return Err(Trouble::stopped());
            }
            std::thread::sleep(left.min(GLANCE));
        }
        Ok(())
    }
}

/// What is told when nothing is tried any more.
fn last_word(mut trouble: Trouble, url: &str, attempts: u32, max_wait: f64) -> Trouble {
    if trouble.stopped {
        return trouble;
    }
    let tries = if attempts > 1 { format!(" ({attempts} attempts)") } else { String::new() };
    let wait = trouble.after.filter(|after| trouble.again && after.as_secs_f64() > max_wait);
    let wait = wait.map(|after| {
        format!("; the server asks to wait {} s, more than endpoint.max_wait = {max_wait}", after.as_secs())
    });
    trouble.what = format!("{url}: {}{}{tries}", trouble.what, wait.unwrap_or_default());
    trouble
}

impl ChatModel for OpenAi {
    fn name(&self) -> &str {
        &self.settings.model
    }

    fn ask(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let mut body = wire::question(&self.settings.model, request)?;
        if self.settings.calls == Calls::Template && !request.tools.is_empty() {
            body["tool_choice"] = "none".into();
        }
        let bytes = self.send("/chat/completions", Some(&body))?;
        let reply = wire::reply(&bytes).and_then(|reply| match reply.choices.len() {
            got if got == request.n => Ok(reply),
            got => Err(format!("asked for {} replies, the server gave {got}", request.n)),
        });
        reply.map_err(|problem| ChatError::Failed(format!("{}/chat/completions: {problem}", self.settings.base())))
    }
}
