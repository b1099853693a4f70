//! Graders on texts that models write, and on those that are meant to fool them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::play_for;
use imagent_core::{BBox, BoxFrame, Gold, Trajectory};
use imagent_rewards::Grader;
use proptest::prelude::*;

#[track_caller]
fn equal(grader: Grader, gold: &str, right: &[&str], wrong: &[&str]) {
    right.iter().for_each(|answer| assert_eq!(grader.equal(gold, answer), Some(true), "{answer:?} for {gold:?}"));
    wrong.iter().for_each(|answer| assert_eq!(grader.equal(gold, answer), Some(false), "{answer:?} for {gold:?}"));
}

#[test]
fn letters_of_choices() {
    let right = [
        "A",
        "a",
        "A.",
        "(A)",
        " A\n",
        "A)",
        "A. a red car",
        "A) a car",
        "(a) a car",
        "A: a car",
        "The answer is (A).",
    ];
    let wrong =
        ["A or B", "A, B", "A B", "AB", "A.\tB", "A) B)", "Option A", "a car", "", "Α", "-A", "the answer is B"];
    equal(Grader::Choice {}, "(A)", &right, &wrong);
    equal(Grader::Choice {}, "B. a car", &["B", "b. A car"], &["A. B", "A. a car"]);
    equal(Grader::Choice {}, "B. vitamin C", &["B. Vitamin C", "(b)"], &["B. vitamin D", "vitamin C", "C"]);
}

#[test]
fn choices_by_text_where_the_options_are_known() {
    let graded = |gold: &str, options: serde_json::Value, answer: &str| {
        let trajectory = answered(gold, answer);
        let mut sample = (*trajectory.sample).clone();
        sample.meta.insert("options".into(), options);
        Grader::Choice {}.grade(&sample, &trajectory)
    };
    let options = serde_json::json!(["a car", "a bus", "a car park"]);
    for gold in ["A", "a car", "A. a car"] {
        for (answer, grade) in
            [("A car.", 1.0), ("a", 1.0), ("(A) a car", 1.0), ("a bus", 0.0), ("A. a bus", 0.0), ("D", 0.0)]
        {
            assert_eq!(graded(gold, options.clone(), answer), Ok(grade), "{answer:?} for {gold:?}");
        }
    }
    assert!(graded("D", options, "D").is_err(), "there is no fourth option");
    for odd in [serde_json::json!("A"), serde_json::json!([1, 2]), serde_json::json!([])] {
        assert_eq!(graded("A", odd, "a"), Ok(1.0), "options of another form are not known");
    }
}

#[test]
fn numbers_with_signs_units_and_separators() {
    let plain = Grader::Number { tolerance: 1e-6, relative: 0.0 };
    equal(
        plain,
        "1,234.5",
        &["1234.5", "+1,234.50", "1.2345e3", "123450%"],
        &["1.234,5", "1 234.5", "1234.5 km", "$1234.5"],
    );
    equal(plain, "-3", &["−3", "-3.0", "-3."], &["3", "--3", "–3", "(3)"]);
    equal(
        plain,
        "0",
        &["0", "-0", "0.0000001", "0%"],
        &["", "zero", "nan", "NaN", "inf", "-inf", "infinity", "1e999", "0/1"],
    );
    equal(plain, "7", &["7", "7."], &["7 or 8", "7, 8", "7 8", "6 7", "7 cm", "about 7", "٧", "７", "0x7", "seven"]);
    let relative = Grader::Number { tolerance: 0.0, relative: 0.05 };
    equal(relative, "-200", &["-195", "-205", "-190.1"], &["-189", "-211", "200", "0"]);
    let both = Grader::Number { tolerance: 0.5, relative: 0.01 };
    equal(both, "10", &["10.4", "9.6"], &["10.6"]);
    equal(both, "1000", &["1009", "991"], &["1011"]);
    for gold in ["nan", "inf", "", "7 cm", "A"] {
        assert_eq!(plain.equal(gold, gold), None, "{gold}");
    }
}

