//! Requests to the hub: which files a revision has, what a file is, and its bytes from a place on.
//!
//! Redirects are followed here and not by the HTTP client: the first answer says what the file is, the last one has its bytes,
//! and the token goes to the hub alone.

use std::path::Path;
use std::time::Duration;

use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use ureq::{Agent, Response};
use url::Url;

use super::error::HubError;
use super::id::HubId;
use super::settings::Settings;

/// Most redirects of one request.
const HOPS: usize = 10;

/// A revision as the hub describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Description {
    /// The commit.
    pub(super) sha: String,
    /// Its files.
    pub(super) siblings: Vec<Sibling>,
}

/// A file of a revision.
#[derive(Debug, Deserialize)]
pub(super) struct Sibling {
    /// Path in the repository.
    #[serde(rename = "rfilename")]
    pub(super) name: String,
    /// Bytes, where the hub tells.
    pub(super) size: Option<u64>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Names it: the sha256 of a large file, the git hash of a small one.
    pub(super) etag: String,
    /// Bytes.
    pub(super) size: u64,
}

impl Content {
    /// The sha256, if the etag is one.
    pub(super) fn sha256(&self) -> Option<&str> {
        let hex = self.etag.len() == 64 && self.etag.chars().all(|c| c.is_ascii_hexdigit());
        hex.then_some(self.etag.as_str())
    }
}

