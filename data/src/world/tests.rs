//! Tests of the nano world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use imagent_core::{BBox, SampleSource};
use proptest::prelude::*;

use super::layout::spacing;
use super::*;
use crate::error::DataError;

fn mix(read: f64, which: f64, same: f64, two: f64) -> WorldConfig {
    WorldConfig {
        questions: QuestionMix { read, which, same, two, ..QuestionMix::default() },
        ..WorldConfig::default()
    }
}

fn configs() -> impl Strategy<Value = WorldConfig> {
    let range = |most: usize| (1..=most, 0..=most).prop_map(move |(low, more)| [low, (low + more).min(most)]);
    let weights = (0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0);
    let shares = (prop_oneof![Just(0.0), Just(1.0), 0.0..1.0], prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]);
    let second = proptest::sample::subsequence(Aspect::ALL.to_vec(), 0..=Aspect::ALL.len());
    let sizes = (24u32..=56, 24u32..=56).prop_map(|(a, b)| [2 * a.min(b), 2 * a.max(b)]);
    let sizes = prop_oneof![Just([64, 80]), sizes];
    (range(5), range(6), weights, shares, (2u8..=10, sizes), second)
        .prop_map(|(images, objects, (read, which, same, two), (across, within), (digits, sizes), second)| {
            WorldConfig {
                images,
                objects,
                questions: QuestionMix { read, which, same, two, ..QuestionMix::default() },
                across,
                within,
                digits,
                sizes,
                second,
            }
        })
        .prop_filter("valid", |config| config.validate().is_ok())
}

fn overlap(a: &Object, b: &Object) -> bool {
    let reach = a.half + b.half;
    a.centre.0.abs_diff(b.centre.0) < reach && a.centre.1.abs_diff(b.centre.1) < reach
}

