//! Rewards for boxes and images: by hand, on answers that are meant to fool them, and as properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::play_for;
use imagent_core::{BBox, BoxFrame, Gold, Group, Original, Reward, Score, Size, Trajectory};
use imagent_rewards::{BoxMeasure, CountedOn, Format, GroundingImage, GroundingObject, Sum, Term};
use proptest::prelude::*;
use serde_json::json;

const GOLD: [f64; 4] = [10.0, 10.0, 30.0, 30.0];

/// An answer to a sample of two images of 56 × 56 pixels, of which the second is shown at half its width and twice its height;
/// gold is the box in image 2, as the sample's answer or as a region.
fn answered(as_answer: bool, answer: &str) -> Trajectory {
    let mut trajectory = play_for("the car", &[format!("<answer>{answer}</answer>")]);
    let sample = Arc::make_mut(&mut trajectory.sample);
    sample.images.push(Arc::clone(&sample.images[0]));
    if as_answer {
        sample.answer = json!({"image": 2, "bbox_2d": GOLD}).to_string();
    } else {
        sample.gold = vec![Gold { image: 2, bbox: GOLD.into() }];
    }
    trajectory.shelf.push(Arc::clone(&trajectory.sample.images[1]), Size::new(28, 112), None);
    trajectory
}

fn score(reward: &dyn Reward, answer: &str) -> Score {
    let scores = [true, false].map(|as_answer| {
        let trajectory = answered(as_answer, answer);
        reward.score(&trajectory.sample, &trajectory)
    });
    assert_eq!(scores[0], scores[1], "{answer}");
    scores[0].clone()
}

