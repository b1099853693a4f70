//! Detection annotation in COCO's JSON to questions over several images: drawn by seed, each with one answer by its annotation.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use imagent_core::{BBox, Gold, Original, Sample, seed};
use rand::Rng;
use rand::seq::{IndexedRandom, index};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Map, json};

use super::write::Drawn;
use super::{OBJECTS, OTHER, Reject, Thing};
use crate::error::DataError;
use crate::root::{Refused, Root};

/// Names the stream of questions.
const STREAM: u64 = 0x636f_636f;
/// Groups of images that are drawn before a question is given up.
const TRIES: usize = 50;
/// Most images of a question.
const MOST: usize = 16;

/// Which questions are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct CocoQuestions {
    /// How many.
    pub samples: usize,
    /// Fewest and most images of a question, 2 to 16.
    pub images: [usize; 2],
    /// Weights of `find`, `common` and `differ` questions.
    pub kinds: [f64; 3],
    /// Least share of its image that the object asked for covers, from 0 to 1.
    pub min_area: f64,
    /// Seed of what is drawn.
    pub seed: u64,
}

impl Default for CocoQuestions {
    fn default() -> Self {
        Self { samples: 1000, images: [2, 4], kinds: [2.0, 1.0, 1.0], min_area: 0.01, seed: 1 }
    }
}

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

/// An annotated picture.
#[derive(Debug)]
struct Picture {
    name: String,
    size: (u32, u32),
    objects: Vec<Object>,
}

#[derive(Clone, Debug)]
struct Object {
    name: String,
    bbox: BBox<Original>,
    crowd: bool,
}

/// A file of annotation with the folder of its images.
#[derive(Debug)]
pub struct Coco {
    root: Root,
    pictures: Vec<Picture>,
}

/// An object that a question could ask for.
type Candidate<'a> = (usize, Option<usize>, &'a Object);

