//! Demonstrations in the nano world: what the turns of an episode would say, for teaching a base model.
//!
//! A lesson is a sample, the turns that a demonstrator writes (which tools then carry out, in the exact format of an
//! episode) and labels of single image cells. It does not know tokens.

use std::sync::Arc;

use image::RgbImage;
use imagent_core::{Gold, Sample, WrittenBox, seed};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::world::{Colour, Object, SIDE, WorldConfig, WorldSample, font, generate};

/// Names the stream of choices of lessons.
const STREAM: u64 = 0x6c65_7373;
/// Side of the square, in pixels as shown, that a good demonstration zooms into.
const BOX: i64 = 28;
/// Demonstrated corners lie on a grid this wide, in pixels as shown.
const GRID: i64 = 4;
/// Left edges are multiples of [`GRID`], top edges this much more, and cells are named by odd numbers: so no number
/// has two meanings, and one image cell can be labelled with all three.
const TOP: i64 = 2;
/// Cells of an image as shown: a row and column of image tokens have this many.
const CELLS: u32 = 4;
/// Side of an image as shown.
const SHOWN: i64 = 112;

/// What a lesson teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Names every object of every image and says in which cell it is.
    Where,
    /// Names every object of every image and says the corner of the box to zoom into.
    Corner,
    /// Is asked for the digit of every object of every image and calls `zoom_in` for each, without seeing the crops.
    Calls,
    /// Is asked which image has an object, for every object that is the only one of its name, and answers.
    Which,
    /// Names the digits of a sheet full of them, each at its image cell: reading, many times an image.
    Sheet,
    /// Zooms into every object asked for as given, and reads the digit.
    Read,
    /// Zooms into the right object, then answers.
    Zoom,
    /// Answers without looking closer: right where no zoom is needed, a random digit where one is.
    Guess,
    /// Zooms into another object, or a box too large, then answers at random.
    Stray,
    /// Looks again at the right image, then answers at random.
    LookBack,
}

impl Task {
    /// Whether its lessons ask the question of a sample of the world, and no other.
    pub fn asks(self) -> bool {
        matches!(self, Self::Read | Self::Zoom | Self::Guess | Self::Stray | Self::LookBack)
    }
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its text.
    pub text: String,
    /// Whether the model is taught to write it, or is given it.
    pub taught: bool,
}

/// A word that describes a cell of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct CellLabel {
    /// Index on the shelf, counted from 1.
    pub image: usize,
    /// Column and row of the point, as fractions of the image.
    pub at: (f64, f64),
    /// The word.
    pub word: String,
}

/// A lesson.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// What is asked.
    pub sample: Arc<Sample>,
    /// What the demonstrator writes, turn by turn.
    pub turns: Vec<Vec<Piece>>,
    /// Labels of cells.
    pub labels: Vec<CellLabel>,
    /// What may be thought before the first turn: the image of each object asked for. Empty where the [task](Task::asks) asks otherwise.
    pub thought: String,
}

impl Lesson {
    /// The same with its thought in `<think>` and `</think>` before the first turn, taught as that turn is.
    #[must_use]
    pub fn thinking(mut self) -> Self {
        if let Some(turn) = self.turns.first_mut().filter(|_| !self.thought.is_empty()) {
            let taught = turn.first().is_some_and(|piece| piece.taught);
            turn.insert(0, Piece { text: format!("<think>{}</think>", self.thought), taught });
        }
        self
    }
}

/// Lesson `index` of the course that `seed` names.
pub fn lesson(task: Task, config: &WorldConfig, seed: u64, index: u64) -> Lesson {
    let made = generate(config, seed, index);
    let mut maker = Maker { rng: seed::rng(seed, &[STREAM, index]), labels: Vec::new(), made };
    maker.label_objects();
    let turns = match task {
        Task::Where => vec![maker.tour(|object| vec![cell(object).to_string()])],
        Task::Corner => vec![maker.tour(|object| corner(object).map(|c| c.to_string()).to_vec())],
        Task::Calls => maker.calls(),
        Task::Which => maker.which(),
        Task::Sheet => maker.sheet(),
        Task::Read => maker.reads(),
        Task::Zoom => maker.zooms(),
        Task::Guess => vec![maker.guess()],
        Task::Stray => maker.stray(),
        Task::LookBack => maker.look_back(),
    };
    let thought = if task.asks() { maker.thought() } else { String::new() };
    let mut sample = maker.made.sample;
    match task {
        Task::Where => sample.question = "Where is everything ?".to_owned(),
        Task::Corner => sample.question = "Where are the digits ?".to_owned(),
        _ => {}
    }
    Lesson { sample: Arc::new(sample), turns, labels: maker.labels, thought }
}

