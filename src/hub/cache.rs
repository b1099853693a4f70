//! The cache as huggingface_hub lays it out: `models--ORG--NAME/` with `blobs/ETAG`, `refs/REVISION` and
//! `snapshots/COMMIT/FILE`, a link to the blob.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};
use serde_json::Value;

use super::error::{HubError, io};
use super::id::HubId;

/// A model whose weights are in one file.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The list of a model's weight files, where there are several.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// One repository in the cache.
pub(super) struct Shelf {
    cache: Cache,
    repo: Repo,
    pinned: bool,
}

impl Shelf {
    pub(super) fn new(cache: &Path, id: &HubId) -> Self {
        let repo = Repo::with_revision(id.repo.clone(), RepoType::Model, id.revision.clone());
        Self { cache: Cache::new(cache.to_path_buf()), repo, pinned: id.is_pinned() }
    }

    fn dir(&self) -> PathBuf {
        self.cache.path().join(self.repo.folder_name())
    }

    /// The commit that the revision was when it was last asked for.
    pub(super) fn commit(&self) -> Option<String> {
        if self.pinned {
            return Some(self.repo.revision().to_owned());
        }
        let commit = fs::read_to_string(self.dir().join("refs").join(self.repo.revision())).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Keeps which commit the revision is now.
    pub(super) fn set_commit(&self, commit: &str) -> Result<(), HubError> {
        if self.pinned || self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        self.cache.repo(self.repo.clone()).create_ref(commit).map_err(io(&self.dir().join("refs")))
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir().join("snapshots").join(commit)
    }

    /// Where the content called `etag` is kept.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.dir().join("blobs").join(etag)
    }

    /// Makes `file` of a commit the content called `etag`.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(file);
        let made = fs::create_dir_all(self.snapshot(commit)).and_then(|()| {
            // A link whose blob is gone does not exist, but is in the way.
            if path.is_symlink() {
                fs::remove_file(&path)?;
            }
            link(&self.blob(etag), &Path::new("../../blobs").join(etag), &path)
        });
        made.map_err(io(&path))
    }

    /// Waits until no other process fetches the content called `etag`; it is ours until the file is dropped. Python's tools
    /// respect and take the same lock.
    pub(super) fn lock(&self, etag: &str) -> Result<File, HubError> {
        let dir = self.cache.path().join(".locks").join(self.repo.folder_name());
        let path = dir.join(format!("{etag}.lock"));
        let open = || File::options().create(true).truncate(false).write(true).open(&path);
        let locked = fs::create_dir_all(&dir).and_then(|()| open()).and_then(|file| file.lock().map(|()| file));
        locked.map_err(io(&path))
    }
}

#[cfg(unix)]
fn link(_: &Path, relative: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}

#[cfg(not(unix))]
fn link(blob: &Path, _: &Path, path: &Path) -> std::io::Result<()> {
    // Links need a privilege there; Python's tools move the blob as well.
    fs::rename(blob, path)
}

/// Whether a text that comes from outside can name a folder.
pub(super) fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric())
}

/// The first file that a folder lacks to be run as a model.
pub(super) fn missing(dir: &Path) -> Option<String> {
    let lacks = |name: &&str| !dir.join(name).is_file();
    if let Some(name) = ["config.json", "tokenizer.json"].iter().find(|name| lacks(name)) {
        return Some((*name).to_owned());
    }
    if dir.join(WEIGHTS).is_file() {
        return None;
    }
    match shard_names(&dir.join(INDEX)) {
        Some(names) => names.into_iter().find(|name| lacks(&name.as_str())),
        None => Some(WEIGHTS.to_owned()),
    }
}

/// Files that an index names; none if it cannot be read.
pub(super) fn shard_names(index: &Path) -> Option<BTreeSet<String>> {
    let json: Value = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    let names = json["weight_map"].as_object()?.values().map(|name| name.as_str().map(str::to_owned));
    names.collect()
}
