//! Folders in the making: gone unless they get a name of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All drafts of this process.
static OPEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// How often a folder is removed that somebody is still writing to.
const TRIES: usize = 100;

/// A folder that is removed when this is dropped, or by [`remove_all`], unless it was renamed before.
///
/// ```
/// use imagent_core::Draft;
/// let place = tempfile::tempdir()?;
/// let (half, whole) = (place.path().join("half"), place.path().join("whole"));
/// let draft = Draft::create(half.clone())?;
/// std::fs::write(draft.path().join("a"), "a")?;
/// std::fs::rename(draft.path(), &whole)?;
/// drop(draft);
/// assert!(whole.join("a").exists() && !half.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Makes the folder, with those above it, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: PathBuf) -> std::io::Result<Self> {
        let draft = Self { path };
        // Known before it is there: a signal may come between.
        open().push(draft.path.clone());
        fs::create_dir_all(&draft.path)?;
        Ok(draft)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        open().retain(|path| *path != self.path);
        // After a renaming there is nothing to remove; otherwise the error that led here is what counts.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes all drafts of this process, which is about to end.
pub fn remove_all() {
    for path in open().drain(..) {
        // A thread may put files into it meanwhile, until the folder itself is gone.
        let gone = |_: &usize| fs::remove_dir_all(&path).is_ok() || !path.exists();
        let _ = (0..TRIES).find(gone);
    }
}

fn open() -> MutexGuard<'static, Vec<PathBuf>> {
    // A panic cannot leave the list half changed.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn drafts_go_with_their_owner_or_at_the_end_of_the_process() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let [a, b] = ["a", "deep/b"].map(|name| Draft::create(path(name)).unwrap());
        fs::create_dir(a.path().join("images")).unwrap();
        fs::write(a.path().join("images/1"), "1").unwrap();
        drop(b);
        assert!(a.path().is_dir() && !path("deep/b").exists() && path("deep").is_dir());
        let renamed = Draft::create(path("half")).unwrap();
        fs::rename(renamed.path(), path("whole")).unwrap();
        remove_all();
        assert!(!a.path().exists() && path("whole").is_dir());
        drop((a, renamed));
        assert!(path("whole").is_dir());
    }
}
