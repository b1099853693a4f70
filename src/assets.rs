//! The base model that comes with the program: the files of `models/assets/nano-base`, embedded.

use std::path::Path;

use crate::error::Error;

#[cfg(nano_base)]
macro_rules! base {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../models/assets/nano-base/", $name)))),+]
    };
}

/// Name and content of each file.
#[cfg(nano_base)]
const NANO_BASE: &[(&str, &[u8])] = base![
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.json",
    "preprocessor_config.json",
    "generation_config.json",
];
#[cfg(not(nano_base))]
const NANO_BASE: &[(&str, &[u8])] = &[];

/// Whether this build has the base model.
pub fn has_nano_base() -> bool {
    !NANO_BASE.is_empty()
}

/// Writes the base model into an existing folder.
///
/// # Errors
/// When a file cannot be written, or this build has no base model.
pub fn write_nano_base(dir: &Path) -> Result<(), Error> {
    if !has_nano_base() {
        return Err(Error::NoBase);
    }
    for (name, content) in NANO_BASE {
        let path = dir.join(name);
        std::fs::write(&path, content).map_err(|source| Error::Io { path: path.clone(), source })?;
    }
    Ok(())
}
