//! The folder of a pipeline: made, or found to be that of the same config and texts.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use imagent_analysis::record::write_atomic;
use toml::Table;

use super::config::PipelineConfig;
use super::prompts::Prompt;
use super::{CONFIG, wrong};
use crate::error::Error;

/// Keys of the config that may change between runs of one pipeline. More groups may come; fewer are refused by the files of the steps.
const FREE: [&str; 5] = ["endpoints", "prices", "reviewed", "groups", "out"];

/// What the roles that served models play are told.
pub(super) type Prompts = BTreeMap<&'static str, Prompt>;

/// A folder that no other process writes to.
pub(super) struct Claim {
    pub(super) prompts: Prompts,
    _lock: File,
}

/// Makes the folder, or checks that it is that of this config.
pub(super) fn claim(config: &PipelineConfig, folder: &Path) -> Result<Claim, Error> {
    let played = config.roles().into_iter().filter(|(_, role)| !role.endpoint.is_empty());
    let told = played.map(|(name, role)| Ok((name, Prompt::read(name, &role.prompt)?)));
    let told = told.collect::<Result<Prompts, Error>>()?;
    let lock = lock(folder)?;
    let (file, wanted) = (folder.join(CONFIG), config.to_toml());
    match read(&file)? {
        Some(found) => same(&file, &found, &wanted)?,
        None if is_used(folder) => return Err(Error::Occupied { path: folder.to_owned(), what: "other files" }),
        None => {}
    }
    let texts = told.iter().map(|(name, prompt)| (folder.join("prompts").join(format!("{name}.txt")), prompt.text()));
    let texts: Vec<(PathBuf, &str)> = texts.collect();
    for (path, text) in &texts {
        if read(path)?.is_some_and(|found| found != *text) {
            return Err(wrong(path, "the prompt is another now; choose another folder as `out`"));
        }
    }
    write_atomic(&file, wanted.as_bytes())?;
    for (path, text) in texts {
        write_atomic(&path, text.as_bytes())?;
    }
    Ok(Claim { prompts: told, _lock: lock })
}

/// A lock that ends with the process.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(".lock");
    let io = |source| Error::Io { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(io)?;
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// A file's text, if there is one.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

/// Whether a folder holds anything but hidden files, such as one that was being written.
fn is_used(folder: &Path) -> bool {
    let hidden = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| !hidden(&entry)))
}

/// Whether two configs are of one pipeline.
fn same(file: &Path, found: &str, wanted: &str) -> Result<(), Error> {
    let read = |text: &str| toml::from_str::<Table>(text).map_err(|error| wrong(file, error.message()));
    let (found, wanted) = (pinned(read(found)?), pinned(read(wanted)?));
    match wanted.iter().find(|(key, value)| found.get(*key) != Some(*value)) {
        None => Ok(()),
        Some((key, _)) => {
            Err(wrong(file, format!("the pipeline there has another `{key}`; choose another folder as `out`")))
        }
    }
}

/// What must not change. Texts are compared themselves, not where they stand.
fn pinned(mut config: Table) -> Table {
    FREE.iter().for_each(|key| drop(config.remove(*key)));
    for table in config.iter_mut().filter_map(|(_, value)| value.as_table_mut()) {
        table.retain(|key, value| key != "prompt" || !value.is_str());
    }
    config
}
