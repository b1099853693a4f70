//! Image files to RGB bytes; what becomes of which file is said in [`imagent_core::picture`].

use std::fs::File;
use std::path::Path;

use image::RgbImage;
use imagent_core::picture;

use crate::error::{ModelError, Result};

/// Reads an image file, told by its content, not its name.
///
/// # Errors
/// `Io` if the file cannot be opened; `Image` if it is no regular file, no image, damaged or too large.
pub fn decode(path: &Path) -> Result<RgbImage> {
    let bad = |message: String| ModelError::Image { path: path.to_path_buf(), message };
    let kind = std::fs::metadata(path).map_err(ModelError::io(path))?.file_type();
    if !kind.is_file() {
        return Err(bad(if kind.is_dir() { "a folder, not an image" } else { "no regular file" }.to_owned()));
    }
    let file = File::open(path).map_err(ModelError::io(path))?;
    picture::read(file).map_err(|error| bad(error.to_string()))
}

/// Decodes the content of an image file. `name` is what errors call it.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(bytes: &[u8], name: &Path) -> Result<RgbImage> {
    picture::decode(bytes).map_err(|error| ModelError::Image { path: name.to_path_buf(), message: error.to_string() })
}
