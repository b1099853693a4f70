//! Where a model is: a folder, or a repository of the Hugging Face hub, fetched into the cache that Python's tools use.
//!
//! * `id`: `org/name` or `org/name@revision`;
//! * `settings`: the environment variables that huggingface_hub reads;
//! * `cache`: the cache's layout, and what of a model is there;
//! * `client`: requests to the hub, redirects, the token;
//! * `download`: one file, resumed and checked;
//! * `fetch`: all files of a model.
//!
//! Only this module opens connections, and only for a name that is no folder. [ADR 10](https://github.com/imagent-rs/imagent/blob/main/docs/adr/0010-hub.md)
//! says why it is built like this.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
mod error;
#[cfg(feature = "hub")]
mod fetch;
mod id;
#[cfg(feature = "hub")]
mod settings;

use std::path::{Path, PathBuf};

pub use error::HubError;
pub use id::HubId;

use crate::error::Error;

/// How much of a model is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Everything that running it takes.
    Everything,
    /// Configuration and tokenizer, and of the weights their names and sizes.
    Description,
}

/// A model that was found.
#[derive(Clone, Debug)]
pub struct Located {
    /// The folder.
    pub dir: PathBuf,
    /// The weight files at the hub, with their bytes where the hub tells, if they are not all in the folder.
    pub remote: Vec<(String, Option<u64>)>,
}

/// Finds a model by name: a folder that exists, else a hub id, which is fetched into the cache unless it is there. Progress
/// goes to standard error.
///
/// # Errors
/// `NoModel` if the name is neither; `Hub` if the repository cannot be had.
pub fn locate(name: &str, need: Need) -> Result<Located, Error> {
    let path = PathBuf::from(name);
    if path.is_dir() {
        return Ok(Located { dir: path, remote: Vec::new() });
    }
    match name.parse::<HubId>() {
        Ok(id) => get(&id, need).map_err(|source| match path.parent().is_some_and(Path::is_dir) {
            true => Error::NeitherModel { path, source },
            false => source.into(),
        }),
        Err(HubError::Id { .. }) => Err(Error::NoModel { path }),
        Err(error) => Err(error.into()),
    }
}

#[cfg(feature = "hub")]
fn get(id: &HubId, need: Need) -> Result<Located, HubError> {
    fetch::fetch(id, need, &settings::Settings::from_env()?)
}

#[cfg(not(feature = "hub"))]
fn get(id: &HubId, _: Need) -> Result<Located, HubError> {
    Err(HubError::Disabled { id: id.to_string() })
}