impl Coco {
    /// Reads the annotation in `file`, whose images lie in the folder `images`, or else beside it.
    ///
    /// # Errors
    /// When it cannot be read, or names an image or category that is not there.
    pub fn open(file: &Path, images: Option<&Path>) -> Result<Self, DataError> {
        let bad = |problem: String| DataError::NotADataset { path: file.into(), problem };
        if file.is_dir() {
            return Err(bad("is a folder, not a file of detection annotation".into()));
        }
        let bytes = fs::read(file).map_err(DataError::io("read", file))?;
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        let read: File = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        let folder = images.or(file.parent()).filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(DataError::NoFolder { path: folder.into() });
        }
        let root = Root::open(folder).map_err(DataError::io("resolve", folder))?;
        let names: HashMap<u64, &str> = read.categories.iter().map(|c| (c.id, c.name.trim())).collect();
        let mut places = HashMap::new();
        let mut pictures: Vec<Picture> = Vec::new();
        for Image { id, file_name, width, height } in &read.images {
            if places.insert(*id, pictures.len()).is_some() {
                return Err(bad(format!("two images have the id {id}")));
            }
            pictures.push(Picture { name: file_name.clone(), size: (*width, *height), objects: Vec::new() });
        }
        for (nth, Annotation { image_id, category_id, bbox: [x, y, w, h], iscrowd }) in
            read.annotations.iter().enumerate()
        {
            let picture =
                places.get(image_id).ok_or_else(|| bad(format!("annotation {nth}: no image has the id {image_id}")))?;
            let name = names.get(category_id).filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| bad(format!("annotation {nth}: no category has the id {category_id}")))?;
            let object =
                Object { name: (*name).to_owned(), bbox: BBox::new(*x, *y, x + w, y + h), crowd: *iscrowd != 0 };
            pictures[*picture].objects.push(object);
        }
        // The file's order is nobody's: the id of an image says nothing, its name does.
        pictures.sort_by(|a, b| a.name.cmp(&b.name));
        if pictures.len() < 2 {
            return Err(bad(format!("questions need at least 2 images, there are {}", pictures.len())));
        }
        Ok(Self { root, pictures })
    }

    /// The questions, one after the other; a place where none could be drawn says why.
    ///
    /// # Errors
    /// When a setting is out of range; names it.
    pub fn questions<'a>(&'a self, settings: &'a CocoQuestions) -> Result<impl Iterator<Item = Drawn> + 'a, DataError> {
        let refuse = |key: &str, problem: String| Err(DataError::Config { key: key.into(), problem });
        let [fewest, most] = settings.images;
        if fewest < 2 || most < fewest || most > MOST {
            return refuse("images", format!("[fewest, most] lies between 2 and {MOST}, not [{fewest}, {most}]"));
        }
        if fewest > self.pictures.len() {
            return refuse("images", format!("{fewest} a question, but there are {}", self.pictures.len()));
        }
        if !settings.kinds.iter().all(|weight| weight.is_finite() && *weight >= 0.0)
            || settings.kinds.iter().sum::<f64>() <= 0.0
        {
            return refuse("kinds", "weights are at least 0 and have a positive sum".into());
        }
        if !(0.0..1.0).contains(&settings.min_area) {
            return refuse("min_area", format!("a share is from 0 to below 1, not {}", settings.min_area));
        }
        Ok((0..settings.samples as u64).map(|index| {
            let id = format!("coco-{index:06}");
            self.question(settings, index, &id).map_err(|reject| (id, reject))
        }))
    }

    fn question(&self, settings: &CocoQuestions, index: u64, id: &str) -> Result<(Sample, Vec<Vec<u8>>), Reject> {
        let mut rng = seed::rng(settings.seed, &[STREAM, index]);
        let kind = draw_kind(settings.kinds, &mut rng);
        for _ in 0..TRIES {
            let most = settings.images[1].min(self.pictures.len());
            let count = rng.random_range(settings.images[0]..=most);
            let chosen: Vec<&Picture> =
                index::sample(&mut rng, self.pictures.len(), count).iter().map(|at| &self.pictures[at]).collect();
            let found = candidates(kind, &chosen, settings.min_area);
            if let Some(&candidate) = found.choose(&mut rng) {
                return self.sample(id, kind, &chosen, candidate);
            }
        }
        Err(Reject::NoQuestion)
    }

    fn sample(
        &self,
        id: &str,
        kind: &str,
        chosen: &[&Picture],
        (image, other, object): Candidate<'_>,
    ) -> Result<(Sample, Vec<Vec<u8>>), Reject> {
        let (mut images, mut files) = (Vec::new(), Vec::new());
        for picture in chosen {
            let (pixels, bytes) = self.read(picture)?;
            images.push(Arc::new(pixels));
            files.push(bytes);
        }
        let things: Vec<Thing> = chosen
            .iter()
            .enumerate()
            .flat_map(|(at, picture)| {
                picture.objects.iter().map(move |o| Thing { image: at + 1, name: o.name.clone(), bbox: o.bbox })
            })
            .collect();
        let mut meta = Map::from_iter([(OBJECTS.to_owned(), json!(things))]);
        other.map(|other| meta.insert(OTHER.to_owned(), json!(other + 1)));
        let there = other.map_or(0, |other| other + 1);
        let question = match kind {
            "common" => format!("In image {}, find the object of a kind that image {there} shows too.", image + 1),
            "differ" => format!("In image {}, find the object of a kind that image {there} does not show.", image + 1),
            _ => format!("Find the {}.", object.name),
        };
        let answer = json!({"image": image + 1, "bbox_2d": object.bbox.to_array()}).to_string();
        let gold = vec![Gold { image: image + 1, bbox: object.bbox }];
        let (id, kind) = (id.to_owned(), kind.to_owned());
        Ok((
            Sample { id, images, later_images: Vec::new(), question, answer, kind, zooms_needed: None, gold, meta },
            files,
        ))
    }

    /// A picture's pixels and file, if they are there and of the size that the annotation is for.
    fn read(&self, picture: &Picture) -> Result<(imagent_core::RgbImage, Vec<u8>), Reject> {
        let path = self.root.file(&picture.name).map_err(|refused| match refused {
            Refused::Outside(problem) => {
                Reject::BadImage(format!("{:?} is not in the images' folder: {problem}", picture.name))
            }
            Refused::Missing => Reject::BadImage(format!("{:?} does not exist", picture.name)),
        })?;
        let bytes = crate::folder::decode::bytes(&path);
        let bad = |problem: String| Reject::BadImage(format!("{:?}: {problem}", picture.name));
        let bytes = bytes.map_err(bad)?;
        let pixels = imagent_core::picture::decode(&bytes).map_err(|error| bad(error.to_string()))?;
        if pixels.dimensions() == picture.size {
            return Ok((pixels, bytes));
        }
        let ((w, h), (width, height)) = (picture.size, pixels.dimensions());
        Err(bad(format!("of {width}×{height} pixels, annotated for {w}×{h}")))
    }
}