/// Name of the cell of an image as shown that holds the object's centre: odd numbers, row by row.
fn cell(object: &Object) -> u32 {
    let of = |x: u32| x * CELLS / SIDE;
    2 * (of(object.centre.1) * CELLS + of(object.centre.0)) + 1
}

/// Top left corner, as shown, of the box to zoom into.
fn corner(object: &Object) -> [i64; 2] {
    let place = |centre: u32, base: i64| {
        let centre = i64::from(centre) * SHOWN / i64::from(SIDE);
        let corner = (centre - BOX / 2 - base).clamp(0, SHOWN - BOX - base);
        base + (corner + GRID / 2) / GRID * GRID
    };
    let [x, y] = [place(object.centre.0, 0), place(object.centre.1, TOP)];
    [x, y.min(SHOWN - BOX - TOP)]
}

fn taught(text: impl Into<String>) -> Vec<Piece> {
    vec![Piece { text: text.into(), taught: true }]
}

fn call(image: usize, [x, y, x2, y2]: [i64; 4]) -> Vec<Piece> {
    taught(format!(
        "<tool_call>{{\"name\": \"zoom_in\", \"arguments\": {{\"image\": {image}, \"bbox_2d\": [{x}, {y}, {x2}, {y2}]}}}}</tool_call>"
    ))
}

fn answer(text: &str) -> Vec<Piece> {
    taught(format!("<answer>{text}</answer>"))
}

struct Maker {
    rng: ChaCha8Rng,
    labels: Vec<CellLabel>,
    made: WorldSample,
}

impl Maker {
    fn object(&self, (image, object): (usize, usize)) -> Object {
        self.made.scenes[image - 1].objects[object]
    }

    /// Where the objects asked for are.
    fn thought(&self) -> String {
        let said = |&(image, object): &(usize, usize)| {
            format!("the {} is in image {image}", self.object((image, object)).name())
        };
        self.made.asked.iter().map(said).collect::<Vec<_>>().join(" and ")
    }

    /// Colour, shape and image of each object and the corner of its box, at the cell of its centre.
    fn label_objects(&mut self) {
        for (image, scene) in self.made.scenes.iter().enumerate() {
            for object in &scene.objects {
                let at = |x: u32| f64::from(x) / f64::from(SIDE);
                let label =
                    |word: String| CellLabel { image: image + 1, at: (at(object.centre.0), at(object.centre.1)), word };
                let [x, y] = corner(object).map(|edge| edge.to_string());
                let words = [object.colour.name(), object.shape.name()].map(|word| format!(" {word}"));
                let words = words.into_iter().chain([format!("Picture {}: ", image + 1), x, y]);
                self.labels.extend(words.map(label));
            }
        }
    }

    /// All objects in random order, each named and followed by what `say` says of it.
    fn tour(&mut self, say: impl Fn(&Object) -> Vec<String>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (image, object) in self.stops() {
            let mut given = format!(" image {image} {}", object.colour.name());
            for word in say(&object) {
                pieces.push(Piece { text: std::mem::replace(&mut given, " ".to_owned()), taught: false });
                pieces.push(Piece { text: word, taught: true });
            }
        }
        pieces
    }

    /// Every object of every image with the image's index, in random order.
    fn stops(&mut self) -> Vec<(usize, Object)> {
        let mut stops: Vec<(usize, Object)> = (self.made.scenes.iter().enumerate())
            .flat_map(|(image, scene)| scene.objects.iter().map(move |object| (image + 1, *object)))
            .collect();
        stops.shuffle(&mut self.rng);
        stops
    }

    /// A call for every object, each question in the form of a user's turn.
    fn calls(&mut self) -> Vec<Vec<Piece>> {
        let stops = self.stops().into_iter().map(|(image, object)| {
            let [x, y] = corner(&object);
            let question = format!("What digit is on the {} in image {image} ?", object.name());
            (question, call(image, [x, y, x + BOX, y + BOX]))
        });
        self.dialogue(stops.collect())
    }

    /// The image of every object that is the only one of its colour and shape.
    fn which(&mut self) -> Vec<Vec<Piece>> {
        let stops = self.stops();
        let alone = |object: &Object| stops.iter().filter(|(_, other)| other.name() == object.name()).count() == 1;
        let stops = stops.iter().filter(|(_, object)| alone(object));
        let stops = stops.map(|(image, object)| {
            (format!("Which image contains the {} ?", object.name()), answer(&image.to_string()))
        });
        self.dialogue(stops.collect())
    }

