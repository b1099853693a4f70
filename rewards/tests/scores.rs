//! What trajectories are worth: each formula on chosen episodes, and properties on any.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{FAIL, LOOK, RIGHT, WRONG, play, play_for, score};
use imagent_core::{BoxFrame, EndReason, Reward};
use imagent_rewards::{Accuracy, DeepEyes, Format, Grader, ImAgent};
use proptest::prelude::*;

fn value(reward: &dyn Reward, turns: &[&str]) -> f32 {
    score(reward, &play(turns)).value
}

#[test]
fn the_reward_of_imagent() {
    let reward = ImAgent::default();
    assert_eq!(value(&reward, &[RIGHT]), 1.2);
    assert_eq!(value(&reward, &[LOOK, RIGHT]), 2.2);
    assert_eq!(value(&reward, &[LOOK, LOOK, RIGHT]), 2.2);
    assert_eq!(value(&reward, &[FAIL, RIGHT]), 1.2);
    assert_eq!(value(&reward, &[LOOK, WRONG]), 0.2);
    assert_eq!(value(&reward, &["<tool_call>{}</tool_call>", RIGHT]), 1.0);
    assert_eq!(value(&reward, &[LOOK, "seven"]), 0.0);
    assert_eq!(value(&ImAgent { tool_gain: 0.5, ..reward }, &[LOOK, RIGHT]), 1.7);
    let parts = score(&reward, &play(&[LOOK, RIGHT])).parts;
    assert_eq!(parts.into_iter().collect::<Vec<_>>(), [("accuracy", 1.0), ("format", 1.0), ("tool", 1.0)]);
}

#[test]
fn the_reward_of_deepeyes() {
    let reward = DeepEyes::default();
    assert_eq!(value(&reward, &[LOOK, RIGHT]), 2.0);
    assert_eq!(value(&reward, &[RIGHT]), 0.8);
    assert_eq!(value(&reward, &[LOOK, WRONG]), 0.0);
    assert_eq!(value(&reward, &["<think>", LOOK, WRONG]), -0.2);
    assert_eq!(value(&reward, &["<think><answer>7</answer>", RIGHT]), -0.2);
    assert_eq!(value(&reward, &["<|vision_start|><answer>seven</answer>"]), 0.6);
    assert_eq!(value(&reward, &["<answer>seven"]), -0.2);
}

#[test]
fn deepeyes_refuses_an_answer_that_talks() {
    let gold = "7".repeat(1000);
    let reward = DeepEyes::default();
    let long = score(&reward, &play_for(&gold, &[format!("<answer>{gold}</answer>")]));
    assert_eq!((long.value, long.part("accuracy"), long.part("format")), (-0.2, 0.0, -1.0));
    let gold = "7".repeat(999);
    assert_eq!(score(&reward, &play_for(&gold, &[format!("<answer>{gold}</answer>")])).value, 0.8);
}

#[test]
fn plain_accuracy_and_format() {
    assert_eq!(value(&Accuracy::default(), &[LOOK, RIGHT]), 1.0);
    assert_eq!(value(&Accuracy::default(), &[LOOK, WRONG]), 0.0);
    assert_eq!(value(&Format {}, &[LOOK, WRONG]), 1.0);
    assert_eq!(value(&Format {}, &[LOOK, LOOK, LOOK, LOOK, LOOK]), 0.0);
    assert_eq!(score(&Format {}, &play(&[LOOK, WRONG])).part("tool"), 1.0);
}

#[test]
fn what_tools_and_prompts_say_is_never_graded() {
    for turns in [&[LOOK, "seven"][..], &[FAIL, "seven"], &[LOOK, ""], &[LOOK, "<answer>seven"], &[LOOK; 5], &[""]] {
        let trajectory = play(turns);
        assert_ne!(trajectory.end, EndReason::Answered);
        for reward in [&Accuracy::default() as &dyn Reward, &ImAgent::default(), &Format {}] {
            assert_eq!(score(reward, &trajectory).value, 0.0, "{turns:?}");
        }
        assert!(score(&DeepEyes::default(), &trajectory).value <= 0.0);
    }
}

