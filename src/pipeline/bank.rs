//! The images that questions are asked about, and what is known of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imagent_core::{BBox, Original, RgbImage, picture};
use imagent_data::{WorldConfig, generate};
use serde::{Deserialize, Serialize};

use super::config::ImagesConfig;
use super::wrong;
use crate::error::Error;

/// The file that tells what stands on the images of a folder.
const OBJECTS: &str = "objects.jsonl";
/// Ends of the names of image files.
const ENDS: [&str; 6] = ["png", "jpg", "jpeg", "gif", "webp", "bmp"];

/// Something on an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// What questions call it: `red circle`.
    pub name: String,
    /// Where it stands.
    pub bbox: BBox<Original>,
    /// What can be read on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// What can be read on an object when one looks closely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// What it is: `digit`.
    pub kind: String,
    /// What it says.
    pub text: String,
    /// Where.
    pub bbox: BBox<Original>,
}

/// A line of `objects.jsonl`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    image: String,
    objects: Vec<Object>,
}

/// The images.
pub struct Bank(Source);

enum Source {
    World { config: WorldConfig, seed: u64, count: usize },
    Folder { files: Vec<PathBuf>, names: Vec<String>, objects: HashMap<String, Vec<Object>> },
}

impl Bank {
    /// Opens a folder, or imagines a world.
    ///
    /// # Errors
    /// Names the file or line that is wrong.
    pub fn open(config: &ImagesConfig, seed: u64) -> Result<Self, Error> {
        if config.path.is_empty() {
            return Ok(Self(Source::World { config: config.single(), seed, count: config.count }));
        }
        let folder = Path::new(&config.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| wrong(folder, error))? {
            let entry = entry.map_err(|source| Error::Io { path: folder.into(), source })?;
            let path = entry.path();
            let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_lowercase();
            if ENDS.contains(&end.as_str()) && path.is_file() {
                let name = entry.file_name().into_string();
                names.push(name.map_err(|_| wrong(&path, "the name is not UTF-8"))?);
            }
        }
        names.sort();
        if names.is_empty() {
            return Err(wrong(folder, "holds no image file"));
        }
        let files = names.iter().map(|name| folder.join(name)).collect();
        let objects = objects(&folder.join(OBJECTS), &names)?;
        Ok(Self(Source::Folder { files, names, objects }))
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::World { count, .. } => *count,
            Source::Folder { files, .. } => files.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What an image is called.
    pub fn name(&self, index: usize) -> String {
        match &self.0 {
            Source::World { seed, .. } => format!("world-{seed}-{index:06}"),
            Source::Folder { names, .. } => names.get(index).cloned().unwrap_or_default(),
        }
    }

    /// The pixels of an image.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pixels(&self, index: usize) -> Result<Arc<RgbImage>, Error> {
        match &self.0 {
            Source::World { config, seed, .. } => {
                let made = generate(config, *seed, index as u64).sample.images.into_iter().next();
                made.ok_or_else(|| wrong(Path::new("images.world"), "made no image"))
            }
            Source::Folder { files, .. } => {
                let path = files.get(index).ok_or_else(|| wrong(Path::new("images"), "there is no such image"))?;
                let bytes = fs::read(path).map_err(|source| Error::Io { path: path.clone(), source })?;
                Ok(Arc::new(picture::decode(&bytes).map_err(|error| wrong(path, error))?))
            }
        }
    }

    /// What is known of an image.
    pub fn objects(&self, index: usize) -> Vec<Object> {
        match &self.0 {
            Source::World { config, seed, .. } => {
                let scenes = generate(config, *seed, index as u64).scenes;
                let known = |object: &imagent_data::world::Object| Object {
                    name: object.name(),
                    bbox: object.bbox(),
                    detail: Some(Detail {
                        kind: "digit".to_owned(),
                        text: object.digit.to_string(),
                        bbox: object.digit_box(),
                    }),
                };
                scenes.first().map(|scene| scene.objects.iter().map(known).collect()).unwrap_or_default()
            }
            Source::Folder { objects, .. } => objects.get(&self.name(index)).cloned().unwrap_or_default(),
        }
    }
}

/// What `objects.jsonl` tells, where there is one.
fn objects(path: &Path, names: &[String]) -> Result<HashMap<String, Vec<Object>>, Error> {
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let mut all = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = |problem: String| wrong(path, format!("line {}: {problem}", number + 1));
        let Line { image, objects } = serde_json::from_str(line).map_err(|error| at(error.to_string()))?;
        if !names.contains(&image) {
            return Err(at(format!("there is no image file {image:?} beside it")));
        }
        if objects.iter().any(|object| object.name.trim().is_empty()) {
            return Err(at("an object without a name".to_owned()));
        }
        if all.insert(image.clone(), objects).is_some() {
            return Err(at(format!("{image:?} has a line already")));
        }
    }
    Ok(all)
}
