//! The root of a dataset: names of files to paths, none of which leads out of it.

use std::path::{Component, Path, PathBuf};

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It leaves the dataset; says in which way.
    Outside(&'static str),
    /// There is no such file.
    Missing,
}

/// A dataset's folder, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// The folder at `path`, links resolved.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.canonicalize()? })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that `name` names below the folder, after all links.
    pub(crate) fn file(&self, name: &str) -> Result<PathBuf, Refused> {
        self.file_below(Path::new(""), name)
    }

    /// The same for names that are relative to `below`, a folder within this one.
    pub(crate) fn file_below(&self, below: &Path, name: &str) -> Result<PathBuf, Refused> {
        let relative = Path::new(name);
        if relative.has_root() || relative.is_absolute() {
            return Err(Refused::Outside("its path is absolute"));
        }
        if relative.components().any(|part| matches!(part, Component::ParentDir | Component::Prefix(_))) {
            return Err(Refused::Outside("its path has `..`"));
        }
        let Ok(path) = self.path.join(below).join(relative).canonicalize() else { return Err(Refused::Missing) };
        if !path.starts_with(&self.path) {
            return Err(Refused::Outside("it is a link that leads out"));
        }
        if path.is_file() { Ok(path) } else { Err(Refused::Missing) }
    }
}
