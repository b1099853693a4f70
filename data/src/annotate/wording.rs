//! The words of reasoning: templates by step, several of each to choose from.

use rand::Rng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

use super::{Relation, Thing};

/// Wordings that come with the program, by name.
const OWN: [(&str, &str); 3] = [
    ("plain", include_str!("wordings/plain.json")),
    ("short", include_str!("wordings/short.json")),
    ("boxes", include_str!("wordings/boxes.json")),
];

/// The placeholder of a thing's box.
const BOX: &str = "box";

/// Templates. `{image}` is the image that a sentence is about, `{things}` what stands on it, `{name}` the object asked for, `{a}` its
/// article, `{other}` the image that it is compared with, `{count}` how many there are, `{box}` the corners of a thing's box. Of a list one
/// is drawn; an empty template leaves the step out.
///
/// ```
/// use imagent_data::annotate::Wording;
/// assert!(Wording::named("plain").is_some() && Wording::named("purple").is_none());
/// let error = Wording::parse(r#"{"thing": "{nmae}"}"#).unwrap_err();
/// assert!(error.contains("missing field"), "{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wording {
    /// One thing among `{things}`: `{a}`, `{name}`, `{box}`. With `{box}` each is told for itself, and `several` is not used.
    pub thing: String,
    /// Several of one name: `{name}`, `{count}`.
    pub several: String,
    /// An image with annotated things: `{image}`, `{things}`.
    pub observe: Vec<String>,
    /// An image without any: `{image}`.
    pub empty: Vec<String>,
    /// An image of which nothing is known: `{image}`.
    pub unknown: Vec<String>,
    /// The object is the only one of its name: `{image}`, `{name}`, `{a}`.
    pub find: Vec<String>,
    /// It is the largest: the same.
    pub largest: Vec<String>,
    /// It is in another image too: the same, and `{other}`.
    pub common: Vec<String>,
    /// It is not in another image: the same, and `{other}`.
    pub differ: Vec<String>,
    /// The question says how it is known: `{image}`, `{name}`, `{a}`.
    pub given: Vec<String>,
    /// The last sentence: `{image}`, `{name}`, `{a}`.
    pub conclude: Vec<String>,
}

/// What a sentence is about.
#[derive(Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) image: usize,
    pub(super) name: &'a str,
    pub(super) other: usize,
    pub(super) things: &'a str,
    pub(super) corners: &'a str,
    pub(super) count: usize,
}

impl Wording {
    /// A wording that comes with the program: `plain`, sentences; `short`, next to nothing, for small models; `boxes`, the same with
    /// the box of everything that is observed.
    pub fn named(name: &str) -> Option<Self> {
        let (_, text) = OWN.into_iter().find(|(own, _)| *own == name)?;
        Self::parse(text).ok()
    }

    /// Reads a wording from JSON.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or empty, or the placeholder that a template cannot have.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wording: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (field, templates, known) in wording.fields() {
            if templates.is_empty() {
                return Err(format!("`{field}` has no template"));
            }
            for template in templates {
                if let Some(odd) = placeholders(template).find(|name| !known.contains(name)) {
                    return Err(format!("`{field}` has {{{odd}}}; it may have {}", known.join(", ")));
                }
            }
        }
        Ok(wording)
    }

    /// Each field, its templates, and the placeholders that they may have.
    fn fields(&self) -> [(&'static str, &[String], &'static [&'static str]); 11] {
        const OBJECT: &[&str] = &["image", "name", "a"];
        const PAIR: &[&str] = &["image", "name", "a", "other"];
        [
            ("thing", std::slice::from_ref(&self.thing), &["name", "a", BOX]),
            ("several", std::slice::from_ref(&self.several), &["name", "count"]),
            ("observe", &self.observe, &["image", "things"]),
            ("empty", &self.empty, &["image"]),
            ("unknown", &self.unknown, &["image"]),
            ("find", &self.find, OBJECT),
            ("largest", &self.largest, OBJECT),
            ("common", &self.common, PAIR),
            ("differ", &self.differ, PAIR),
            ("given", &self.given, OBJECT),
            ("conclude", &self.conclude, OBJECT),
        ]
    }

    /// Whether what is observed is told with its box.
    pub(super) fn tells_boxes(&self) -> bool {
        placeholders(&self.thing).any(|name| name == BOX)
    }

    /// One sentence an image, then what they show together, then where the answer lies. `known` is what the images are annotated with,
    /// each thing with the corners of its box where boxes are told.
    pub(super) fn tell(
        &self,
        images: usize,
        known: Option<&[(&Thing, String)]>,
        found: About<'_>,
        relation: Relation,
        rng: &mut impl Rng,
    ) -> String {
        let mut sentences = Vec::new();
        for image in 1..=images {
            let things = known.map(|things| self.things(things, image));
            let templates = match things.as_deref() {
                None => &self.unknown,
                Some("") => &self.empty,
                Some(_) => &self.observe,
            };
            let about = About { image, things: things.as_deref().unwrap_or_default(), ..About::default() };
            sentences.push(draw(templates, about, rng));
        }
        let compare = match relation {
            Relation::Find => &self.find,
            Relation::Largest => &self.largest,
            Relation::Common { .. } => &self.common,
            Relation::Differ { .. } => &self.differ,
            Relation::Given => &self.given,
        };
        sentences.push(draw(compare, found, rng));
        sentences.push(draw(&self.conclude, found, rng));
        sentences.retain(|sentence| !sentence.is_empty());
        sentences.join(" ")
    }

    /// What stands on an image, in the order of annotation; without boxes, equal names together.
    fn things(&self, things: &[(&Thing, String)], image: usize) -> String {
        let mut told: Vec<About<'_>> = Vec::new();
        for (Thing { name, .. }, corners) in things.iter().filter(|(thing, _)| thing.image == image) {
            match told.iter_mut().find(|told| told.name == name && corners.is_empty()) {
                Some(told) => told.count += 1,
                None => told.push(About { name, corners, count: 1, ..About::default() }),
            }
        }
        let each = told.iter().map(|&about| fill(if about.count == 1 { &self.thing } else { &self.several }, about));
        each.collect::<Vec<_>>().join(", ")
    }
}

fn draw(templates: &[String], about: About<'_>, rng: &mut impl Rng) -> String {
    capital(&fill(templates.choose(rng).map_or("", String::as_str), about))
}

/// The names between braces.
fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

fn fill(template: &str, about: About<'_>) -> String {
    let About { image, name, other, things, corners, count } = about;
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    let mut text = String::new();
    let mut rest = template;
    // One pass, so that a brace in a name is a brace.
    while let Some((before, after)) = rest.split_once('{') {
        let (key, tail) = after.split_once('}').unwrap_or((after, ""));
        text.push_str(before);
        match key {
            "image" => text.push_str(&image.to_string()),
            "other" => text.push_str(&other.to_string()),
            "count" => text.push_str(&count.to_string()),
            "name" => text.push_str(name),
            "a" => text.push_str(article),
            "things" => text.push_str(things),
            BOX => text.push_str(corners),
            _ => {}
        }
        rest = tail;
    }
    text + rest
}

/// A sentence that ends in a full stop begins with a capital.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if text.ends_with('.') => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}
