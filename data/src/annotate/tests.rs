//! Trajectories: what they say, that they give the answer, and what is rejected.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use imagent_core::{Action, BBox, BoxFrame, ImageSizes, Original, Sample, Size, WrittenBox, parse_turn};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::world::{QuestionMix, WorldConfig, generate};

fn quarter(size: Size) -> Option<Size> {
    Some(Size::new(size.width / 4, size.height / 4))
}

fn world(find: f64, largest: f64, common: f64, differ: f64) -> WorldConfig {
    let questions = QuestionMix { read: 0.0, which: 0.0, same: 0.0, two: 0.0, find, largest, common, differ };
    WorldConfig { questions, ..WorldConfig::default() }
}

fn told(sample: &Sample, frame: BoxFrame, wording: &str) -> Result<Told, Reject> {
    let wording = Wording::named(wording).unwrap();
    Teller { wording: &wording, frame, shown: &quarter, seed: 1 }.tell(sample)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_world_sample_gets_a_trajectory_that_gives_its_answer(seed: u64, index in 0u64..1000, frame in 0usize..4) {
        let frame = [BoxFrame::Shown, BoxFrame::Original, BoxFrame::Relative1000, BoxFrame::Unit][frame];
        let sample = generate(&world(1.0, 1.0, 1.0, 1.0), seed, index).sample;
        for wording in ["plain", "short", "boxes"] {
            let told = told(&sample, frame, wording).unwrap();
            let Action::Answer(answer) = parse_turn(&told.text) else { panic!("{}", told.text) };
            let written = WrittenBox::read(&answer).unwrap();
            prop_assert_eq!(written.image, Some(sample.gold[0].image));
            let sizes = ImageSizes { original: Size::new(448, 448), shown: told.shown[0] };
            let bbox: BBox<Original> = frame.read(written.corners, &sizes);
            // Of the smallest object, 14.5 pixels wide as shown, each edge moves by half a pixel at most.
            prop_assert!(bbox.iou(sample.gold[0].bbox) > 0.86);
            let thought = told.text.split("</think>").next().unwrap();
            prop_assert!(!thought.contains('{') && thought.matches('<').count() == 1, "{}", thought);
        }
    }
}

#[test]
fn each_image_is_observed_and_they_are_compared() {
    let sample = generate(&world(0.0, 0.0, 0.0, 1.0), 3, 0).sample;
    let text = told(&sample, BoxFrame::Shown, "short").unwrap().text;
    let things: Vec<Thing> = serde_json::from_value(sample.meta["objects"].clone()).unwrap();
    let on = |image: usize| {
        let names: Vec<&str> = things.iter().filter(|thing| thing.image == image).map(|t| t.name.as_str()).collect();
        format!("image {image} {}", names.join(", "))
    };
    let images: Vec<String> = (1..=sample.images.len()).map(on).collect();
    let gold = &sample.gold[0];
    let own = things.iter().find(|thing| thing.image == gold.image && thing.bbox == gold.bbox).unwrap();
    let corners = |bbox: BBox<Original>| format!("{:?}", bbox.to_array().map(|edge| (edge / 4.0).round() as i64));
    let expected = format!(
        "<think>{} {} in image {}</think><answer>{{\"image\": {}, \"bbox_2d\": {}}}</answer>",
        images.join(" "),
        own.name,
        gold.image,
        gold.image,
        corners(gold.bbox),
    );
    assert_eq!(text, expected);
    let boxes = told(&sample, BoxFrame::Shown, "boxes").unwrap().text;
    for thing in &things {
        assert!(boxes.contains(&format!("{} {}", thing.name, corners(thing.bbox))), "{boxes}");
    }
    let plain = told(&sample, BoxFrame::Shown, "plain").unwrap().text;
    assert!(plain.contains(&own.name) && plain.contains(&format!("mage {}", sample.meta["other"])), "{plain}");
}

#[test]
fn templates_are_drawn_by_seed_and_id() {
    let wording = Wording::named("plain").unwrap();
    let text = |seed: u64, id: &str| {
        let mut sample = generate(&world(1.0, 0.0, 0.0, 0.0), 3, 0).sample;
        sample.id = id.into();
        Teller { wording: &wording, frame: BoxFrame::Shown, shown: &quarter, seed }.tell(&sample).unwrap().text
    };
    assert_eq!(text(1, "a"), text(1, "a"));
    let many: std::collections::BTreeSet<String> = (0..20).map(|seed| text(seed, "a")).collect();
    assert!(many.len() > 5 && (0..20).any(|i| text(1, &i.to_string()) != text(1, "a")));
}

/// A sample of two images of 100 × 100 pixels whose answer is the box (10, 10, 50, 50) in image 2.
fn sample(kind: &str, objects: &[(usize, &str, [f64; 4])]) -> Sample {
    let mut sample = generate(&world(1.0, 0.0, 0.0, 0.0), 1, 0).sample;
    sample.images = (0..2).map(|_| std::sync::Arc::new(image::RgbImage::new(100, 100))).collect();
    sample.answer = r#"{"image": 2, "bbox_2d": [10, 10, 50, 50]}"#.into();
    sample.kind = kind.into();
    let things = objects.iter().map(|(image, name, bbox)| json!({"image": image, "name": name, "bbox": bbox}));
    sample.meta.insert(OBJECTS.into(), things.collect());
    sample.meta.insert(OTHER.into(), json!(1));
    sample
}

const OWN: [f64; 4] = [10.0, 10.0, 50.0, 50.0];
const SMALL: [f64; 4] = [60.0, 60.0, 70.0, 70.0];

fn refused(sample: &Sample) -> Option<Reject> {
    told(sample, BoxFrame::Shown, "plain").err()
}

