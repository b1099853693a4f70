//! Why a model could not be had from the hub.

use std::path::PathBuf;

/// Why a model could not be had from the hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text cannot be a hub id.
    #[error("{name}: no hub id, which is ORG/NAME or ORG/NAME@REVISION")]
    Id {
        /// The text.
        name: String,
    },
    /// This build cannot reach the hub.
    #[error("{id}: no such folder, and this build has no access to the hub (feature `hub`)")]
    Disabled {
        /// The model.
        id: String,
    },
    /// There is no such repository, or it is hidden.
    #[error("{id}: no such folder, and {endpoint} has no such model (if it is private, set HF_TOKEN)")]
    NoRepository {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
    },
    /// There is no such revision.
    #[error("{id}: {endpoint} has the model, but not this revision")]
    NoRevision {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
    },
    /// Access must be granted.
    #[error("{id}: {endpoint} asks who you are ({status}): accept the model's terms there, and set HF_TOKEN")]
    Gated {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
        /// 401 or 403.
        status: u16,
    },
    /// Connections are forbidden, and the cache does not have it.
    #[error("{id}: no such folder; HF_HUB_OFFLINE is set and the cache {} lacks {missing}", cache.display())]
    Offline {
        /// The model.
        id: String,
        /// The cache.
        cache: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// The repository is no model that can be read here.
    #[error("{id}: {problem}")]
    Unusable {
        /// The model.
        id: String,
        /// What it lacks.
        problem: String,
    },
    /// An environment variable has a value that cannot be.
    #[error("{name}: {problem}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The hub cannot be reached, or answers with an error of its own.
    #[error("{url}: {problem}")]
    Request {
        /// What was asked for.
        url: String,
        /// What came of it.
        problem: String,
    },
    /// What came is not what the hub says it is.
    #[error("{url}: expected {what} {expected}, got {got}; nothing of it was kept")]
    Damaged {
        /// What was fetched.
        url: String,
        /// Sha256, or bytes.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A file of the cache could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl HubError {
    /// Whether what was named is at fault, and not the connection or the machine.
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Request { .. } | Self::Damaged { .. } | Self::Io { .. })
    }
}

/// Makes a closure that turns an I/O error at `path` into [`HubError::Io`].
#[cfg(feature = "hub")]
pub(super) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> HubError {
    let path = path.to_path_buf();
    move |source| HubError::Io { path, source }
}