#[test]
fn sets_in_any_order() {
    let right = ["blue, red", "red and blue.", "[\"Red\", \"blue\"]", "{red, blue}", "red; blue; red", "red\nblue"];
    let wrong =
        ["red", "red, blue, green", "red or blue", "red blue", "redblue", "", "red, bluer", "the set is red, blue"];
    equal(Grader::Set { partial: false }, "Red, blue", &right, &wrong);
    let shares = |answer: &str| {
        let trajectory = answered("a, b, c", answer);
        Grader::Set { partial: true }.grade(&trajectory.sample, &trajectory).unwrap()
    };
    assert_eq!((shares("c, b, a"), shares("a"), shares("x"), shares("a, b, c, d, e, f")), (1.0, 0.5, 0.0, 6.0 / 9.0));
    assert_eq!(Grader::Set { partial: true }.equal(" , ", "a"), None);
}

fn answered(gold: &str, answer: &str) -> Trajectory {
    play_for(gold, &[format!("<answer>{answer}</answer>")])
}

/// An answer graded against gold regions of a sample of two images of 56 × 56 pixels.
fn graded(grader: Grader, gold: &[(usize, [f64; 4])], text: &str, answer: &str) -> Option<f64> {
    let mut trajectory = answered(text, answer);
    let mut sample = (*trajectory.sample).clone();
    sample.images.push(Arc::clone(&sample.images[0]));
    sample.gold = gold.iter().map(|&(image, bbox)| Gold { image, bbox: BBox::from(bbox) }).collect();
    trajectory.shelf.push(Arc::clone(&sample.images[0]), imagent_core::Size::new(28, 112), None);
    grader.grade(&sample, &trajectory).ok()
}

const IOU: Grader =
    Grader::Box { threshold: 0.5, partial: true, frame: BoxFrame::Shown, gold_frame: BoxFrame::Original };
const HIT: Grader =
    Grader::Box { threshold: 0.5, partial: false, frame: BoxFrame::Shown, gold_frame: BoxFrame::Original };

