//! The masks on episodes as they are: repeated calls, first turns, and compositions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Crop, answer, crop, sample};
use imagent_algorithms::{FirstTurnsMask, Masked, RepeatedCallMask, TrainSettings};
use imagent_core::testing::FakePolicy;
use imagent_core::{EndReason, Limits, Mask, MaskSet, Origin, Trajectory, rollout};

/// The trajectory of these turns.
fn play(turns: Vec<String>) -> Trajectory {
    let mut policy = FakePolicy::new(move |_, turn| turns[turn].clone());
    let limits = Limits { max_turns: 9, max_new_tokens: 200, ..Limits::default() };
    let request = TrainSettings { group_size: 1, limits, ..TrainSettings::default() }.request(0);
    let groups = rollout(&mut policy, &Crop {}, &[sample("a", "", None, None)], &request).unwrap();
    groups.into_iter().flatten().next().unwrap()
}

fn weights(mask: &(impl MaskSet + ?Sized), trajectory: &Trajectory) -> Vec<f32> {
    let mut weights = vec![1.0; trajectory.ids.len()];
    mask.apply_all(trajectory, &mut weights);
    weights
}

/// Which turns have weight; every turn has it on all its tokens or on none.
fn trained(mask: &(impl MaskSet + ?Sized), trajectory: &Trajectory) -> Vec<usize> {
    let weights = weights(mask, trajectory);
    let kept = |tokens: &std::ops::Range<usize>| {
        let kept = weights[tokens.start] == 1.0;
        assert!(weights[tokens.clone()].iter().all(|&weight| weight == f32::from(u8::from(kept))));
        kept
    };
    (0..trajectory.turns.len()).filter(|&turn| kept(&trajectory.turns[turn].tokens)).collect()
}

fn read(json: &str) -> Box<dyn Mask> {
    serde_json::from_str(json).unwrap()
}

const LEFT: [f64; 4] = [5.0, 5.0, 25.0, 25.0];
const RIGHT: [f64; 4] = [30.0, 5.0, 50.0, 25.0];

#[test]
fn a_call_made_before_is_masked_and_the_first_is_not() {
    let bad = "<tool_call>{</tool_call>".to_owned();
    let other = crop(1, LEFT);
    let trajectory =
        play(vec![crop(2, LEFT), crop(2, RIGHT), crop(2, LEFT), bad.clone(), bad, other, crop(2, LEFT), answer("7")]);
    assert_eq!((trajectory.turns.len(), trajectory.end), (8, EndReason::Answered));
    let mask = RepeatedCallMask::default();
    assert_eq!(trained(&mask, &trajectory), [0, 1, 3, 4, 5, 7]);
    assert!(mask.in_baseline(&trajectory));
    let observed = |i: usize| trajectory.origins[i] == Origin::Observation;
    assert!((0..trajectory.ids.len()).filter(|&i| observed(i)).all(|i| weights(&mask, &trajectory)[i] == 1.0));

    let whole = RepeatedCallMask { masked: Masked::Trajectory, in_baseline: false };
    assert!(weights(&whole, &trajectory).iter().all(|&weight| weight == 0.0));
    assert!(!whole.in_baseline(&trajectory));
    let once = play(vec![crop(2, LEFT), crop(2, RIGHT), answer("7")]);
    assert!(weights(&whole, &once).iter().all(|&weight| weight == 1.0) && whole.in_baseline(&once));
}

#[test]
fn after_the_first_turns_nothing_counts() {
    let trajectory = play(vec![crop(2, LEFT), crop(2, RIGHT), answer("7")]);
    for turns in 1..=4 {
        let mask = FirstTurnsMask { turns };
        assert_eq!(trained(&mask, &trajectory), (0..turns.min(3)).collect::<Vec<_>>());
        let end = trajectory.turns[turns.min(3) - 1].tokens.end;
        let want = (0..trajectory.ids.len()).map(|i| f32::from(u8::from(i < end || turns >= 3)));
        assert_eq!(weights(&mask, &trajectory), want.collect::<Vec<_>>());
    }
}

#[test]
fn compositions_follow_the_laws_of_sets() {
    let repeated = vec![crop(2, LEFT), crop(2, LEFT), crop(2, RIGHT), answer("7")];
    let cut = vec![crop(2, LEFT), crop(2, LEFT), "hm".to_owned()];
    let (a, b, c) = (
        r#"{"type": "first_turns", "turns": 2}"#,
        r#"{"type": "repeated_call", "masked": "trajectory", "in_baseline": false}"#,
        r#"{"type": "trajectory", "in_baseline": false}"#,
    );
    let not = |mask: &str| format!(r#"{{"type": "not", "mask": {mask}}}"#);
    let of = |kind: &str, masks: &[&str]| format!(r#"{{"type": "{kind}", "masks": [{}]}}"#, masks.join(", "));
    for turns in [repeated, cut, vec![answer("7")]] {
        let trajectory = play(turns);
        let of_json = |json: &str| weights(&vec![read(json)], &trajectory);
        for (x, y) in [(a, b), (a, c), (b, c), (a, a)] {
            // A list is a product, and so is `all`.
            let list: Vec<Box<dyn Mask>> = vec![read(x), read(y)];
            assert_eq!(of_json(&of("all", &[x, y])), weights(&list, &trajectory));
            // De Morgan.
            let (left, right) = (not(&of("any", &[x, y])), of("all", &[&not(x), &not(y)]));
            assert_eq!(of_json(&left), of_json(&right));
            assert_eq!(of_json(&of("any", &[x, y])), of_json(&not(&of("all", &[&not(x), &not(y)]))));
            assert_eq!(of_json(&of("any", &[x])), of_json(x));
            assert_eq!(of_json(&not(&not(x))), of_json(x));
            let (one, other) = (read(x).in_baseline(&trajectory), read(y).in_baseline(&trajectory));
            assert_eq!(read(&of("any", &[x, y])).in_baseline(&trajectory), one || other);
            assert_eq!(read(&of("all", &[x, y])).in_baseline(&trajectory), one && other);
            assert!(read(&not(x)).in_baseline(&trajectory));
        }
        assert!(of_json(&of("all", &[])).iter().all(|&weight| weight == 1.0));
        assert!(of_json(&of("any", &[])).iter().all(|&weight| weight == 0.0));
    }
}