    /// Questions with what to say to each: the first becomes the sample's, the others stand in the same turn, in the
    /// form of users' turns.
    fn dialogue(&mut self, exchanges: Vec<(String, Vec<Piece>)>) -> Vec<Vec<Piece>> {
        let mut pieces = Vec::new();
        for (question, reply) in exchanges {
            if pieces.is_empty() {
                self.made.sample.question = question;
            } else {
                let text = format!("<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
                pieces.push(Piece { text, taught: false });
            }
            pieces.extend(reply);
        }
        if pieces.is_empty() { Vec::new() } else { vec![pieces] }
    }

    /// Replaces the sample's images by one of the size as shown, full of digits on patches of colour.
    fn sheet(&mut self) -> Vec<Vec<Piece>> {
        self.labels.clear();
        let side = SHOWN as u32;
        let mut image = RgbImage::new(side, side);
        let step = side / CELLS;
        let colours: Vec<Colour> = (0..(CELLS + 2) * (CELLS + 2))
            .map(|_| Colour::ALL.choose(&mut self.rng).copied().unwrap_or(Colour::Red))
            .collect();
        let shift = (self.rng.random_range(0..step), self.rng.random_range(0..step));
        for (x, y, pixel) in image.enumerate_pixels_mut() {
            let at = (y + shift.1) / step * (CELLS + 2) + (x + shift.0) / step;
            *pixel = image::Rgb(colours[at as usize].rgb());
        }
        for row in 0..=CELLS {
            for column in 0..=CELLS {
                let x = (column * step + self.rng.random_range(0..=step - font::WIDTH)).checked_sub(shift.0);
                let y = (row * step + self.rng.random_range(0..=step - font::HEIGHT)).checked_sub(shift.1);
                if let (Some(x), Some(y)) = (x, y) {
                    self.sheet_digit(&mut image, x, y);
                }
            }
        }
        self.made.sample.images = vec![Arc::new(image)];
        Vec::new()
    }

    /// Draws a random digit that lies wholly on the sheet and labels the cell of its centre.
    fn sheet_digit(&mut self, image: &mut RgbImage, x: u32, y: u32) {
        if x + font::WIDTH > image.width() || y + font::HEIGHT > image.height() {
            return;
        }
        let digit: u8 = self.rng.random_range(0..10);
        for (dx, dy) in (0..font::HEIGHT).flat_map(|dy| (0..font::WIDTH).map(move |dx| (dx, dy))) {
            if font::is_set(digit, dx, dy) {
                image.put_pixel(x + dx, y + dy, image::Rgb([255; 3]));
            }
        }
        let at = |corner: u32, size: u32| f64::from(corner + size / 2) / SHOWN as f64;
        let at = (at(x, font::WIDTH), at(y, font::HEIGHT));
        self.labels.push(CellLabel { image: 1, at, word: digit.to_string() });
    }

    /// The turns of [`Self::zooms`], of which only the answer's text is taught.
    fn reads(&mut self) -> Vec<Vec<Piece>> {
        self.labels.clear();
        let mut turns = self.zooms();
        turns.iter_mut().flatten().for_each(|piece| piece.taught = false);
        if let Some(last) = turns.last_mut() {
            let piece = |text: &str, taught| Piece { text: text.to_owned(), taught };
            *last = vec![piece("<answer>", false), piece(&self.right_answer(), true), piece("</answer>", false)];
        }
        turns
    }

    /// A zoom into every object asked for, then the answer.
    fn zooms(&mut self) -> Vec<Vec<Piece>> {
        let mut turns = Vec::new();
        if self.made.sample.zooms_needed != Some(0) {
            for asked in self.made.asked.clone() {
                turns.push(self.zoom(asked));
            }
        }
        turns.push(answer(&self.right_answer()));
        turns
    }

    /// The right answer as the model is to give it: a box in pixels as shown.
    fn right_answer(&self) -> String {
        let sample = &self.made.sample;
        match (WrittenBox::read(&sample.answer), sample.gold.first()) {
            (Some(_), Some(Gold { image, bbox })) => {
                let shown = bbox.to_array().map(|edge| (edge * SHOWN as f64 / f64::from(SIDE)).round() as i64);
                format!("{{\"image\": {image}, \"bbox_2d\": {shown:?}}}")
            }
            _ => sample.answer.clone(),
        }
    }

    fn zoom(&mut self, (image, object): (usize, usize)) -> Vec<Piece> {
        let object = self.object((image, object));
        let [x, y] = corner(&object);
        self.label_digit(&object, [x, y, x + BOX, y + BOX]);
        call(image, [x, y, x + BOX, y + BOX])
    }

    /// The digit, at its cell of the crop that the next zoom returns.
    fn label_digit(&mut self, object: &Object, [x, y, x2, y2]: [i64; 4]) {
        let shelf = self.made.scenes.len() + self.crops() + 1;
        let scale = SHOWN as f64 / f64::from(SIDE);
        let digit = object.digit_box();
        let at = |centre: f64, from: i64, to: i64| (centre * scale - from as f64) / (to - from) as f64;
        let at = (at((digit.x1 + digit.x2) / 2.0, x, x2), at((digit.y1 + digit.y2) / 2.0, y, y2));
        if (0.0..1.0).contains(&at.0) && (0.0..1.0).contains(&at.1) {
            self.labels.push(CellLabel { image: shelf, at, word: object.digit.to_string() });
        }
    }

    /// Crops labelled so far.
    fn crops(&self) -> usize {
        let scenes = self.made.scenes.len();
        self.labels.iter().map(|label| label.image).max().unwrap_or(scenes).max(scenes) - scenes
    }

    /// An answer without a look: the right one where it can be seen, else one of the same kind at random.
    fn random_answer(&mut self) -> String {
        match self.made.sample.kind.as_str() {
            "which" => self.made.sample.answer.clone(),
            "find" | "largest" | "common" | "differ" => self.right_answer(),
            "same" => ["yes", "no"].choose(&mut self.rng).copied().unwrap_or("no").to_owned(),
            "two" => format!("{} {}", self.rng.random_range(0..10), self.rng.random_range(0..10)),
            _ => self.rng.random_range(0..10).to_string(),
        }
    }

    fn guess(&mut self) -> Vec<Piece> {
        let text = self.random_answer();
        answer(&text)
    }

    /// A box too large, or around nothing in particular, then a guess.
    fn stray(&mut self) -> Vec<Vec<Piece>> {
        let image = self.rng.random_range(1..=self.made.scenes.len());
        let large = self.rng.random_bool(0.5);
        let side = if large { self.rng.random_range(14..=24) * GRID } else { BOX };
        let last = (SHOWN - TOP - side) / GRID;
        let x = self.rng.random_range(0..=last) * GRID;
        let y = self.rng.random_range(0..=last) * GRID + TOP;
        vec![call(image, [x, y, x + side, y + side]), self.guess()]
    }

    fn look_back(&mut self) -> Vec<Vec<Piece>> {
        let image = self.made.asked.first().map_or(1, |asked| asked.0);
        let text = format!("<tool_call>{{\"name\": \"look_back\", \"arguments\": {{\"image\": {image}}}}}</tool_call>");
        vec![taught(text), self.guess()]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::world::QuestionMix;

    const ASKING: [Task; 5] = [Task::Read, Task::Zoom, Task::Guess, Task::Stray, Task::LookBack];
    const OTHER: [Task; 5] = [Task::Where, Task::Corner, Task::Calls, Task::Which, Task::Sheet];

    fn lessons(task: Task, questions: QuestionMix) -> Vec<Lesson> {
        let world = WorldConfig { questions, ..WorldConfig::default() };
        (0..20).map(|index| lesson(task, &world, 3, index)).collect()
    }

    #[test]
    fn a_thought_stands_before_the_first_turn_and_changes_nothing_else() {
        let questions = QuestionMix { read: 0.5, which: 0.5, same: 0.0, two: 0.0, ..QuestionMix::default() };
        for lesson in ASKING.into_iter().flat_map(|task| lessons(task, questions)) {
            let (plain, thinking) = (lesson.turns.clone(), lesson.thinking());
            let (first, rest) = thinking.turns[0].split_first().unwrap();
            assert_eq!((rest, &thinking.turns[1..]), (plain[0].as_slice(), &plain[1..]));
            assert_eq!(first.taught, plain[0][0].taught);
            let image = first.text.strip_suffix("</think>").unwrap().rsplit(' ').next().unwrap().to_owned();
            match thinking.sample.kind.as_str() {
                "which" => assert_eq!(image, thinking.sample.answer, "{}", first.text),
                _ => assert_eq!(image, thinking.sample.gold[0].image.to_string(), "{}", first.text),
            }
        }
    }

    #[test]
    fn every_object_asked_for_is_thought_of() {
        let two = QuestionMix { read: 0.0, which: 0.0, same: 0.0, two: 1.0, ..QuestionMix::default() };
        for lesson in lessons(Task::Zoom, two) {
            assert_eq!(lesson.thought.matches(" is in image ").count(), 2, "{}", lesson.thought);
        }
    }

    #[test]
    fn lessons_that_ask_otherwise_have_no_thought() {
        for task in OTHER {
            assert!(!task.asks());
            for lesson in lessons(task, QuestionMix::default()) {
                let plain = lesson.turns.clone();
                assert_eq!(lesson.thinking().turns, plain, "{task:?}");
            }
        }
    }
}
