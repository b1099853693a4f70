//! The page for looking at questions: on loopback, by keyboard.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use imagent_core::chat::ChatImage;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Decision, REVIEWS, Review, add};
use crate::error::Error;
use crate::pipeline::bank::Bank;
use crate::pipeline::config::PipelineConfig;
use crate::pipeline::item::{Difficulty, Question, Verdict, Votes};
use crate::pipeline::keep::{self, Line, Outcome};
use crate::pipeline::{CONFIG, STEPS, wrong};
use crate::served::server::{connections, is_local};

/// Most bytes of a review.
const MOST_BYTES: usize = 64 << 10;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct ReviewOptions {
    /// The folder of a pipeline.
    pub folder: PathBuf,
    /// The port; 0 takes a free one.
    pub port: u16,
}

/// A question and what the steps found.
struct Item {
    id: String,
    asked: Question,
    votes: Votes,
    verdict: Verdict,
    difficulty: Difficulty,
}

/// What the page shows, and where decisions go.
struct Questions {
    folder: PathBuf,
    bank: Bank,
    items: Vec<Item>,
    /// One decision is written at a time.
    writing: Mutex<()>,
}

type App = Arc<Questions>;

/// Shows the questions of a pipeline until `stop` is set. `ready` is told the address.
///
/// # Errors
/// When the folder holds no questions, or the address cannot be had.
pub fn serve(
    options: &ReviewOptions,
    stop: &AtomicBool,
    ready: &mut dyn FnMut(SocketAddr, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let app = Arc::new(Questions::open(&options.folder)?);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let failed = |source| Error::Io { path: PathBuf::from(address.to_string()), source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    ready(listener.local_addr().map_err(failed)?, app.items.len())?;
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        connections::run(listener, router(app), 64, || stop.load(Ordering::Relaxed), || true).await;
        Ok::<(), std::io::Error>(())
    });
    served.map_err(failed)
}

impl Questions {
    fn open(folder: &std::path::Path) -> Result<Self, Error> {
        let file = folder.join(CONFIG);
        let config: PipelineConfig = match std::fs::read_to_string(&file) {
            Ok(text) => toml::from_str(&text).map_err(|error| wrong(&file, error.message()))?,
            Err(error) => return Err(wrong(&file, format!("no pipeline is here: {error}"))),
        };
        let mut votes = by_id::<Votes>(folder, 2)?;
        let mut verdicts = by_id::<Verdict>(folder, 3)?;
        let mut difficulties = by_id::<Difficulty>(folder, 4)?;
        let questions: Vec<Line<Question>> = keep::read(&folder.join(STEPS[1].1))?;
        let item = |Line { id, outcome }: Line<Question>| {
            let (Outcome::Kept(asked), difficulty) = (outcome, difficulties.remove(&id)?) else { return None };
            let (votes, verdict) = (votes.remove(&id)?, verdicts.remove(&id)?);
            Some(Item { id, asked, votes, verdict, difficulty })
        };
        let items: Vec<Item> = questions.into_iter().filter_map(item).collect();
        if items.is_empty() {
            return Err(wrong(folder, "holds no question to look at; run `imagent data pipeline` first"));
        }
        let bank = Bank::open(&config.images, config.seed)?;
        bank.pin(folder)?;
        // What was cut off is taken off before more is written.
        keep::reopen::<Review>(&folder.join(REVIEWS))?;
        Ok(Self { folder: folder.to_owned(), bank, items, writing: Mutex::new(()) })
    }

    fn json(&self) -> Result<Value, Error> {
        let reviews = super::read(&self.folder)?;
        let item = |item: &Item| {
            json!({
                "id": item.id,
                "question": item.asked.question,
                "answer": item.asked.answer,
                "kind": item.asked.kind,
                "gold": item.asked.gold,
                "images": item.asked.images,
                "votes": item.votes.answers,
                "agreement": item.verdict.agreement,
                "note": item.verdict.note,
                "without": item.difficulty.without,
                "with": item.difficulty.with,
                "review": reviews.get(&item.id),
            })
        };
        Ok(self.items.iter().map(item).collect())
    }
}

/// What a step found of each item that goes on.
fn by_id<T: DeserializeOwned>(folder: &std::path::Path, step: usize) -> Result<HashMap<String, T>, Error> {
    let lines: Vec<Line<T>> = keep::read(&folder.join(STEPS[step].1))?;
    let kept = |Line { id, outcome }| match outcome {
        Outcome::Kept(found) => Some((id, found)),
        Outcome::Rejected(_) => None,
    };
    Ok(lines.into_iter().filter_map(kept).collect())
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/items", get(items))
        .route("/images/{item}/{number}", get(image))
        .route("/review", post(review))
        .layer(from_fn(guard))
        .with_state(app)
}

/// Answers requests by a name of this machine and of this page alone, and lets pages of others neither read nor ask.
async fn guard(request: Request, next: Next) -> Response {
    if !is_local(request.headers()) || !is_own(request.headers()) {
        return (StatusCode::FORBIDDEN, "this page answers itself alone, on loopback").into_response();
    }
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
                  frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a request does not come from a page of another origin.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = headers.get(header::ORIGIN).is_none()
        || text(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://")) == text(header::HOST);
    // Browsers tell of images that another page shows, which come without an origin. A link to this page may stand anywhere.
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let opened = text(HeaderName::from_static("sec-fetch-dest")) == Some("document");
    origin && (opened || site.is_none_or(|site| ["same-origin", "none"].contains(&site)))
}

fn failed(error: &Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

async fn items(State(app): State<App>) -> Response {
    app.json().map_or_else(|error| failed(&error), |items| axum::Json(items).into_response())
}

async fn image(State(app): State<App>, Path((item, number)): Path<(usize, usize)>) -> Response {
    let asked = app.items.get(item).map(|item| &item.asked);
    let name = asked.and_then(|asked| asked.images.get(number.checked_sub(1)?)).cloned();
    let Some(name) = name else { return StatusCode::NOT_FOUND.into_response() };
    let made =
        tokio::task::spawn_blocking(move || Ok::<_, Error>(ChatImage::new(app.bank.pixels(&name)?).png()?.to_vec()));
    match made.await {
        Ok(Ok(png)) => ([(header::CONTENT_TYPE, "image/png")], png).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn review(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    // A page of another origin cannot send this type unasked.
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    if body.len() > MOST_BYTES {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let review: Review = match serde_json::from_slice(&body) {
        Ok(review) => review,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    if !app.items.iter().any(|item| item.id == review.id) {
        return (StatusCode::BAD_REQUEST, format!("there is no question {:?}", review.id)).into_response();
    }
    if review.decision == Decision::Edit && (review.question.trim().is_empty() || review.answer.trim().is_empty()) {
        return (StatusCode::BAD_REQUEST, "question and answer must not be empty").into_response();
    }
    let _one = app.writing.lock().await;
    match add(&app.folder, &review) {
        Ok(()) => axum::Json(json!({"kept": true})).into_response(),
        Err(error) => failed(&error),
    }
}