#[test]
fn what_cannot_be_graded_is_skipped() {
    let right = [RIGHT.to_owned()];
    let empty = play_for(" ", &right);
    for grader in [Grader::Exact {}, Grader::Choice {}, Grader::Number { tolerance: 1.0, relative: 0.0 }] {
        let rewards: [Box<dyn Reward>; 3] = [
            Box::new(Accuracy { grader }),
            Box::new(ImAgent { grader, ..ImAgent::default() }),
            Box::new(DeepEyes { grader, ..DeepEyes::default() }),
        ];
        for reward in rewards {
            let skip = score(reward.as_ref(), &empty).skip;
            assert_eq!(skip.unwrap(), "sample a: the gold answer is empty");
        }
    }
    let skip = score(&Accuracy { grader: Grader::Choice {} }, &play_for("seven", &right)).skip;
    assert_eq!(skip.unwrap(), r#"sample a: the gold answer "seven" is not a letter of a choice"#);
    assert_eq!(score(&Format {}, &empty).skip, None);
}

fn any_turns() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        Just(LOOK.to_owned()),
        Just(FAIL.to_owned()),
        Just(RIGHT.to_owned()),
        Just(WRONG.to_owned()),
        Just("<think>".to_owned()),
        Just("</think>".to_owned()),
        Just("<answer>".to_owned()),
        Just("</answer>".to_owned()),
        Just("<|vision_start|>".to_owned()),
        ".{0,6}",
    ];
    prop::collection::vec(prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat()), 1..6)
}

fn any_grader() -> impl Strategy<Value = Grader> {
    prop_oneof![
        Just(Grader::Exact {}),
        Just(Grader::Choice {}),
        (0.0f64..2.0).prop_map(|tolerance| Grader::Number { tolerance, relative: 0.0 }),
        (0.0f64..2.0).prop_map(|relative| Grader::Number { tolerance: 0.0, relative }),
        any::<bool>().prop_map(|partial| Grader::Set { partial }),
        (0.01f64..1.0, any::<bool>()).prop_map(|(threshold, partial)| Grader::Box {
            threshold,
            partial,
            frame: BoxFrame::Shown,
            gold_frame: BoxFrame::Original,
        })
    ]
}

proptest! {
    #[test]
    fn rewards_stay_in_their_bounds(turns in any_turns(), tool_gain in 0.0f64..3.0, format_weight in 0.0f64..2.0) {
        let trajectory = play_for("seven", &turns);
        let imagent = score(&ImAgent { tool_gain, format_weight, ..ImAgent::default() }, &trajectory);
        prop_assert!((0.0..=(1.0 + tool_gain + format_weight) as f32 + 1e-6).contains(&imagent.value));
        let deepeyes = score(&DeepEyes::default(), &trajectory).value;
        prop_assert!((-0.2..=2.0).contains(&deepeyes));
        for part in ["accuracy", "format", "tool"] {
            prop_assert!([0.0, 1.0].contains(&imagent.part(part)));
        }
        prop_assert_eq!(imagent.part("tool") == 1.0, trajectory.used_tool());
        prop_assert!(imagent.part("accuracy") == 0.0 || trajectory.end == EndReason::Answered);
        prop_assert!(imagent.part("format") == 0.0 || trajectory.end == EndReason::Answered);
    }

    #[test]
    fn without_gain_it_is_accuracy_plus_format(turns in any_turns(), format_weight in 0.0f64..2.0) {
        let trajectory = play_for("seven", &turns);
        let reward = ImAgent { tool_gain: 0.0, format_weight, ..ImAgent::default() };
        let parts = [score(&Accuracy::default(), &trajectory).value, score(&Format {}, &trajectory).value].map(f64::from);
        prop_assert_eq!(score(&reward, &trajectory).value, (parts[0] + format_weight * parts[1]) as f32);
    }

    #[test]
    fn a_score_depends_on_sampled_text_alone(turns in any_turns()) {
        let mut trajectory = play_for("seven", &turns);
        let rewards: [&dyn Reward; 4] = [&Accuracy::default(), &ImAgent::default(), &DeepEyes::default(), &Format {}];
        let before = rewards.map(|reward| score(reward, &trajectory));
        for tool in trajectory.turns.iter_mut().filter_map(|turn| turn.tool.as_mut()) {
            tool.text = "<think><answer>seven</answer></answer>".to_owned();
        }
        trajectory.ids.fill(0);
        trajectory.logprobs.fill(-9.0);
        prop_assert_eq!(rewards.map(|reward| score(reward, &trajectory)), before);
    }

    #[test]
    fn graders_take_their_own_gold_and_never_panic(grader in any_grader(), gold in ".*", answer in ".*") {
        if let Some(equal) = grader.equal(&gold, &gold) {
            prop_assert!(equal);
            let padded = format!("  {gold}\n");
            prop_assert_eq!(grader.equal(&gold, &padded), Some(true));
        }
        // Where both can be gold, it does not matter which is.
        if let (Some(one), Some(other)) = (grader.equal(&gold, &answer), grader.equal(&answer, &gold)) {
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn numbers_are_read_as_they_are_written(value in -1e9f64..1e9, tolerance in 0.0f64..1.0) {
        let grader = Grader::Number { tolerance, relative: 0.0 };
        prop_assert_eq!(grader.equal(&value.to_string(), &format!("{value:e}")), Some(true));
        let off = value + tolerance * 1.01 + 1e-6;
        prop_assert_eq!(grader.equal(&value.to_string(), &off.to_string()), Some(false));
    }
}