#[test]
fn what_its_annotation_does_not_bear_out_is_rejected() {
    let dog = (2, "dog", OWN);
    let cases = [
        ("find", vec![dog, (1, "cat", SMALL)], None),
        ("find", vec![dog, (1, "dog", SMALL)], Some(Reject::Ambiguous)),
        ("find", vec![(2, "dog", SMALL)], Some(Reject::NotAnnotated)),
        ("find", vec![(1, "dog", OWN)], Some(Reject::NotAnnotated)),
        ("largest", vec![dog, (1, "cat", SMALL)], None),
        ("largest", vec![dog, (1, "cat", [0.0, 0.0, 90.0, 90.0])], Some(Reject::Contradiction)),
        ("common", vec![dog, (2, "cat", SMALL), (1, "dog", SMALL)], None),
        ("common", vec![dog, (1, "cat", SMALL)], Some(Reject::Contradiction)),
        ("common", vec![dog, (2, "cat", SMALL), (1, "dog", OWN), (1, "cat", OWN)], Some(Reject::Ambiguous)),
        ("common", vec![dog, (2, "dog", SMALL), (1, "dog", SMALL)], Some(Reject::Ambiguous)),
        ("differ", vec![dog, (2, "cat", SMALL), (1, "cat", SMALL)], None),
        ("differ", vec![dog, (1, "dog", SMALL)], Some(Reject::Contradiction)),
        ("differ", vec![dog, (2, "cat", SMALL)], Some(Reject::Ambiguous)),
        ("anything", vec![dog, (1, "dog", SMALL)], None),
        ("find", vec![dog, (3, "cat", SMALL)], Some(Reject::BadObjects)),
        ("find", vec![dog, (1, " ", SMALL)], Some(Reject::BadObjects)),
    ];
    for (kind, objects, expected) in cases {
        assert_eq!(refused(&sample(kind, &objects)), expected, "{kind} {objects:?}");
    }
}

#[test]
fn answers_that_cannot_be_written_are_rejected() {
    let answers = [
        ("the dog", Reject::NoBox),
        ("[10, 10, 50, 50]", Reject::NoImage),
        (r#"{"image": 3, "bbox_2d": [10, 10, 50, 50]}"#, Reject::NoImage),
        (r#"{"image": 2, "bbox_2d": [100, 10, 150, 50]}"#, Reject::NoImage),
        (r#"{"image": 2, "bbox_2d": [10, 10, 11, 50]}"#, Reject::TooSmall),
    ];
    for (answer, expected) in answers {
        let mut sample = sample("given", &[]);
        sample.meta.remove(OBJECTS);
        sample.answer = answer.into();
        assert_eq!(refused(&sample), Some(expected), "{answer}");
    }
    let wording = Wording::named("plain").unwrap();
    let teller = Teller { wording: &wording, frame: BoxFrame::Shown, shown: &|_| None, seed: 1 };
    assert_eq!(teller.tell(&sample("given", &[(2, "dog", OWN)])), Err(Reject::NotShown));
    // A box that rounding moves too far: 6 × 40 pixels of the file are 1.5 × 10 as shown.
    let mut thin = sample("given", &[]);
    thin.meta.remove(OBJECTS);
    thin.answer = r#"{"image": 2, "bbox_2d": [13, 10, 15, 50]}"#.into();
    assert!(matches!(refused(&thin), Some(Reject::OtherAnswer | Reject::TooSmall)));
}

#[test]
fn without_annotation_nothing_is_claimed() {
    let mut bare = sample("find", &[]);
    bare.meta.remove(OBJECTS);
    bare.question = "Find the <|object_ref_start|>grey dog<|object_ref_end|>.".into();
    let text = told(&bare, BoxFrame::Relative1000, "plain").unwrap().text;
    assert!(text.contains("grey dog") && text.contains("I look at image 1") && !text.contains("only"), "{text}");
    assert!(text.ends_with(r#"<answer>{"image": 2, "bbox_2d": [100, 100, 500, 500]}</answer>"#), "{text}");
    bare.question = "Where is it?".into();
    assert!(told(&bare, BoxFrame::Unit, "plain").unwrap().text.contains("[0.1, 0.1, 0.5, 0.5]"));
}

#[test]
fn a_rewritten_text_has_to_keep_the_answer() {
    let wording = Wording::named("plain").unwrap();
    let teller = Teller { wording: &wording, frame: BoxFrame::Original, shown: &quarter, seed: 1 };
    let sample = sample("given", &[(2, "dog", OWN)]);
    let answered =
        |answer: &str| teller.is_answered_by(&sample, &format!("<think>hm</think><answer>{answer}</answer>"));
    assert!(answered(r#"{"image": 2, "bbox_2d": [10, 10, 50, 50]}"#));
    assert!(answered(r#"{"bbox_2d":[10,10,50,50],"image":2}"#));
    assert!(!answered(r#"{"image": 1, "bbox_2d": [10, 10, 50, 50]}"#));
    assert!(!answered(r#"{"image": 2, "bbox_2d": [10, 10, 50, 51]}"#));
    assert!(!answered("the dog"));
}

#[test]
fn wordings_are_checked() {
    let text = serde_json::to_string(&Wording::named("short").unwrap()).unwrap();
    let with = |from: &str, to: &str| Wording::parse(&text.replace(from, to)).unwrap_err();
    assert!(with("{things}", "{thing}").contains("`observe` has {thing}; it may have image, things"));
    assert!(with(r#""find":["{name} in image {image}"]"#, r#""find":[]"#).contains("`find` has no template"));
    assert!(with(r#""find""#, r#""fnid""#).contains("fnid"));
}
