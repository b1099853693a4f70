//! The server's addresses, who may ask, and how much.

use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use imagent_core::{EncodeError, Encoder, Key, Segment};
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use super::Shared;
use super::answer::{Answer, Heading};
use super::question::{self, Asked};
use super::refusal::Refusal;
use super::rollout::Question;

/// The time in which a request's body must come.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Most bytes that are read of what is too much.
const MOST_PASSED: usize = 64 << 20;

type App = Arc<Shared>;

/// All addresses.
pub(super) fn router(shared: App) -> Router {
    Router::new()
        .route("/health", get(|| async { axum::Json(json!({"status": "ok"})) }))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .fallback(|uri: Uri| async move { Refusal::no_route(uri.path()) })
        .method_not_allowed_fallback(|uri: Uri| async move { Refusal::method(uri.path()) })
        .with_state(shared)
}

/// Lets in who may ask: with the token where there is one, else from this machine by a name of this machine, so that no page
/// in a browser reaches the server by a name of its own.
fn admit(shared: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(token) = &shared.options.token else {
        let host = text(header::HOST);
        let name = host.rsplit_once(':').filter(|(_, port)| port.chars().all(|c| c.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        let local = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        return if local { Ok(()) } else { Err(Refusal::other_host()) };
    };
    let given = text(header::AUTHORIZATION).split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let given = given.map_or("", |(_, token)| token.trim());
    if same(given.as_bytes(), token.as_bytes()) { Ok(()) } else { Err(Refusal::unauthorized()) }
}

/// Whether two texts are equal, in a time that tells nothing of where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
    a.len() == b.len() && differ == 0
}

async fn models(State(shared): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    admit(&shared, &headers)?;
    let processor = &shared.codec.processor;
    let entry = json!({
        "id": shared.options.name,
        "object": "model",
        "created": shared.started,
        "owned_by": "imagent",
        "max_model_len": shared.context,
        "image": {
            "min_pixels": processor.min_pixels,
            "max_pixels": processor.max_pixels,
            "factor": processor.factor(),
        },
    });
    Ok(axum::Json(json!({"object": "list", "data": [entry]})).into_response())
}

/// A request's place among those that are taken.
pub(super) struct Place(App);

impl Place {
    fn take(shared: &App) -> Result<Self, Refusal> {
        let most = shared.options.max_requests;
        let taken = shared.requests.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(shared));
        if taken < most { Ok(place) } else { Err(Refusal::busy(most)) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn chat(State(shared): State<App>, request: Request) -> Result<Response, Refusal> {
    admit(&shared, request.headers())?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(Refusal::media_type());
    }
    let place = Place::take(&shared)?;
    let bytes = body(&shared, request).await?;
    let (asked, prompt) = prepare(&shared, bytes).await?;
    let room = shared.context.saturating_sub(prompt.ids.len());
    if room == 0 {
        return Err(Refusal::too_long(prompt.ids.len(), shared.context));
    }
    let seed = asked.seed.unwrap_or_else(chance);
    let keys: Vec<Key> = (0..asked.n as u64).map(|reply| Key::new(seed, 0, "served", reply)).collect();
    let heading = Heading {
        id: format!("chatcmpl-{:016x}", chance()),
        created: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        model: shared.options.name.clone(),
        prompt_tokens: prompt.ids.len(),
    };
    let (events, told) = unbounded_channel();
    let enough: Arc<[AtomicBool]> = keys.iter().map(|_| AtomicBool::new(false)).collect();
    let question = Question {
        prompt: Arc::new(prompt),
        sampling: asked.sampling.clone(),
        keys: keys.clone(),
        max_tokens: asked.max_tokens.unwrap_or(shared.options.max_tokens).min(room),
        likeliest: asked.logprobs.unwrap_or(0),
        events,
        enough: Arc::clone(&enough),
    };
    if !shared.desk.hand_in(question) {
        return Err(Refusal::failed("the model is gone"));
    }
    let answer = Answer::new(&asked, (heading, Arc::clone(&shared.codec)), &keys, (told, enough), place);
    if asked.stream {
        return Ok(Sse::new(answer).keep_alive(KeepAlive::default()).into_response());
    }
    Ok(axum::Json(answer.whole().await?).into_response())
}

async fn body(shared: &Shared, request: Request) -> Result<Vec<u8>, Refusal> {
    let whole = collect(request.into_body(), shared.options.max_bytes);
    tokio::time::timeout(BODY_TIME, whole).await.map_err(|_| Refusal::too_slow())?
}

/// All of a body. Some of what is too much is read and dropped, as a client that still sends does not see the refusal.
async fn collect(mut body: Body, most: usize) -> Result<Vec<u8>, Refusal> {
    let (mut whole, mut passed) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Refusal::request("the request broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if passed > 0 || whole.len() + data.len() > most {
            passed += data.len();
        } else {
            whole.extend_from_slice(&data);
        }
        if passed > MOST_PASSED {
            break;
        }
    }
    if passed > 0 { Err(Refusal::too_large(most)) } else { Ok(whole) }
}

/// Reads a request and turns it into a prompt, beside the thread that answers others; of images few are decoded at once.
async fn prepare(shared: &App, bytes: Vec<u8>) -> Result<(Asked, Segment), Refusal> {
    let _turn = shared.decoding.acquire().await.map_err(|_| Refusal::failed("the server is closing"))?;
    let app = Arc::clone(shared);
    let work = move || {
        let asked = question::read(&bytes, &app.options.name)?;
        let prompt = app.codec.prompt(&asked.messages, &asked.tools, &asked.images).map_err(refused)?;
        Ok((asked, prompt))
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refusal::failed("the request could not be read"))?
}

fn refused(error: EncodeError) -> Refusal {
    Refusal::field("messages", error.to_string())
}

/// A number that nobody can foresee, for requests without a seed.
fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}
