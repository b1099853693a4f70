//! Roles as rules, over what is known of the images: they need no model, and their questions are those of the nano world.

use std::collections::HashSet;

use imagent_core::{BBox, Gold, Original, derive, seed};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::bank::{Bank, Object};
use super::item::{Group, Question};

/// A question that can be answered from what is known of the images; images are counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// What can be read on an object.
    Read { kind: String, object: String, image: usize },
    /// The image that has an object.
    Which { object: String },
    /// Whether the same can be read on two objects.
    Same { kind: String, first: (String, usize), second: (String, usize) },
}

impl Form {
    /// The question in words. The spaces are those of the nano world, whose tokenizer counts on them.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Read { kind, object, image } => format!("What {kind} is on the {object} in image {image} ?"),
            Self::Which { object } => format!("Which image contains the {object} ?"),
            Self::Same { kind, first: (a, i), second: (b, j) } => {
                format!("Is the {kind} on the {a} in image {i} the same as on the {b} in image {j} ?")
            }
        }
    }

    /// The question that a text asks, if it is one of these.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_suffix('?')?.trim_end();
        let place = |text: &str| {
            let (object, image) = text.rsplit_once(" in image ")?;
            Some((object.to_owned(), image.trim().parse::<usize>().ok()?))
        };
        if let Some(object) = text.strip_prefix("Which image contains the ") {
            return Some(Self::Which { object: object.to_owned() });
        }
        if let Some((kind, rest)) = text.strip_prefix("What ").and_then(|rest| rest.split_once(" is on the ")) {
            let (object, image) = place(rest)?;
            return Some(Self::Read { kind: kind.to_owned(), object, image });
        }
        let (kind, rest) = text.strip_prefix("Is the ")?.split_once(" on the ")?;
        let (first, second) = rest.split_once(" the same as on the ")?;
        Some(Self::Same { kind: kind.to_owned(), first: place(first)?, second: place(second)? })
    }

    /// The answer; `None` where the question names nothing, or two things.
    pub(super) fn answer(&self, images: &[&[Object]]) -> Option<String> {
        match self {
            Self::Read { kind, object, image } => read(images, kind, object, *image),
            Self::Which { object } => {
                let has = |objects: &&&[Object]| objects.iter().any(|known| known.name == *object);
                let at = images.iter().position(|objects| has(&objects))?;
                (images.iter().filter(has).count() == 1).then(|| (at + 1).to_string())
            }
            Self::Same { kind, first: (a, i), second: (b, j) } => {
                let same = read(images, kind, a, *i)? == read(images, kind, b, *j)?;
                Some(if same { "yes" } else { "no" }.to_owned())
            }
        }
    }

    /// Where the answer lies.
    fn gold(&self, images: &[&[Object]]) -> Vec<Gold> {
        let detail = |object: &str, image: usize| {
            let known = only(images.get(image.checked_sub(1)?)?, object)?;
            Some(Gold { image, bbox: known.detail.as_ref()?.bbox })
        };
        match self {
            Self::Read { object, image, .. } => detail(object, *image).into_iter().collect(),
            Self::Same { first: (a, i), second: (b, j), .. } => {
                detail(a, *i).into_iter().chain(detail(b, *j)).collect()
            }
            Self::Which { object } => {
                let found = images.iter().enumerate();
                found
                    .filter_map(|(i, objects)| Some(Gold { image: i + 1, bbox: only(objects, object)?.bbox }))
                    .collect()
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Which { .. } => "which",
            Self::Same { .. } => "same",
        }
    }
}

/// The only object of a name.
fn only<'a>(objects: &'a [Object], name: &str) -> Option<&'a Object> {
    let mut found = objects.iter().filter(|object| object.name == name);
    found.next().filter(|_| found.next().is_none())
}

fn read(images: &[&[Object]], kind: &str, object: &str, image: usize) -> Option<String> {
    let detail = only(images.get(image.checked_sub(1)?)?, object)?.detail.as_ref()?;
    (detail.kind == kind).then(|| detail.text.clone())
}

/// Images that share an object where there are some, so that they are easily confused; else any. The bank has as many as a group.
pub(super) fn group(bank: &Bank, size: [usize; 2], seed: u64, id: &str) -> Group {
    let mut rng = seed::rng(seed, &[seed::text("grouper"), seed::text(id)]);
    let names = bank.names();
    let count = rng.random_range(size[0]..=size[1]).min(names.len());
    let first = &names[rng.random_range(0..names.len())];
    let held: HashSet<&str> = bank.objects(first).iter().map(|object| object.name.as_str()).collect();
    let shares = |name: &&String| bank.objects(name).iter().any(|object| held.contains(object.name.as_str()));
    let (mut alike, mut other): (Vec<&String>, Vec<&String>) =
        names.iter().filter(|&name| name != first).partition(shares);
    alike.shuffle(&mut rng);
    other.shuffle(&mut rng);
    let why = match alike.len().min(count - 1) {
        0 => "any images".to_owned(),
        near => format!("{near} of them share an object with {first}"),
    };
    let mut images: Vec<String> = [first].into_iter().chain(alike).chain(other).take(count).cloned().collect();
    images.shuffle(&mut rng);
    Group { images, why }
}

