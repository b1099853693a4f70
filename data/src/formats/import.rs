//! A dataset of any format to a folder of ours. Image files are copied byte by byte.

use std::path::Path;

use imagent_core::picture;

use super::Select;
use super::reader::open;
use crate::error::DataError;
use crate::folder::SAMPLES;
use crate::folder::write::{Summary, write_rows};

/// Writes the dataset at `path`, all of it or the first `limit` rows, to a new folder of ours at `out`: whole, or not at all.
/// When the same dataset is there already, nothing changes. `done` is told after each row how many there are.
///
/// # Errors
/// The first bad row, or a folder that holds something else.
pub fn import(
    path: &Path,
    select: Select<'_>,
    out: &Path,
    limit: Option<usize>,
    done: &mut dyn FnMut(usize),
) -> Result<Summary, DataError> {
    let reader = open(path, select)?;
    let count = limit.unwrap_or(usize::MAX).min(reader.len());
    let rows = (0..count).map(|position| -> Result<_, DataError> {
        let entry = reader.entry(position)?;
        let mut files = Vec::new();
        let mut images = Vec::new();
        for picture in &entry.pictures {
            let bytes = reader.bytes(picture);
            let read = bytes.and_then(|bytes| {
                let image = picture::decode(&bytes).map_err(|error| error.to_string())?;
                Ok((image, bytes))
            });
            let (image, bytes) = match read {
                Ok(read) => read,
                // The reader's own error names the row.
                Err(problem) => return Err(reader.sample(position).err().unwrap_or_else(|| unreadable(path, problem))),
            };
            images.push(std::sync::Arc::new(image));
            files.push(bytes);
        }
        done(position + 1);
        Ok((entry.sample(images), files))
    });
    if reader.is_empty() {
        return Err(DataError::Empty { file: path.join(SAMPLES) });
    }
    write_rows(out, rows)
}

fn unreadable(path: &Path, problem: String) -> DataError {
    DataError::NotADataset { path: path.into(), problem }
}
