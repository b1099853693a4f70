//! Image files to RGB pixels; what becomes of which file is said in [`imagent_core::picture`].

use std::fs::{self, File};
use std::path::Path;

use image::RgbImage;
use imagent_core::picture;

/// The image of a file, told by content, whatever the file's name.
///
/// # Errors
/// A text that says why not: no regular file, not an image, a format that is not built in, broken, or too large.
pub fn decode(path: &Path) -> Result<RgbImage, String> {
    let cannot_open = |error: std::io::Error| format!("cannot open: {error}");
    let kind = fs::metadata(path).map_err(cannot_open)?.file_type();
    if !kind.is_file() {
        return Err(if kind.is_dir() { "a folder, not an image" } else { "no regular file" }.to_owned());
    }
    picture::read(File::open(path).map_err(cannot_open)?).map_err(|error| error.to_string())
}