/// The answer in the words of a model: image, and corners in pixels as shown.
fn say(image: usize, corners: [f64; 4]) -> String {
    format!(r#"{{"image": {image}, "bbox_2d": {corners:?}}}"#)
}

const WHOLE: [f64; 4] = [5.0, 20.0, 15.0, 60.0];
const HALF: [f64; 4] = [5.0, 20.0, 10.0, 60.0];
const LESS: [f64; 4] = [5.0, 20.0, 9.0, 60.0];
const AWAY: [f64; 4] = [20.0, 80.0, 28.0, 112.0];

fn object(measure: BoxMeasure, counted_on: CountedOn) -> GroundingObject {
    GroundingObject { measure, counted_on, ..GroundingObject::default() }
}

#[test]
fn boxes_in_the_right_image() {
    let value = |measure, answer: &str| score(&object(measure, CountedOn::Right), answer).value;
    let iou = |answer: &str| value(BoxMeasure::Iou, answer);
    assert_eq!([WHOLE, HALF, LESS, AWAY].map(|corners| iou(&say(2, corners))), [1.0, 0.5, 0.4, 0.0]);
    let hit = |answer: &str| value(BoxMeasure::Threshold, answer);
    assert_eq!([WHOLE, HALF, LESS, AWAY].map(|corners| hit(&say(2, corners))), [1.0, 1.0, 0.0, 0.0]);
    let giou = |answer: &str| value(BoxMeasure::Giou, answer);
    assert_eq!([WHOLE, HALF].map(|corners| giou(&say(2, corners))), [1.0, 0.5]);
    // In pixels of the file: 16 × 16 at (40, 40) against 20 × 20 at (10, 10), in a hull of 46 × 46.
    let far = -((46.0 * 46.0 - 656.0) / (46.0f64 * 46.0));
    assert_eq!(giou(&say(2, AWAY)), far as f32);
    // Another image, one that is not there, none named, no box: the lowest value.
    let nothing = [say(1, WHOLE), say(3, WHOLE), "[5, 20, 15, 60]".into(), r#"{"image": 2}"#.into(), "2".into()];
    for answer in nothing {
        assert_eq!((iou(&answer), hit(&answer), giou(&answer)), (0.0, 0.0, -1.0), "{answer}");
    }
}

#[test]
fn boxes_in_any_image() {
    let any = |measure, answer: &str| score(&object(measure, CountedOn::Any), answer);
    for answer in [say(1, WHOLE), say(2, WHOLE), say(7, WHOLE), "[5, 20, 15, 60]".into()] {
        let found = any(BoxMeasure::Iou, &answer);
        let right = f32::from(u8::from(answer.starts_with(r#"{"image": 2"#)));
        // What is logged is about the right image all the same.
        assert_eq!((found.value, found.part("iou"), found.part("image")), (1.0, right, right), "{answer}");
        assert_eq!(found.part("accuracy"), right);
    }
    assert_eq!(any(BoxMeasure::Giou, "none").value, -1.0);
}

#[test]
fn images_are_right_or_not_whatever_the_box() {
    let image = |answer: &str| score(&GroundingImage {}, answer).value;
    let right = [say(2, AWAY), say(2, [9.0, 9.0, 1.0, 1.0]), r#"{"image": 2}"#.into(), r#"[{"image": 2}]"#.into()];
    right.iter().for_each(|answer| assert_eq!(image(answer), 1.0, "{answer}"));
    let wrong = [say(1, WHOLE), "[5, 20, 15, 60]".into(), "2".into(), r#"{"image": "2"}"#.into(), String::new()];
    wrong.iter().for_each(|answer| assert_eq!(image(answer), 0.0, "{answer}"));
    // The only image of a sample need not be named, but a box must be given.
    let mut alone = play_for(r#"{"bbox_2d": [10, 10, 30, 30]}"#, &["<answer>[10, 10, 30, 30]</answer>".to_owned()]);
    let graded = |alone: &Trajectory| GroundingImage {}.score(&alone.sample, alone).value;
    assert_eq!((graded(&alone), GroundingObject::default().score(&alone.sample, &alone).value), (1.0, 1.0));
    alone.answer = Some("the car".into());
    assert_eq!(graded(&alone), 0.0);
}

#[test]
fn parts_frames_and_sums() {
    let half = score(&object(BoxMeasure::Giou, CountedOn::Right), &say(2, HALF));
    let parts = ["accuracy", "iou", "image", "format", "tool"].map(|name| half.part(name));
    assert_eq!(parts, [1.0, 0.5, 1.0, 1.0, 0.0]);
    let strict = GroundingObject { threshold: 0.6, ..GroundingObject::default() };
    assert_eq!(score(&strict, &say(2, HALF)).part("accuracy"), 0.0);
    let unit = GroundingObject { frame: BoxFrame::Unit, ..GroundingObject::default() };
    let corners = GOLD.map(|edge| edge / 56.0);
    assert!((score(&unit, &say(2, corners)).value - 1.0).abs() < 1e-6);
    let both = Sum {
        offset: 0.0,
        terms: vec![
            Term::new(1.0, GroundingObject::default()),
            Term::new(0.5, GroundingImage {}),
            Term::new(0.25, Format {}),
        ],
    };
    assert_eq!([say(2, HALF), say(2, AWAY), say(1, WHOLE)].map(|a| score(&both, &a).value), [1.25, 0.75, 0.25]);
}

#[test]
fn samples_without_a_gold_box_are_skipped() {
    let trajectory = play_for("the car", &["<answer>[0, 0, 9, 9]</answer>".to_owned()]);
    for reward in [&GroundingObject::default() as &dyn Reward, &GroundingImage {}] {
        let skip = reward.score(&trajectory.sample, &trajectory).skip.unwrap();
        assert_eq!(skip, "sample a: the gold answer \"the car\" is not a box on an image");
    }
}

fn group(answers: &[String]) -> Vec<Trajectory> {
    answers.iter().map(|answer| answered(true, answer)).collect()
}

#[test]
fn hard_groups_weigh_more() {
    let reward = GroundingObject { difficulty: true, ..GroundingObject::default() };
    let members = group(&[say(2, WHOLE), say(2, HALF), say(1, WHOLE), say(2, AWAY)]);
    let scores = reward.score_group(&members[0].sample, &members);
    let weight = (1.0f64 - 1.5 / 4.0).exp() as f32;
    for score in &scores {
        assert_eq!((score.weight, score.part("difficulty")), (weight, weight));
    }
    assert_eq!(scores.iter().map(|score| score.value).collect::<Vec<_>>(), [1.0, 0.5, 0.0, 0.0]);
    let off = GroundingObject::default().score_group(&members[0].sample, &members);
    assert!(off.iter().all(|score| score.weight == 1.0 && !score.parts.contains_key("difficulty")));
    // By itself a trajectory has no group; within a sum the weight is kept, and a skip has none.
    assert_eq!(reward.score(&members[0].sample, &members[0]).weight, 1.0);
    let sum = Sum { offset: 0.0, terms: vec![Term::new(1.0, reward), Term::new(0.5, GroundingImage {})] };
    assert!(sum.score_group(&members[0].sample, &members).iter().all(|score| score.weight == weight));
    let graded = Group::grade(Arc::clone(&members[0].sample), members, &reward);
    assert!(graded.members.iter().all(|member| member.score.weight == weight));
    let skipped = play_for("the car", &["<answer>1</answer>".to_owned()]);
    let score = &reward.score_group(&skipped.sample, std::slice::from_ref(&skipped))[0];
    assert!(score.skip.is_some() && score.weight == 1.0);
}

fn any_answer() -> impl Strategy<Value = String> {
    let corners = prop::array::uniform4(-20.0f64..140.0);
    prop_oneof![
        (0usize..4, corners).prop_map(|(image, corners)| say(image, corners)),
        "[\\[\\]{}(),:\"0-9a-z. -]{0,40}",
        Just(String::new()),
    ]
}

proptest! {
    #[test]
    fn rewards_keep_their_bounds_and_agree(answer in any_answer(), threshold in 0.01f64..1.0) {
        let of = |measure, counted_on| score(&GroundingObject { threshold, ..object(measure, counted_on) }, &answer);
        for counted_on in [CountedOn::Right, CountedOn::Any] {
            let [iou, hit, giou] = [BoxMeasure::Iou, BoxMeasure::Threshold, BoxMeasure::Giou].map(|m| of(m, counted_on));
            prop_assert!((0.0..=1.0).contains(&iou.value) && (-1.0..=1.0).contains(&giou.value));
            prop_assert!(giou.value <= iou.value + 1e-6);
            prop_assert!(hit.value == 0.0 || f64::from(iou.value) >= threshold - 1e-6);
            prop_assert_eq!(iou.part("accuracy"), giou.part("accuracy"));
        }
        let (right, any) = (of(BoxMeasure::Iou, CountedOn::Right), of(BoxMeasure::Iou, CountedOn::Any));
        prop_assert_eq!(right.value, right.part("iou"));
        prop_assert!(any.value >= right.value);
        let image = score(&GroundingImage {}, &answer).value;
        prop_assert_eq!(image, right.part("image"));
        prop_assert!(image == 1.0 || right.value == 0.0);
    }

    #[test]
    fn a_better_box_is_worth_more(shift in 0.0f64..10.0, more in 0.01f64..5.0) {
        let at = |by: f64| BBox::<Original>::new(10.0 + by, 10.0, 30.0 + by, 30.0);
        let gold = at(0.0);
        prop_assert!(at(shift).iou(gold) > at(shift + more).iou(gold));
        prop_assert!(at(shift).giou(gold) > at(shift + more).giou(gold));
    }

    #[test]
    fn the_weight_is_within_1_and_e(answers in prop::collection::vec(any_answer(), 1..6)) {
        let reward = GroundingObject { difficulty: true, ..GroundingObject::default() };
        let members = group(&answers);
        let scores = reward.score_group(&members[0].sample, &members);
        let weight = scores[0].weight;
        prop_assert!((1.0..=std::f32::consts::E + 1e-6).contains(&weight));
        prop_assert!(scores.iter().all(|score| score.weight == weight));
    }
}
