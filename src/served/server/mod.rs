//! `/v1/chat/completions` over the decode engine.
//!
//! * this file: the parts of a running server, its start and its end;
//! * `connections`: who is connected, for how long, and how that ends;
//! * `routes`: addresses, who may ask, how much;
//! * `question`: a request's JSON to a prompt;
//! * `rollout`: the one thread that has the model, and the desk where questions wait;
//! * `text`: tokens to the text of a reply: letters of several tokens, stop texts, calls;
//! * `answer`: replies as JSON, whole or as a stream;
//! * `refusal`: errors in OpenAI's form.

mod answer;
mod connections;
mod question;
mod refusal;
mod rollout;
mod routes;
mod text;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use imagent_models::codec::Codec;
use imagent_models::config::Dtype;

use crate::config::ModelConfig;
use crate::error::Error;

/// How often the wish to stop is looked at.
const GLANCE: Duration = Duration::from_millis(50);
/// Requests that are read at once.
const DECODERS: usize = 2;
/// Connections beside those of the requests that are taken.
const IDLE_CONNECTIONS: u32 = 64;

/// What is served, to whom, and how much of it.
#[derive(Clone)]
pub struct ServeOptions {
    /// The model.
    pub model: ModelConfig,
    /// The type its matrices are held in; `None` is the checkpoint's own.
    pub dtype: Option<Dtype>,
    /// What requests call it.
    pub name: String,
    /// The address to listen at.
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// What requests must carry as `Authorization: Bearer …`. Needed beyond loopback.
    pub token: Option<String>,
    /// Most bytes of a request.
    pub max_bytes: usize,
    /// Most requests that wait or are served; others are told to come again.
    pub max_requests: usize,
    /// Most replies that are sampled at once; others wait.
    pub max_streams: usize,
    /// Most tokens of a conversation, its replies included.
    pub context: usize,
    /// Most tokens of a reply whose request does not say.
    pub max_tokens: usize,
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the token.
        f.debug_struct("ServeOptions").field("name", &self.name).field("host", &self.host).finish_non_exhaustive()
    }
}

/// What all requests share.
struct Shared {
    options: ServeOptions,
    codec: Arc<Codec>,
    context: usize,
    started: u64,
    desk: rollout::Entrance,
    requests: AtomicUsize,
    decoding: tokio::sync::Semaphore,
}

/// Serves a model until `stop` is set: then nobody is let in any more, and who is there is served. `ready` is told the address.
///
/// # Errors
/// When the model cannot be opened, the address cannot be had, or the model fails.
pub fn serve(
    options: ServeOptions,
    stop: &Arc<AtomicBool>,
    ready: &mut dyn FnMut(SocketAddr) -> Result<(), Error>,
) -> Result<(), Error> {
    if !options.host.is_loopback() && options.token.is_none() {
        return Err(Error::OpenServer { host: options.host });
    }
    let address = SocketAddr::new(options.host, options.port);
    let failed = |source| Error::Io { path: PathBuf::from(address.to_string()), source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let room = rollout::Room::open(&options)?;
    let shared = Arc::new(Shared {
        context: options.context.min(room.context),
        codec: Arc::clone(&room.codec),
        started: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        desk: room.entrance.clone(),
        requests: AtomicUsize::new(0),
        decoding: tokio::sync::Semaphore::new(DECODERS),
        options,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    ready(listener.local_addr().map_err(failed)?)?;
    let most = u32::try_from(shared.options.max_requests).unwrap_or(u32::MAX).saturating_add(IDLE_CONNECTIONS);
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stopped = || stop.load(Ordering::Relaxed) || room.is_over();
        let idle = || room.is_idle() && shared.decoding.available_permits() == DECODERS;
        connections::run(listener, routes::router(Arc::clone(&shared)), most, stopped, idle).await;
        Ok::<(), std::io::Error>(())
    });
    drop(runtime);
    drop(shared);
    served.map_err(failed)?;
    room.close()
}
