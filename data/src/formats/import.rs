//! A dataset of any format to a folder of ours. Image files are copied byte by byte.

use std::path::Path;

use imagent_core::{Sample, WrittenBox};

use super::reader::{BadRow, Reader, decoded, leave_out, open_without};
use super::{Answer, Select};
use crate::error::DataError;
use crate::folder::SAMPLES;
use crate::folder::write::{Summary, sample_problem, write_rows};

/// Writes the dataset at `path` to a new folder of ours at `out`: whole, or not at all, but without the rows that `bad` takes. When
/// the same dataset is there already, nothing changes. `done` is told after each row how many are written.
///
/// # Errors
/// The first bad row that `bad` does not take, or a folder that holds something else.
pub fn import(
    path: &Path,
    select: Select<'_>,
    out: &Path,
    bad: &mut BadRow<'_>,
    done: &mut dyn FnMut(usize),
) -> Result<Summary, DataError> {
    let reader = open_without(path, select, bad)?;
    if reader.is_empty() {
        return Err(DataError::Empty { file: path.join(SAMPLES) });
    }
    let mut written = 0;
    let rows = (0..reader.len()).filter_map(|position| match row(&*reader, position) {
        Ok(row) => {
            written += 1;
            done(written);
            Some(Ok(row))
        }
        Err(error) => leave_out(bad, error).err().map(Err),
    });
    write_rows(out, rows)
}

/// The sample at `position` with its images' files.
fn row(reader: &dyn Reader, position: usize) -> Result<(Sample, Vec<Vec<u8>>), DataError> {
    let entry = reader.entry(position)?;
    let (images, files) = decoded(reader, &entry).map_err(|(_, problem)| {
        let unreadable = DataError::Unwritable { id: entry.id.clone(), problem };
        // The reader's own error names the row.
        reader.sample(position).err().unwrap_or(unreadable)
    })?;
    let is_box = matches!(entry.answer, Answer::Box(_));
    let elsewhere = entry
        .box_elsewhere()
        .map(|image| format!("a box is on image {image}, the question is asked with {}", entry.pictures.len()));
    let sample = entry.sample(images);
    let no_box = || {
        let is_none = is_box && WrittenBox::read(&sample.answer).is_none();
        is_none.then(|| format!("the answer {} is no box", sample.answer))
    };
    match elsewhere.or_else(|| sample_problem(&sample)).or_else(no_box) {
        Some(problem) => Err(DataError::Unwritable { id: sample.id, problem }),
        None => Ok((sample, files)),
    }
}