#[test]
fn boxes_that_overlap() {
    let one = &[(1, [10.0, 10.0, 30.0, 30.0])][..];
    assert_eq!(graded(IOU, one, "the car", "[10, 10, 30, 30]"), Some(1.0));
    assert_eq!(graded(IOU, one, "the car", "(10,10),(30,20)"), Some(0.5));
    assert_eq!(graded(HIT, one, "the car", r#"{"bbox_2d": [10, 10, 30, 20]}"#), Some(1.0));
    assert_eq!(graded(HIT, one, "the car", "[10, 10, 30, 19.9]"), Some(0.0));
    assert_eq!(graded(IOU, one, "the car", "[40, 40, 50, 50]"), Some(0.0));
    for no_box in ["the car", "", "[30, 10, 10, 30]", "[10, 10, 30, 30] and [0, 0, 5, 5]", "[0, 0, NaN, 5]"] {
        assert_eq!(graded(IOU, one, "the car", no_box), Some(0.0), "{no_box}");
    }
    // Image 2 is shown at half its width and twice its height.
    let second = &[(2, [10.0, 10.0, 30.0, 30.0])][..];
    assert_eq!(graded(IOU, second, "the car", "[5, 20, 15, 60]"), Some(1.0));
    assert_eq!(graded(IOU, second, "the car", r#"{"image": 2, "bbox_2d": [5, 20, 15, 60]}"#), Some(1.0));
    assert_eq!(graded(IOU, second, "the car", r#"{"image": 1, "bbox_2d": [5, 20, 15, 60]}"#), Some(0.0));
    // Of several gold regions the nearest counts.
    let both = [one, second].concat();
    assert_eq!(graded(IOU, &both, "the car", "[10, 10, 30, 30]"), Some(1.0));
}

#[test]
fn the_gold_box_is_the_answer_or_a_region() {
    assert_eq!(graded(IOU, &[], "[0, 0, 56, 28]", "[0, 0, 56, 28]"), Some(1.0));
    assert_eq!(graded(IOU, &[], r#"{"image": 2, "bbox_2d": [0, 0, 56, 28]}"#, "[0, 0, 28, 56]"), Some(1.0));
    assert_eq!(graded(IOU, &[(1, [0.0, 0.0, 9.0, 9.0])], "[0, 0, 56, 28]", "[0, 0, 56, 28]"), Some(1.0));
    let unit = Grader::Box { threshold: 0.5, partial: true, frame: BoxFrame::Relative1000, gold_frame: BoxFrame::Unit };
    assert_eq!(graded(unit, &[], "[0, 0, 1, 0.5]", "(0,0),(1000,500)"), Some(1.0));
    for none in
        [graded(IOU, &[], "the car", "[0, 0, 1, 1]"), graded(IOU, &[], "{\"image\": 9, \"bbox_2d\": [0, 0, 9, 9]}", "")]
    {
        assert_eq!(none, None);
    }
    let trajectory = answered("the car", "[0, 0, 1, 1]");
    let error = HIT.grade(&trajectory.sample, &trajectory).unwrap_err();
    assert_eq!(error.to_string(), "sample a: the gold answer \"the car\" is not a box on an image");
}

#[test]
fn no_answer_is_worth_nothing() {
    let trajectory = play_for("[0, 0, 9, 9]", &["[0, 0, 9, 9]".to_owned()]);
    for grader in [IOU, HIT, Grader::Set { partial: true }] {
        assert_eq!(grader.grade(&trajectory.sample, &trajectory).unwrap(), 0.0);
    }
}

#[test]
fn a_sample_may_say_how_it_is_graded() {
    let with = |kind: Option<&str>, gold: &str, answer: &str| {
        let trajectory = answered(gold, answer);
        let mut sample = (*trajectory.sample).clone();
        sample.meta.extend(kind.map(|kind| ("answer_kind".to_owned(), kind.into())));
        Grader::Sample {}.grade(&sample, &trajectory).map_err(|error| error.to_string())
    };
    assert_eq!(with(Some("choice"), "B", "(B)"), Ok(1.0));
    assert_eq!(with(Some("text"), "B", "(B)"), Ok(0.0));
    assert_eq!(with(None, "a cup", "A cup."), Ok(1.0));
    assert_eq!(with(Some("box"), "[0, 0, 20, 10]", "[0, 0, 20, 9]"), Ok(1.0));
    assert_eq!(with(Some("box"), "[0, 0, 20, 10]", "[0, 0, 9, 9]"), Ok(0.0));
    let named = r#"{"image": 1, "bbox_2d": [0, 0, 20, 10]}"#;
    assert_eq!(with(None, named, &named.replace(' ', "").replace("20", "19")), Ok(1.0), "a box with its image is one");
    assert_eq!(with(None, "[0, 0, 20, 10]", "[0, 0, 19, 10]"), Ok(0.0), "a list may be just that");
    assert!(with(Some("choice"), "a cup", "B").unwrap_err().contains("not a letter of a choice"));
}

proptest! {
    #[test]
    fn any_answer_has_a_grade_from_0_to_1(answer in "[\\[\\]{}(),;:\"0-9a-z. \\n−-]{0,40}", threshold in 0.01f64..1.0) {
        let grade = |partial| {
            let grader = Grader::Box { threshold, partial, frame: BoxFrame::Shown, gold_frame: BoxFrame::Original };
            graded(grader, &[(1, [5.0, 5.0, 30.0, 30.0])], "the car", &answer).unwrap()
        };
        prop_assert!((0.0..=1.0).contains(&grade(true)));
        prop_assert_eq!(grade(false) == 1.0, grade(true) >= threshold);
        let trajectory = answered("a, b", &answer);
        let set = |partial| Grader::Set { partial }.grade(&trajectory.sample, &trajectory).unwrap();
        prop_assert!((0.0..=1.0).contains(&set(true)));
        prop_assert_eq!(set(false) == 1.0, set(true) == 1.0);
    }

    #[test]
    fn a_box_is_read_in_every_form(corners in prop::array::uniform4(0u32..28)) {
        let [x1, y1, w, h] = corners;
        let (x2, y2) = (x1 + w + 1, y1 + h + 1);
        let gold = [(1, [x1, y1, x2, y2].map(f64::from))];
        for answer in [
            format!("[{x1}, {y1}, {x2}, {y2}]"),
            format!("({x1},{y1}),({x2},{y2})"),
            format!("[{{\"bbox_2d\": [{x1}, {y1}, {x2}, {y2}], \"label\": \"car\"}}]"),
        ] {
            prop_assert_eq!(graded(IOU, &gold, "the car", &answer), Some(1.0));
        }
    }
}
