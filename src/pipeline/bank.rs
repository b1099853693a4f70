//! The images that questions are asked about, and what is known of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imagent_analysis::record::write_atomic;
use imagent_core::{BBox, Original, RgbImage};
use imagent_data::error::without_line;
use imagent_data::folder::decode::decode;
use imagent_data::world::Scene;
use imagent_data::{WorldConfig, generate, layout};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::ImagesConfig;
use super::wrong;
use crate::error::Error;

/// The file that tells what stands on the images of a folder.
const OBJECTS: &str = "objects.jsonl";
/// The list of a folder's images that a pipeline keeps.
const IMAGES: &str = "images.jsonl";
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
pub struct Bank {
    /// In ascending order.
    names: Vec<String>,
    /// What is known of each.
    objects: Vec<Vec<Object>>,
    source: Source,
}

enum Source {
    World { config: WorldConfig, seed: u64 },
    Folder(PathBuf),
}

impl Bank {
    /// Opens a folder, or imagines a world.
    ///
    /// # Errors
    /// Names the file or line that is wrong.
    pub fn open(config: &ImagesConfig, seed: u64) -> Result<Self, Error> {
        if config.path.is_empty() {
            let world = config.single();
            let objects = |index| layout(&world, seed, index as u64).scenes.first().map(known).unwrap_or_default();
            let objects = (0..config.count).map(objects).collect();
            let names = (0..config.count).map(|index| format!("world-{seed}-{index:06}")).collect();
            return Ok(Self { names, objects, source: Source::World { config: world, seed } });
        }
        let folder = Path::new(&config.path);
        let names = files(folder)?;
        if names.is_empty() {
            return Err(wrong(folder, "holds no image file"));
        }
        let mut objects = objects(&folder.join(OBJECTS), &names)?;
        let objects = names.iter().map(|name| objects.remove(name).unwrap_or_default()).collect();
        Ok(Self { names, objects, source: Source::Folder(folder.to_owned()) })
    }

    /// Keeps a list of the images in the folder of a pipeline, or checks that they are still those of its list.
    ///
    /// # Errors
    /// Names the first image that is another.
    pub(super) fn pin(&self, out: &Path) -> Result<(), Error> {
        let Source::Folder(folder) = &self.source else { return Ok(()) };
        let path = out.join(IMAGES);
        let mut list = String::new();
        for name in self.names.iter().map(String::as_str).chain([OBJECTS]) {
            let bytes = fs::metadata(folder.join(name)).map_or(0, |file| file.len());
            list += &format!("{}\n", json!({"image": name, "bytes": bytes}));
        }
        match fs::read_to_string(&path) {
            Ok(found) if found == list => Ok(()),
            Ok(found) => {
                let differs = list.lines().zip(found.lines()).find(|(now, then)| now != then);
                let (now, then) = differs.unwrap_or(("more", "fewer"));
                let folder = folder.display();
                Err(wrong(
                    &path,
                    format!(
                        "the images in {folder} have changed ({now}, it was {then}); choose another folder as `out`"
                    ),
                ))
            }
            Err(_) => Ok(write_atomic(&path, list.as_bytes())?),
        }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What images are called, in ascending order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn place(&self, name: &str) -> Result<usize, Error> {
        let found = self.names.binary_search_by(|known| known.as_str().cmp(name));
        found.map_err(|_| wrong(Path::new(name), "there is no such image any more"))
    }

    /// The pixels of an image.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pixels(&self, name: &str) -> Result<Arc<RgbImage>, Error> {
        let place = self.place(name)?;
        match &self.source {
            Source::World { config, seed } => {
                let made = generate(config, *seed, place as u64).sample.images.into_iter().next();
                made.ok_or_else(|| wrong(Path::new(name), "the world made no image"))
            }
            Source::Folder(folder) => {
                let path = folder.join(name);
                Ok(Arc::new(decode(&path).map_err(|problem| wrong(&path, problem))?))
            }
        }
    }

    /// The file of an image; `None` for those of a world.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Source::Folder(folder) = &self.source else { return Ok(None) };
        let path = folder.join(&self.names[self.place(name)?]);
        fs::read(&path).map(Some).map_err(|source| Error::Io { path, source })
    }

    /// What is known of an image: nothing of one that is not there.
    pub fn objects(&self, name: &str) -> &[Object] {
        self.place(name).map_or(&[], |place| &self.objects[place])
    }
}

/// The objects of a scene.
fn known(scene: &Scene) -> Vec<Object> {
    let object = |object: &imagent_data::world::Object| Object {
        name: object.name(),
        bbox: object.bbox(),
        detail: Some(Detail { kind: "digit".to_owned(), text: object.digit.to_string(), bbox: object.digit_box() }),
    };
    scene.objects.iter().map(object).collect()
}

/// Names of the image files of a folder, in ascending order.
fn files(folder: &Path) -> Result<Vec<String>, Error> {
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
    Ok(names)
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
        let Line { image, objects } = serde_json::from_str(line).map_err(|error| at(without_line(&error)))?;
        if names.binary_search(&image).is_err() {
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