fn draw_kind(weights: [f64; 3], rng: &mut ChaCha8Rng) -> &'static str {
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    let kinds = ["find", "common", "differ"].into_iter().zip(weights).filter(|(_, weight)| *weight > 0.0);
    let mut drawn = "find";
    for (kind, weight) in kinds {
        drawn = kind;
        if left < weight {
            break;
        }
        left -= weight;
    }
    drawn
}

/// The objects that a question of this kind could ask for: image, other image and object, for which the question has one answer.
fn candidates<'a>(kind: &str, chosen: &[&'a Picture], min_area: f64) -> Vec<Candidate<'a>> {
    let counts: Vec<BTreeMap<&str, usize>> = chosen
        .iter()
        .map(|picture| {
            let mut counts = BTreeMap::new();
            picture.objects.iter().for_each(|object| *counts.entry(object.name.as_str()).or_default() += 1);
            counts
        })
        .collect();
    let fits = |at: usize, object: &Object| {
        let (w, h) = chosen[at].size;
        let inside = BBox::new(0.0, 0.0, f64::from(w), f64::from(h)).contains(object.bbox);
        inside && !object.crowd && object.bbox.area() > min_area * f64::from(w) * f64::from(h)
    };
    let mut found = Vec::new();
    for (at, picture) in chosen.iter().enumerate() {
        for object in picture.objects.iter().filter(|object| fits(at, object)) {
            let name = object.name.as_str();
            if kind == "find" {
                let all: usize = counts.iter().filter_map(|counts| counts.get(name)).sum();
                found.extend((all == 1).then_some((at, None, object)));
                continue;
            }
            for other in (0..chosen.len()).filter(|&other| other != at) {
                let shared = kind == "common";
                let like = counts[at].keys().filter(|name| counts[other].contains_key(**name) == shared).count();
                let own = counts[at][name] == 1 && counts[other].contains_key(name) == shared;
                found.extend((own && like == 1).then_some((at, Some(other), object)));
            }
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::annotate::Relation;

    #[test]
    fn relations_are_those_of_the_samples() {
        let sample = |kind: &str| {
            let meta = Map::from_iter([(OTHER.to_owned(), json!(1))]);
            let (id, question, answer) = (String::new(), String::new(), String::new());
            Sample {
                id,
                images: Vec::new(),
                later_images: Vec::new(),
                question,
                answer,
                kind: kind.into(),
                zooms_needed: None,
                gold: Vec::new(),
                meta,
            }
        };
        let found = ["find", "common", "differ"].map(|kind| Relation::of(&sample(kind)));
        assert_eq!(found, [Relation::Find, Relation::Common { other: 1 }, Relation::Differ { other: 1 }]);
    }

    #[test]
    fn kinds_come_by_weight() {
        let mut rng = seed::rng(1, &[]);
        let drawn: Vec<&str> = (0..1000).map(|_| draw_kind([0.0, 1.0, 3.0], &mut rng)).collect();
        assert!(!drawn.contains(&"find"));
        assert!((700..800).contains(&drawn.iter().filter(|kind| **kind == "differ").count()));
    }
}