/// A question about images, drawn from those that have an answer; `None` if there is none.
pub(super) fn write(images: &[&[Object]], names: &[String], seed: u64, id: &str) -> Option<Question> {
    let mut rng = seed::rng(derive(seed, &[seed::text("writer")]), &[seed::text(id)]);
    let readable: Vec<(&Object, usize)> = (images.iter().enumerate())
        .flat_map(|(i, objects)| objects.iter().map(move |object| (object, i + 1)))
        .filter(|(object, _)| object.detail.is_some())
        .collect();
    let named = |(object, image): &(&Object, usize)| (object.name.clone(), *image);
    let kind = |(object, _): &(&Object, usize)| object.detail.as_ref().map(|detail| detail.kind.clone());
    let (first, second) = (readable.choose(&mut rng), readable.choose(&mut rng));
    let any = images.iter().copied().flatten().map(|object| object.name.clone()).collect::<Vec<_>>();
    let which = any.choose(&mut rng).map(|object| Form::Which { object: object.clone() });
    let read = first.and_then(|first| {
        let (object, image) = named(first);
        Some(Form::Read { kind: kind(first)?, object, image })
    });
    let same = first.zip(second).and_then(|(first, second)| {
        let apart = first.1 != second.1 && kind(first) == kind(second);
        apart.then(|| Some(Form::Same { kind: kind(first)?, first: named(first), second: named(second) })).flatten()
    });
    // Pairs are what several images are for; where the draw gives none, something else is asked.
    let mut forms = [read, same.clone(), which, same];
    forms.shuffle(&mut rng);
    let found = forms.into_iter().flatten().find_map(|form| Some((form.answer(images)?, form)));
    found.map(|(answer, form)| Question {
        images: names.to_vec(),
        question: form.text(),
        answer,
        kind: form.kind().to_owned(),
        gold: form.gold(images),
    })
}

/// Whether a question needs a close look: details that can be read.
pub(super) fn needs_a_look(question: &str) -> bool {
    !matches!(Form::parse(question), Some(Form::Which { .. }))
}

/// The region of a zoom that shows a gold box: with half its size around it, within the image.
pub(super) fn region(gold: BBox<Original>, width: u32, height: u32) -> BBox<Original> {
    let (dx, dy) = (gold.width() / 2.0, gold.height() / 2.0);
    let right = |value: f64, most: u32| value.clamp(0.0, f64::from(most));
    BBox::new(
        right(gold.x1 - dx, width),
        right(gold.y1 - dy, height),
        right(gold.x2 + dx, width),
        right(gold.y2 + dy, height),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::bank::Detail;
    use super::*;

    fn object(name: &str, digit: &str) -> Object {
        let bbox = BBox::new(10.0, 10.0, 20.0, 24.0);
        Object { name: name.into(), bbox, detail: Some(Detail { kind: "digit".into(), text: digit.into(), bbox }) }
    }

    fn images() -> [Vec<Object>; 2] {
        [
            vec![object("red circle", "3"), object("blue square", "7")],
            vec![object("red circle", "4"), object("green diamond", "3")],
        ]
    }

    #[test]
    fn questions_are_read_as_they_are_written() {
        let forms = [
            Form::Read { kind: "digit".into(), object: "red circle".into(), image: 2 },
            Form::Which { object: "green diamond".into() },
            Form::Same { kind: "digit".into(), first: ("red circle".into(), 1), second: ("green diamond".into(), 2) },
        ];
        let images = images();
        let images = images.each_ref().map(Vec::as_slice);
        for (form, answer) in forms.into_iter().zip(["4", "2", "yes"]) {
            assert_eq!(Form::parse(&form.text()), Some(form.clone()));
            assert_eq!(form.answer(&images).as_deref(), Some(answer), "{form:?}");
            assert!(!form.gold(&images).is_empty());
        }
        for text in ["", "?", "What is it ?", "What digit is on the cat ?", "Is the digit on the a in image 1 ?"] {
            assert_eq!(Form::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_unique_has_no_answer() {
        let images = images();
        let images = images.each_ref().map(Vec::as_slice);
        assert_eq!(Form::Which { object: "red circle".into() }.answer(&images), None);
        let ask = |object: &str, image| Form::Read { kind: "digit".into(), object: object.into(), image };
        for form in [ask("red circle", 0), ask("red circle", 3), ask("cat", 1)] {
            assert_eq!(form.answer(&images), None, "{form:?}");
        }
        let twice = [object("red circle", "1"), object("red circle", "2")];
        assert_eq!(ask("red circle", 1).answer(&[&twice]), None);
    }

    #[test]
    fn a_writer_asks_what_has_an_answer() {
        let images = images();
        let images = images.each_ref().map(Vec::as_slice);
        let names = ["a".to_owned(), "b".to_owned()];
        let mut kinds = std::collections::BTreeSet::new();
        for id in 0..40 {
            let asked = write(&images, &names, 1, &id.to_string()).unwrap();
            assert_eq!(Form::parse(&asked.question).unwrap().answer(&images), Some(asked.answer));
            assert_eq!(asked.images, names);
            kinds.insert(asked.kind);
        }
        assert_eq!(kinds.len(), 3);
        assert_eq!(write(&[&[], &[]], &names, 1, "a"), None);
    }
}