/// Asks one hub about one model.
pub(super) struct Client {
    id: HubId,
    endpoint: String,
    host: Url,
    token: Option<String>,
    agent: Agent,
    repo: ApiRepo,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(id: &HubId, settings: &Settings) -> Result<Self, HubError> {
        let bad = |problem: String| HubError::Request { url: settings.endpoint.clone(), problem };
        let host = Url::parse(&settings.endpoint).map_err(|error| bad(error.to_string()))?;
        let repo = Repo::with_revision(id.repo.clone(), RepoType::Model, id.revision.clone());
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.clone())
            .with_progress(false)
            .build()
            .map_err(|error| bad(error.to_string()))?;
        let agent = ureq::builder()
            .redirects(0)
            .timeout_connect(settings.timeout)
            .timeout_read(settings.timeout)
            .user_agent(concat!("imagent/", env!("CARGO_PKG_VERSION")))
            .try_proxy_from_env(true)
            .build();
        Ok(Self {
            id: id.clone(),
            endpoint: settings.endpoint.clone(),
            host,
            token: settings.token.clone(),
            agent,
            repo: api.repo(repo),
            timeout: settings.timeout,
        })
    }

    /// The commit and the files of the revision.
    pub(super) fn description(&self) -> Result<Description, HubError> {
        let request = self.repo.info_request().query("blobs", "true").timeout(3 * self.timeout);
        let url = request.url().to_owned();
        let response = request.call().map_err(|error| self.refused(&url, error))?;
        let description: Description =
            response.into_json().map_err(|error| HubError::Request { url: url.clone(), problem: error.to_string() })?;
        if super::cache::is_commit(&description.sha) {
            return Ok(description);
        }
        let problem = format!("the commit {:?} is no commit", description.sha);
        Err(HubError::Request { url, problem })
    }

    /// Where a file of a commit is.
    pub(super) fn url(&self, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{file}", self.endpoint, self.id.repo)
    }

    /// What the file at `url` is, without fetching it.
    pub(super) fn content(&self, url: &str) -> Result<Content, HubError> {
        let bad = |problem: &str| HubError::Request { url: url.to_owned(), problem: problem.to_owned() };
        let (mut etag, mut size) = (None, None);
        self.follow(url, "bytes=0-0", |response| {
            let header = |name| response.header(name).map(str::to_owned);
            let redirect = is_redirect(response.status());
            etag = etag.take().or_else(|| header("x-linked-etag")).or_else(|| header("etag").filter(|_| !redirect));
            size = size.or_else(|| header("x-linked-size")?.parse().ok());
            size = size.or_else(|| whole_size(response).filter(|_| !redirect));
            etag.is_none() || size.is_none()
        })?;
        let etag = etag.ok_or_else(|| bad("the answer has no etag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let plain = etag.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if etag.is_empty() || etag.len() > 128 || !plain {
            return Err(bad("the etag in the answer cannot name a file"));
        }
        Ok(Content { etag, size: size.ok_or_else(|| bad("the answer does not tell the size"))? })
    }

    /// The bytes at `url`, from `first` on where the server can; the answer's status tells (206 or 200).
    pub(super) fn bytes(&self, url: &str, first: u64) -> Result<Response, HubError> {
        self.follow(url, &format!("bytes={first}-"), |response| is_redirect(response.status()))
    }

    /// Follows redirects while `more` wants so; returns the last answer.
    fn follow(&self, url: &str, range: &str, mut more: impl FnMut(&Response) -> bool) -> Result<Response, HubError> {
        let bad = |problem: String| HubError::Request { url: url.to_owned(), problem };
        let mut next = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        for _ in 0..HOPS {
            // Compressed, a range would be one of other bytes.
            let mut request = self.agent.get(next.as_str()).set("Range", range).set("Accept-Encoding", "identity");
            let ours = (next.scheme(), next.host(), next.port_or_known_default())
                == (self.host.scheme(), self.host.host(), self.host.port_or_known_default());
            if let Some(token) = self.token.as_ref().filter(|_| ours) {
                request = request.set("Authorization", &format!("Bearer {token}"));
            }
            let response = match request.call() {
                // An empty file has no first byte.
                Err(ureq::Error::Status(416, response)) if whole_size(&response) == Some(0) => response,
                answer => answer.map_err(|error| self.refused(url, error))?,
            };
            if !more(&response) || !is_redirect(response.status()) {
                return Ok(response);
            }
            let location = response.header("location").ok_or_else(|| bad("a redirect to nowhere".to_owned()))?;
            next = next.join(location).map_err(|error| bad(format!("a redirect to {location:?}: {error}")))?;
        }
        Err(bad(format!("more than {HOPS} redirects")))
    }

    /// What an answer that is none means for the user.
    fn refused(&self, url: &str, error: ureq::Error) -> HubError {
        let (id, endpoint) = (self.id.to_string(), self.endpoint.clone());
        match error {
            ureq::Error::Status(status, response) => match (response.header("x-error-code"), status) {
                (Some("RepoNotFound"), _) => HubError::NoRepository { id, endpoint },
                (Some("RevisionNotFound"), _) => HubError::NoRevision { id, endpoint },
                (Some("EntryNotFound"), _) => HubError::Unusable { id, problem: format!("{url} is not there") },
                (Some("GatedRepo"), _) | (_, 401 | 403) => HubError::Gated { id, endpoint, status },
                (_, 404) => HubError::NoRepository { id, endpoint },
                _ => HubError::Request { url: url.to_owned(), problem: format!("status {status}") },
            },
            ureq::Error::Transport(transport) => {
                let message = transport.message().map(str::to_owned);
                let problem = message.unwrap_or_else(|| transport.kind().to_string());
                let cause = std::error::Error::source(&transport).map(|source| format!(": {source}"));
                HubError::Request { url: url.to_owned(), problem: problem + &cause.unwrap_or_default() }
            }
        }
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Bytes of the whole file that an answer is about.
fn whole_size(response: &Response) -> Option<u64> {
    match response.header("content-range") {
        Some(range) => range.rsplit('/').next()?.parse().ok(),
        None => response.header("content-length")?.parse().ok(),
    }
}

/// The first byte that a partial answer begins with.
pub(super) fn first_byte(response: &Response) -> Option<u64> {
    let range = response.header("content-range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.parse().ok()
}

/// Whether a path in a repository names a file of the repository's own folder.
pub(super) fn is_plain(name: &str) -> bool {
    Path::new(name).file_name() == Some(name.as_ref())
}
