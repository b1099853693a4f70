//! Questions whose answer is an image and a box: objects that two images share or not, and the words of question and answer.

use imagent_core::{BBox, Original};
use rand::seq::SliceRandom;

use super::layout::{Draft, Kind, Plan, between, other_shape};
use super::scene::{Colour, Object, Shape};

impl Plan<'_> {
    /// Two different images in random order: the one asked about, and the one that it is compared with. Nothing will be added
    /// to them.
    fn draw_two(&mut self) -> (usize, usize) {
        let mut images: Vec<usize> = (0..self.images.len()).collect();
        images.shuffle(&mut self.rng);
        let (asked, other) = (images[0], images[1]);
        self.closed = vec![asked, other];
        self.other = Some(other);
        (asked, other)
    }

    fn colours(&mut self) -> [Colour; 8] {
        let mut colours = self.config.colours();
        colours.shuffle(&mut self.rng);
        colours
    }

    /// An object with a digit of its own.
    fn put(&mut self, image: usize, colour: Colour, shape: Shape, asked: Option<usize>) -> Draft {
        let digit = self.digit();
        let draft = Draft { colour, shape, digit, asked };
        self.images[image].push(draft);
        draft
    }

    /// Two images that share one object. Where another colour stands in both, it does on different shapes.
    pub(super) fn draw_common(&mut self) -> Vec<(usize, Draft)> {
        let (image, other) = self.draw_two();
        let colours = self.colours();
        let (shared, rest) = (colours[0], &colours[1..]);
        let shape = self.shape();
        let asked = self.put(image, shared, shape, Some(0));
        self.put(other, shared, shape, None);
        for at in [image, other] {
            let mut own = rest.to_vec();
            own.shuffle(&mut self.rng);
            let more = between(&mut self.rng, self.config.objects) - 1;
            for colour in own.into_iter().take(more) {
                let there = self.images[image].iter().find(|draft| at == other && draft.colour == colour).copied();
                let shape = match there {
                    Some(there) => other_shape(&mut self.rng, self.config.shapes(), there.shape),
                    None => self.shape(),
                };
                self.put(at, colour, shape, None);
            }
        }
        vec![(image, asked)]
    }

    /// An image with all objects of another, and one more.
    pub(super) fn draw_differing(&mut self) -> Vec<(usize, Draft)> {
        let (image, other) = self.draw_two();
        let [fewest, most] = self.config.objects;
        let shared = between(&mut self.rng, [fewest, most.saturating_sub(1)]);
        let colours = self.colours();
        let shape = self.shape();
        let asked = self.put(image, colours[0], shape, Some(0));
        for &colour in colours.iter().skip(1).take(shared) {
            let shape = self.shape();
            self.put(image, colour, shape, None);
            self.put(other, colour, shape, None);
        }
        vec![(image, asked)]
    }
}

/// Question and answer of a kind that asks for a box; `second` as the second world asks.
pub(super) fn box_words(
    kind: Kind,
    objects: &[(usize, Object)],
    other: Option<usize>,
    second: bool,
) -> (String, String) {
    // These kinds ask for one object, and compare with an image where their words have one.
    let Some((image, object)) = objects.first() else { return (String::new(), String::new()) };
    let other = other.unwrap_or_default();
    let question = match kind {
        Kind::Largest if second => "Of all objects , which is the largest ?".to_owned(),
        Kind::Common if second => {
            format!("Image {other} shows an object of image {image} : where in image {image} is it ?")
        }
        Kind::Differ if second => {
            format!("Image {other} lacks an object of image {image} : where in image {image} is it ?")
        }
        Kind::Find if second => format!("There is a {} : where is it ?", object.name()),
        Kind::Largest => "Where is the largest object ?".to_owned(),
        Kind::Common => format!("Where in image {image} is the object that is also in image {other} ?"),
        Kind::Differ => format!("Where in image {image} is the object that is not in image {other} ?"),
        _ => format!("Where is the {} ?", object.name()),
    };
    (question, box_answer(*image, object.bbox()))
}

/// An image and a box as an answer says them.
pub(super) fn box_answer(image: usize, bbox: BBox<Original>) -> String {
    format!("{{\"image\": {image}, \"bbox_2d\": {:?}}}", bbox.to_array().map(|edge| edge as i64))
}