fn check_scene(scene: &Scene, config: &WorldConfig) {
    let half = config.halves();
    for (nth, object) in scene.objects.iter().enumerate() {
        assert!((half.0..=half.1).contains(&object.half) && object.digit < config.digits);
        assert_eq!(Colour::SECOND.contains(&object.colour), config.is_second(Aspect::Colours));
        assert_eq!(Shape::SECOND.contains(&object.shape), config.is_second(Aspect::Shapes));
        assert!(BBox::new(0.0, 0.0, 448.0, 448.0).contains(object.bbox()));
        let (left, top) = object.digit_at;
        for (x, y) in (0..font::HEIGHT).flat_map(|y| (0..font::WIDTH).map(move |x| (left + x, top + y))) {
            assert!(object.covers(x, y), "digit leaves {object:?}");
        }
        for other in &scene.objects[..nth] {
            let apart =
                object.centre.0.abs_diff(other.centre.0).pow(2) + object.centre.1.abs_diff(other.centre.1).pow(2);
            assert!(apart >= spacing(half.1).pow(2) && apart >= 115 * 115);
            assert!(!overlap(object, other), "{object:?} {other:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn layouts_keep_the_rules(config in configs(), seed: u64, index: u64) {
        let made = layout(&config, seed, index);
        prop_assert_eq!(&made, &layout(&config, seed, index));
        let fewest = if made.kind == Kind::Read { config.images[0] } else { config.images[0].max(2) };
        prop_assert!((fewest..=config.images[1]).contains(&made.scenes.len()));
        for scene in &made.scenes {
            prop_assert!((config.objects[0]..=config.objects[1]).contains(&scene.objects.len()));
            check_scene(scene, &config);
        }
        let objects: Vec<_> = made.asked_objects().copied().collect();
        prop_assert_eq!(objects.len(), made.gold.len());
        let mut distracted = Across::None;
        for (object, &(image, _)) in objects.iter().zip(&made.asked) {
            for (nth, scene) in made.scenes.iter().enumerate() {
                for other in scene.objects.iter().filter(|o| *o != object && o.colour == object.colour) {
                    prop_assert!(other.digit != object.digit);
                    if nth + 1 == image {
                        prop_assert!(made.within && other.shape != object.shape);
                    } else if other.shape == object.shape {
                        prop_assert!(made.kind != Kind::Which);
                        distracted = Across::Twin;
                    } else {
                        distracted = distracted.max(Across::Colour);
                    }
                }
            }
            prop_assert_eq!(made.scenes[image - 1].find(object.colour, object.shape).count(), 1);
        }
        prop_assert_eq!(made.across, distracted);
        if !made.within {
            for scene in &made.scenes {
                let colours: std::collections::BTreeSet<_> = scene.objects.iter().map(|o| o.colour).collect();
                prop_assert_eq!(colours.len(), scene.objects.len());
            }
        }
    }
}

#[test]
fn questions_and_answers_say_what_the_scenes_show() {
    for index in 0..400 {
        let made = layout(&mix(1.0, 1.0, 1.0, 1.0), 7, index);
        let o: Vec<_> = made.asked_objects().collect();
        let i: Vec<_> = made.asked.iter().map(|(image, _)| image).collect();
        let (question, answer) = match made.kind {
            Kind::Read => {
                assert_eq!(made.gold[0].bbox, o[0].digit_box());
                (format!("What digit is on the {} in image {} ?", o[0].name(), i[0]), o[0].digit.to_string())
            }
            Kind::Which => (format!("Which image contains the {} ?", o[0].name()), i[0].to_string()),
            Kind::Same => {
                let (a, b) = (o[0].name(), o[1].name());
                let same = if o[0].digit == o[1].digit { "yes" } else { "no" };
                let (i, j) = (i[0], i[1]);
                assert_ne!(i, j);
                (format!("Is the digit on the {a} in image {i} the same as on the {b} in image {j} ?"), same.into())
            }
            Kind::Two => {
                let (a, b, i, j) = (o[0].name(), o[1].name(), i[0], i[1]);
                let digits = format!("{} {}", o[0].digit, o[1].digit);
                (format!("What digits are on the {a} in image {i} and on the {b} in image {j} ?"), digits)
            }
            other => panic!("{other:?} is not in the mix"),
        };
        assert_eq!((made.question, made.answer), (question, answer));
    }
}

fn share(config: &WorldConfig, mut holds: impl FnMut(&Layout) -> bool) -> f64 {
    (0..4000).filter(|&index| holds(&layout(config, 3, index))).count() as f64 / 4000.0
}

fn near(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 0.035, "{found} is not near {wanted}");
}

#[test]
fn answers_are_balanced() {
    for digit in 0..10 {
        near(share(&mix(1.0, 0.0, 0.0, 0.0), |l| l.answer == digit.to_string()), 0.1);
    }
    near(share(&mix(0.0, 0.0, 1.0, 0.0), |l| l.answer == "yes"), 0.5);
    let which = WorldConfig { images: [4, 4], ..mix(0.0, 1.0, 0.0, 0.0) };
    for image in 1..=4 {
        near(share(&which, |l| l.answer == image.to_string()), 0.25);
    }
    for (kind, wanted) in Kind::ALL.into_iter().zip([0.6, 0.2, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0]) {
        near(share(&WorldConfig::default(), |l| l.kind == kind), wanted);
    }
    // No distractor gives the answer of a pair away.
    let pairs = WorldConfig { within: 0.3, ..mix(0.0, 0.0, 1.0, 0.0) };
    let twins = share(&pairs, |l| l.across == Across::Twin);
    near(share(&pairs, |l| l.across == Across::Twin && l.answer == "yes"), twins / 2.0);
}

#[test]
fn distractors_come_as_often_as_configured() {
    for across in [0.0, 0.3, 1.0] {
        let config = WorldConfig { across, within: 0.2, ..mix(0.5, 0.5, 0.0, 0.0) };
        near(share(&config, |l| l.across != Across::None), across);
        near(share(&config, |l| l.within), 0.2);
    }
    let pair = WorldConfig { images: [2, 2], across: 0.3, ..mix(0.0, 0.0, 1.0, 0.0) };
    near(share(&pair, |l| l.across != Across::None), 1.0 - 0.7 * 0.7);
    let read = WorldConfig { images: [2, 2], across: 1.0, ..mix(1.0, 0.0, 0.0, 0.0) };
    near(share(&read, |l| l.across == Across::Twin), 0.5);
}

#[test]
fn same_seed_same_bytes() {
    let config = WorldConfig::default();
    let bytes =
        |seed, index| generate(&config, seed, index).sample.images.iter().map(|i| i.to_vec()).collect::<Vec<_>>();
    assert_eq!(bytes(1, 5), bytes(1, 5));
    assert_ne!(bytes(1, 5), bytes(2, 5));
    assert_ne!(bytes(1, 5), bytes(1, 6));
    let images = bytes(1, 5);
    assert_ne!(images[0], images[1]);
}

#[test]
fn digits_and_colours_are_distinct() {
    let differ = |a, b| (0..7).map(|row| (font::glyph(a)[row] ^ font::glyph(b)[row]).count_ones()).sum::<u32>();
    for a in 0..10 {
        assert!((0..a).all(|b| differ(a, b) >= 4), "{a}");
    }
    let far =
        |a: [u8; 3], b: [u8; 3]| a.iter().zip(b).map(|(&x, y)| u32::from(x.abs_diff(y)).pow(2)).sum::<u32>().isqrt();
    let empty = [Backdrop::FIRST, Backdrop::SECOND].map(|backdrop| render_on(&backdrop, &Scene::default(), 1));
    for colours in [Colour::ALL, Colour::SECOND] {
        for (nth, colour) in colours.into_iter().enumerate() {
            assert!(colours[..nth].iter().all(|other| far(colour.rgb(), other.rgb()) >= 80), "{colour:?}");
            assert!(far(colour.rgb(), [255; 3]) >= 120, "{colour:?}");
            let pixels = empty.iter().flat_map(|image| image.pixels());
            assert!(pixels.into_iter().all(|p| far(p.0, colour.rgb()) >= 80), "{colour:?} on the background");
        }
    }
}

#[test]
fn the_second_world_asks_the_same_of_the_same_scenes() {
    for aspect in Aspect::ALL {
        let config = WorldConfig { second: vec![aspect], ..mix(1.0, 1.0, 1.0, 1.0) };
        let (first, second) = (mix(1.0, 1.0, 1.0, 1.0), config);
        let mut differ = [0; 2];
        for index in 0..60 {
            let (a, b) = (generate(&first, 5, index), generate(&second, 5, index));
            assert_eq!(a.sample.kind, b.sample.kind);
            let of = |asked: &[(usize, usize)]| asked.iter().map(|(image, _)| *image).collect::<Vec<_>>();
            assert_eq!((a.scenes.len(), of(&a.asked)), (b.scenes.len(), of(&b.asked)));
            if [Aspect::Background, Aspect::Wording].contains(&aspect) {
                assert_eq!((&a.scenes, &a.sample.answer), (&b.scenes, &b.sample.answer));
            }
            differ[0] += usize::from(a.sample.images != b.sample.images);
            differ[1] += usize::from(a.sample.question != b.sample.question);
        }
        let wanted = match aspect {
            Aspect::Wording => [0, 60],
            Aspect::Background => [60, 0],
            Aspect::Sizes => [60, differ[1]],
            Aspect::Shapes | Aspect::Colours => [60, 60],
        };
        assert_eq!(differ, wanted, "{aspect:?}");
    }
    let second = layout(&WorldConfig { second: vec![Aspect::Wording], ..mix(1.0, 0.0, 0.0, 0.0) }, 7, 1);
    let object = second.asked_objects().next().unwrap().name();
    assert_eq!(second.question, format!("In image {} there is a {object} : what digit is on it ?", second.asked[0].0));
}

#[test]
fn pixels_show_the_scene() {
    let made = generate(&WorldConfig::default(), 9, 2);
    for (scene, image) in made.scenes.iter().zip(&made.sample.images) {
        for object in &scene.objects {
            let (left, top) = object.digit_at;
            for (x, y) in (0..font::HEIGHT).flat_map(|y| (0..font::WIDTH).map(move |x| (x, y))) {
                let wanted = if font::is_set(object.digit, x, y) { [255; 3] } else { object.colour.rgb() };
                assert_eq!(image.get_pixel(left + x, top + y).0, wanted);
            }
        }
    }
}

#[test]
fn objects_off_the_canvas_are_cut() {
    let object = Object {
        colour: Colour::Red,
        shape: Shape::Square,
        digit: 200,
        centre: (440, u32::MAX - 1),
        half: u32::MAX,
        digit_at: (445, u32::MAX),
    };
    assert_eq!(render(&Scene { objects: vec![object] }, 0).dimensions(), (448, 448));
}

#[test]
fn configs_are_validated_by_key() {
    let ok = WorldConfig::default();
    let cases = [
        (WorldConfig { images: [0, 2], ..ok.clone() }, "`images`"),
        (WorldConfig { images: [3, 2], ..ok.clone() }, "`images`"),
        (WorldConfig { images: [1, 1], ..ok.clone() }, "`images`"),
        (WorldConfig { objects: [1, 7], ..ok.clone() }, "`objects`"),
        (WorldConfig { objects: [1, 1], ..ok.clone() }, "`objects`"),
        (WorldConfig { across: 1.5, ..ok.clone() }, "`across`"),
        (WorldConfig { within: f64::NAN, ..ok.clone() }, "`within`"),
        (WorldConfig { digits: 1, ..ok.clone() }, "`digits`"),
        (WorldConfig { second: vec![Aspect::Sizes; 2], ..ok.clone() }, "`second`"),
        (mix(0.0, 0.0, 0.0, 0.0), "`questions`"),
        (mix(1.0, -1.0, 0.0, 0.0), "`questions.which`"),
    ];
    for (config, key) in cases {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
        layout(&config, 1, 1);
    }
    let unknown = serde_json::from_str::<WorldConfig>(r#"{"image":[1,2]}"#).unwrap_err().to_string();
    assert!(unknown.contains("unknown field `image`"), "{unknown}");
}

#[test]
fn a_world_is_a_source() {
    let source = WorldSource::new(WorldConfig::default(), 4, 3).unwrap();
    assert_eq!(source.len(), 3);
    assert_eq!(source.get(2).unwrap().id, "world-4-000002");
    assert!(source.get(3).is_err());
}

/// The images of this world, to the byte: datasets made before stay reproducible. A change means a new
/// [`crate::folder::GENERATOR`].
#[test]
fn bytes_are_those_of_the_first_release() {
    let made = generate(&mix(1.0, 1.0, 1.0, 1.0), 1, 1);
    let bytes = made.sample.images.iter().flat_map(|image| image.as_raw());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let question = "Is the digit on the cyan triangle in image 1 the same as on the orange triangle in image 2 ?";
    assert_eq!((made.sample.question.as_str(), hash), (question, 10_308_993_060_381_855_698));
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let config = WorldConfig::default();
    let start = std::time::Instant::now();
    (0..10_000).for_each(|index| drop(std::hint::black_box(layout(&config, 1, index))));
    println!("layout {:?}", start.elapsed() / 10_000);
    let scene = &layout(&config, 1, 1).scenes[0];
    let start = std::time::Instant::now();
    (0..1000).for_each(|seed| drop(std::hint::black_box(render(scene, seed))));
    println!("render {:?} with {} objects", start.elapsed() / 1000, scene.objects.len());
}

fn boxes(find: f64, largest: f64, common: f64, differ: f64) -> WorldConfig {
    let questions = QuestionMix { read: 0.0, which: 0.0, same: 0.0, two: 0.0, find, largest, common, differ };
    WorldConfig { questions, ..WorldConfig::default() }
}

/// Colour and shape of the objects of an image.
fn kinds(made: &Layout, image: usize) -> Vec<(Colour, Shape)> {
    made.scenes[image - 1].objects.iter().map(|o| (o.colour, o.shape)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn questions_about_boxes_have_one_answer(
        seed: u64, index: u64, images in 2usize..5, low in 1usize..4, more in 1usize..3, across in 0.0..1.0,
    ) {
        let (images, objects) = ([2, images], [low, low + more]);
        let config = WorldConfig { images, objects, across, ..boxes(1.0, 1.0, 1.0, 1.0) };
        config.validate().unwrap();
        let made = layout(&config, seed, index);
        prop_assert_eq!(&made, &layout(&config, seed, index));
        prop_assert!((2..=images[1]).contains(&made.scenes.len()));
        for scene in &made.scenes {
            prop_assert!((objects[0]..=objects[1]).contains(&scene.objects.len()));
            if made.kind != Kind::Largest {
                check_scene(scene, &config);
            }
            for (a, b) in scene.objects.iter().flat_map(|a| scene.objects.iter().map(move |b| (a, b))) {
                prop_assert!(a == b || a.bbox().iou(b.bbox()) == 0.0);
            }
        }
        let (image, at) = made.asked[0];
        let object = made.scenes[image - 1].objects[at];
        let own = (object.colour, object.shape);
        let all: Vec<_> = made.scenes.iter().flat_map(|scene| &scene.objects).collect();
        match made.kind {
            Kind::Find => prop_assert_eq!(all.iter().filter(|o| (o.colour, o.shape) == own).count(), 1),
            Kind::Largest => prop_assert!(all.iter().all(|o| **o == object || f64::from(o.half) < 0.8 * 40.0)),
            Kind::Common => {
                let there = kinds(&made, made.other.unwrap());
                let shared: Vec<_> = kinds(&made, image).into_iter().filter(|kind| there.contains(kind)).collect();
                prop_assert_eq!(shared, [own]);
            }
            _ => {
                let there = kinds(&made, made.other.unwrap());
                let alone: Vec<_> = kinds(&made, image).into_iter().filter(|kind| !there.contains(kind)).collect();
                prop_assert_eq!(alone, [own]);
                prop_assert_eq!(there.len() + 1, made.scenes[image - 1].objects.len());
            }
        }
        prop_assert_eq!(&made.gold, &[imagent_core::Gold { image, bbox: object.bbox() }]);
        let answer = imagent_core::WrittenBox::read(&made.answer).unwrap();
        prop_assert_eq!((answer.image, answer.corners), (Some(image), object.bbox().to_array()));
    }
}

#[test]
fn boxes_say_what_the_scenes_show() {
    let of = |config: WorldConfig| layout(&config, 7, 3);
    let find = of(boxes(1.0, 0.0, 0.0, 0.0));
    let name = find.asked_objects().next().unwrap().name();
    assert_eq!(find.question, format!("Where is the {name} ?"));
    assert_eq!(of(boxes(0.0, 1.0, 0.0, 0.0)).question, "Where is the largest object ?");
    for (config, word) in [(boxes(0.0, 0.0, 1.0, 0.0), "also"), (boxes(0.0, 0.0, 0.0, 1.0), "not")] {
        let made = of(config);
        let (image, other) = (made.asked[0].0, made.other.unwrap());
        assert_eq!(made.question, format!("Where in image {image} is the object that is {word} in image {other} ?"));
        assert_ne!(image, other);
    }
    for index in 0..40 {
        let first = boxes(1.0, 1.0, 1.0, 1.0);
        let second = WorldConfig { second: vec![Aspect::Wording], ..first.clone() };
        let (a, b) = (layout(&first, 3, index), layout(&second, 3, index));
        assert_ne!(a.question, b.question);
        assert_eq!((a.answer, a.scenes), (b.answer, b.scenes));
    }
    let sizes = WorldConfig { second: vec![Aspect::Sizes], ..boxes(0.0, 1.0, 0.0, 0.0) };
    assert!(sizes.validate().unwrap_err().to_string().contains("sizes of their own"));
    let large = WorldConfig { sizes: [88, 112], ..mix(1.0, 0.0, 0.0, 0.0) };
    large.validate().unwrap();
    let refused = [
        WorldConfig { sizes: [88, 112], ..boxes(0.0, 1.0, 0.0, 0.0) },
        WorldConfig { second: vec![Aspect::Sizes], ..large.clone() },
        WorldConfig { sizes: [46, 80], ..large.clone() },
        WorldConfig { sizes: [64, 114], ..large.clone() },
        WorldConfig { sizes: [81, 88], ..large.clone() },
        WorldConfig { sizes: [88, 80], ..large },
    ];
    for config in refused {
        assert!(
            matches!(config.validate(), Err(DataError::Config { key, .. }) if key == "sizes"),
            "{:?}",
            config.sizes
        );
    }
    for (nth, kind) in [Kind::Find, Kind::Largest, Kind::Common, Kind::Differ].into_iter().enumerate() {
        near(share(&boxes(1.0, 1.0, 1.0, 1.0), |l| l.kind == kind), 0.25);
        let config = WorldConfig { images: [4, 4], ..boxes(0.0, 0.0, 0.0, 0.0) };
        let weight = |at: usize| f64::from(u8::from(at == nth));
        let questions = boxes(weight(0), weight(1), weight(2), weight(3)).questions;
        let config = WorldConfig { questions, ..config };
        (1..=4).for_each(|image| near(share(&config, |l| l.asked[0].0 == image), 0.25));
    }
}

#[test]
fn samples_about_boxes_are_annotated_and_others_are_not() {
    let made = generate(&boxes(0.0, 0.0, 1.0, 0.0), 5, 1);
    let objects = made.sample.meta["objects"].as_array().unwrap();
    assert_eq!(objects.len(), made.scenes.iter().map(|scene| scene.objects.len()).sum::<usize>());
    let first = &made.scenes[0].objects[0];
    let expected = serde_json::json!({"image": 1, "name": first.name(), "bbox": first.bbox().to_array()});
    assert_eq!(objects[0], expected);
    assert!(made.sample.meta["other"].is_u64());
    assert_eq!(generate(&WorldConfig::default(), 5, 1).sample.meta.len(), 2);
    // Weights of 0 are not written: datasets that were made before stay those of their configs.
    let text = serde_json::to_string(&WorldConfig::default()).unwrap();
    assert!(text.contains(r#"{"read":0.6,"which":0.2,"same":0.2,"two":0.0}"#), "{text}");
}
