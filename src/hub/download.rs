//! One file from the hub to the cache: resumed where an earlier attempt broke off, checked, and only then given its name.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::client::{Client, Content, first_byte};
use super::error::{HubError, io};
use crate::byte_progress::ByteProgress;

/// Attempts in a row that bring nothing before it is given up.
const ATTEMPTS: u32 = 5;
/// The pause after the first of them; it doubles with each.
const PAUSE: Duration = Duration::from_millis(100);

/// Fetches `content` from `url` to `blob`, unless it is there.
pub(super) fn download(
    client: &Client,
    url: &str,
    content: &Content,
    blob: &Path,
    progress: &ByteProgress,
) -> Result<(), HubError> {
    if fs::metadata(blob).is_ok_and(|found| found.len() == content.size) {
        progress.add(content.size);
        return Ok(());
    }
    let part = incomplete(blob);
    if let Some(dir) = blob.parent() {
        fs::create_dir_all(dir).map_err(io(dir))?;
    }
    let mut file = File::options().create(true).append(true).open(&part).map_err(io(&part))?;
    let mut told = 0;
    let mut failed = 0;
    loop {
        let have = file.metadata().map_err(io(&part))?.len();
        progress.add(have.saturating_sub(told));
        told = told.max(have);
        if have == content.size {
            break;
        }
        let Err(error) = attempt(client, url, content, (&mut file, part.as_path()), |bytes| {
            told += bytes;
            progress.add(bytes);
        }) else {
            continue;
        };
        let now = file.metadata().map_err(io(&part))?.len();
        failed = if now > have { 0 } else { failed + 1 };
        if failed == ATTEMPTS || !matches!(error, HubError::Request { .. }) {
            return Err(error);
        }
        sleep(PAUSE * 2u32.pow(failed));
    }
    file.sync_all().map_err(io(&part))?;
    check(url, content, &part)?;
    fs::rename(&part, blob).map_err(io(blob))
}

/// Goes on from where the file ends.
fn attempt(
    client: &Client,
    url: &str,
    content: &Content,
    (file, part): (&mut File, &Path),
    mut came: impl FnMut(u64),
) -> Result<(), HubError> {
    let have = file.metadata().map_err(io(part))?.len();
    let have = if have > content.size { restart(file, part)? } else { have };
    let response = client.bytes(url, have)?;
    let from = if response.status() == 206 { first_byte(&response) } else { Some(0) };
    if from != Some(have) {
        // A server that knows no ranges begins anew.
        restart(file, part)?;
        if from != Some(0) {
            let problem = "the answer is of another range than asked for".to_owned();
            return Err(HubError::Request { url: url.to_owned(), problem });
        }
    }
    let mut reader = response.into_reader().take(content.size + 1);
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                file.write_all(&buffer[..count]).map_err(io(part))?;
                came(count as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(HubError::Request { url: url.to_owned(), problem: error.to_string() }),
        }
    }
    let got = file.metadata().map_err(io(part))?.len();
    if got == content.size {
        return Ok(());
    }
    if got > content.size {
        fs::remove_file(part).map_err(io(part))?;
        let (expected, got) = (content.size.to_string(), format!("more, at least {got}"));
        return Err(HubError::Damaged { url: url.to_owned(), what: "bytes:", expected, got });
    }
    let problem = format!("the connection ended after {got} of {} bytes", content.size);
    Err(HubError::Request { url: url.to_owned(), problem })
}

fn restart(file: &mut File, part: &Path) -> Result<u64, HubError> {
    file.set_len(0).map_err(io(part)).map(|()| 0)
}

/// Compares the sha256 of a large file with the one that names it.
fn check(url: &str, content: &Content, part: &Path) -> Result<(), HubError> {
    let Some(expected) = content.sha256() else { return Ok(()) };
    let mut file = File::open(part).map_err(io(part))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).map_err(io(part))?;
    let got = hash.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    if got.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    fs::remove_file(part).map_err(io(part))?;
    Err(HubError::Damaged { url: url.to_owned(), what: "sha256", expected: expected.to_owned(), got })
}

/// Where a file is while it is not whole; Python's tools go on from the same.
fn incomplete(blob: &Path) -> PathBuf {
    let mut name = blob.file_name().unwrap_or_default().to_owned();
    name.push(".incomplete");
    blob.with_file_name(name)
}
