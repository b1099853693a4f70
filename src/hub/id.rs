//! Names of models at the hub.

use std::fmt;
use std::str::FromStr;

use super::error::HubError;

/// A repository of the hub, and the revision of it.
///
/// ```
/// use imagent::hub::HubId;
/// let id: HubId = "Qwen/Qwen2.5-VL-3B-Instruct@v1.0".parse()?;
/// assert_eq!((id.repo.as_str(), id.revision.as_str()), ("Qwen/Qwen2.5-VL-3B-Instruct", "v1.0"));
/// assert_eq!("Qwen/Qwen2.5-VL-3B-Instruct".parse::<HubId>()?.revision, "main");
/// assert!("models/my/qwen".parse::<HubId>().is_err());
/// # Ok::<(), imagent::hub::HubError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// `org/name`.
    pub repo: String,
    /// A branch, a tag or a commit. `main` unless named.
    pub revision: String,
}

impl HubId {
    /// Whether the revision is a commit, which never changes.
    pub fn is_pinned(&self) -> bool {
        self.revision.len() == 40 && self.revision.chars().all(|c| c.is_ascii_hexdigit())
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision.as_str() {
            "main" => write!(f, "{}", self.repo),
            revision => write!(f, "{}@{revision}", self.repo),
        }
    }
}

impl FromStr for HubId {
    type Err = HubError;

    fn from_str(name: &str) -> Result<Self, HubError> {
        let (repo, revision) = name.split_once('@').unwrap_or((name, "main"));
        let parts: Vec<&str> = repo.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| is_name(part)) || !revision.split('/').all(is_name) {
            return Err(HubError::Id { name: name.to_owned() });
        }
        Ok(Self { repo: repo.to_owned(), revision: revision.to_owned() })
    }
}

/// What the hub takes for a name. It can stand in a path and in an address as it is.
fn is_name(part: &str) -> bool {
    let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let ends = |c: char| part.starts_with(c) || part.ends_with(c);
    plain && !part.is_empty() && part.len() <= 96 && !part.contains("..") && !ends('.') && !ends('-')
}
