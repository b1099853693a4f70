//! Image files to RGB pixels; what becomes of which file is said in [`imagent_core::picture`].

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use image::RgbImage;
use imagent_core::picture::{self, MAX_FILE_BYTES, PictureError};

/// The image of a file, told by content, whatever the file's name.
///
/// # Errors
/// A text that says why not: no regular file, not an image, a format that is not built in, broken, or too large.
pub fn decode(path: &Path) -> Result<RgbImage, String> {
    picture::read(open(path)?).map_err(|error| error.to_string())
}

/// The bytes of an image file.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| PictureError::Read(error).to_string())?;
    Ok(bytes)
}

fn open(path: &Path) -> Result<File, String> {
    let cannot_open = |error: std::io::Error| format!("cannot open: {error}");
    let kind = fs::metadata(path).map_err(cannot_open)?.file_type();
    if !kind.is_file() {
        return Err(if kind.is_dir() { "a folder, not an image" } else { "no regular file" }.to_owned());
    }
    File::open(path).map_err(cannot_open)
}
