//! Rewards that count turns and tokens, compare within a group, or are made of others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{FAIL, LOOK, RIGHT, WRONG, play, play_for, score};
use imagent_core::{Group, Reward, Score, Trajectory, score_group};
use imagent_rewards::{
    Accumulative, Accuracy, Counterfactual, Format, Grader, ImAgent, Length, LengthShape, Product, Sum, Term, ToolUse,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(json: Value) -> Box<dyn Reward> {
    serde_json::from_value(json).unwrap()
}

fn value(reward: &dyn Reward, turns: &[&str]) -> f32 {
    score(reward, &play(turns)).value
}

fn group_of(episodes: &[&[&str]]) -> Vec<Trajectory> {
    episodes.iter().map(|turns| play(turns)).collect()
}

fn values(reward: &dyn Reward, group: &[Trajectory]) -> Vec<f32> {
    reward.score_group(&group[0].sample, group).iter().map(|score| score.value).collect()
}

const BROKEN: &str = "<tool_call>{}</tool_call>";

#[test]
fn a_right_answer_gains_by_the_turn() {
    let plain = Accumulative::default();
    assert_eq!(value(&plain, &[RIGHT]), 1.0);
    assert_eq!(value(&plain, &[LOOK, RIGHT]), 1.1);
    assert_eq!(value(&plain, &[LOOK, LOOK, LOOK, RIGHT]), 1.3);
    assert_eq!(value(&plain, &[LOOK, FAIL, RIGHT]), 1.1);
    assert_eq!(value(&plain, &[LOOK, LOOK, WRONG]), 0.0);
    assert_eq!(value(&plain, &[BROKEN, LOOK, RIGHT]), 1.1);
    assert_eq!(score(&plain, &play(&[LOOK, LOOK, RIGHT])).part("tool_turns"), 2.0);
    assert_eq!(value(&Accumulative { max_turns: 1, ..plain }, &[LOOK, LOOK, RIGHT]), 1.1);
    let strict = Accumulative { needs_format: true, per_turn: 0.5, ..plain };
    assert_eq!((value(&strict, &[BROKEN, LOOK, RIGHT]), value(&strict, &[LOOK, RIGHT])), (0.0, 1.5));
    assert_eq!(value(&ToolUse {}, &[LOOK, WRONG]), 1.0);
    assert_eq!(value(&ToolUse {}, &[FAIL, RIGHT]), 0.0);
}

#[test]
fn a_tool_is_worth_what_it_gains_over_the_group() {
    let reward = Counterfactual::default();
    // Two of the three without a tool are right, the failed call among them: the baseline is 2/3.
    let group = group_of(&[&[RIGHT], &[WRONG], &[FAIL, RIGHT], &[LOOK, RIGHT], &[LOOK, WRONG]]);
    let third = 1.0f32 / 3.0;
    assert_eq!(values(&reward, &group), [1.0, 0.0, 1.0, 1.0 + third, -2.0 * third]);
    assert_eq!(values(&Counterfactual { gain: 0.0, ..reward }, &group), [1.0, 0.0, 1.0, 1.0, 0.0]);
    let scores = reward.score_group(&group[0].sample, &group);
    assert_eq!((scores[3].part("gain"), scores[0].part("gain"), scores[4].part("accuracy")), (third, 0.0, 0.0));
    // Nothing to compare with.
    assert_eq!(values(&reward, &group_of(&[&[LOOK, RIGHT], &[LOOK, WRONG]])), [1.0, 0.0]);
    assert_eq!(value(&reward, &[LOOK, RIGHT]), 1.0);
    // Never solved without, always solved without.
    assert_eq!(values(&reward, &group_of(&[&[WRONG], &[LOOK, RIGHT]])), [0.0, 2.0]);
    assert_eq!(values(&reward, &group_of(&[&[RIGHT], &[LOOK, RIGHT]])), [1.0, 1.0]);
    let ungraded = [play_for("", &[RIGHT.to_owned()])];
    assert!(reward.score_group(&ungraded[0].sample, &ungraded)[0].skip.is_some());
}

#[test]
fn groups_are_graded_together_static_or_dynamic() {
    let group = group_of(&[&[RIGHT], &[WRONG], &[LOOK, RIGHT]]);
    let sample = Arc::clone(&group[0].sample);
    let still = Group::grade(Arc::clone(&sample), group.clone(), &Counterfactual::default());
    let dynamic = Group::grade(sample, group, &*read(json!({"type": "counterfactual"})));
    let scores = |group: &Group| group.members.iter().map(|member| member.score.clone()).collect::<Vec<_>>();
    assert_eq!(scores(&still), scores(&dynamic));
    assert_eq!(scores(&still)[2].value, 1.5);
}

/// Gives the first trajectory a score and forgets the others.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Forgetful {}

#[typetag::serde(name = "test_forgetful")]
impl Reward for Forgetful {
    fn score(&self, _: &imagent_core::Sample, _: &Trajectory) -> Score {
        Score::new(7.0, [])
    }
    fn score_group(&self, sample: &imagent_core::Sample, group: &[Trajectory]) -> Vec<Score> {
        vec![self.score(sample, &group[0])]
    }
}

#[test]
fn a_trajectory_without_a_score_is_skipped() {
    let group = group_of(&[&[RIGHT], &[WRONG]]);
    let scores = score_group(&Forgetful {}, &group[0].sample, &group);
    assert_eq!((scores.len(), scores[0].value), (2, 7.0));
    assert_eq!(scores[1].skip.as_deref(), Some("the reward gave no score"));
    let graded = Group::grade(Arc::clone(&group[0].sample), group, &Forgetful {});
    assert_eq!((graded.members.len(), graded.skipped), (1, 1));
}

#[test]
fn length_counts_what_was_sampled() {
    let trajectory = play(&[LOOK, RIGHT]);
    // A token a byte, and the end of each turn; what the tool returned does not count.
    let n = LOOK.len() + RIGHT.len() + 2;
    assert_eq!(trajectory.sampled_len(), n);
    let length = |shape, tokens, slack| score(&Length { shape, tokens, slack }, &trajectory).value;
    assert_eq!(length(LengthShape::AtMost, n, 1), -1.0);
    assert_eq!(length(LengthShape::AtMost, n + 1, 1), 0.0);
    assert_eq!(length(LengthShape::AtMost, n + 5, 10), -0.5);
    assert_eq!(length(LengthShape::AtMost, 3, 100_000), -((n - 3) as f32 / 100_000.0 + 1.0).min(1.0));
    assert_eq!(length(LengthShape::Near, n, 10), 0.0);
    assert!(length(LengthShape::Near, n, 10).is_sign_positive());
    assert_eq!(length(LengthShape::Near, n + 4, 16), -0.25);
    assert_eq!(length(LengthShape::Near, n - 4, 16), -0.25);
    assert_eq!(length(LengthShape::Near, 0, 1), -1.0);
}

#[test]
fn sums_and_products_of_rewards() {
    let sum = read(json!({"type": "sum", "offset": 0.25, "terms": [
        {"weight": 2, "reward": {"type": "accuracy"}},
        {"weight": -0.5, "reward": {"type": "tool_use"}},
        {"reward": {"type": "format"}},
    ]}));
    assert_eq!(value(&*sum, &[LOOK, RIGHT]), 0.25 + 2.0 - 0.5 + 1.0);
    assert_eq!(value(&*sum, &[WRONG]), 0.25 + 1.0);
    let parts = score(&*sum, &play(&[LOOK, RIGHT])).parts;
    let expected =
        [("accuracy", 1.0), ("format", 1.0), ("term_1", 1.0), ("term_2", 1.0), ("term_3", 1.0), ("tool", 1.0)];
    assert_eq!(parts.into_iter().collect::<Vec<_>>(), expected);
    // The first that names a part has it; terms of a term are its own business.
    let nested = Sum {
        offset: 0.0,
        terms: vec![
            Term::new(1.0, Accuracy { grader: Grader::Set { partial: true } }),
            Term::new(3.0, Sum { terms: vec![Term::new(5.0, Accuracy::default())], offset: 0.0 }),
        ],
    };
    let score = score(&nested, &play_for("a, b", &["<answer>a</answer>".to_owned()]));
    let share = 2.0f32 / 3.0;
    assert_eq!((score.value, score.part("accuracy"), score.part("term_1")), (share, share, share));
    assert_eq!((score.part("term_2"), score.parts.get("term_3")), (0.0, None));
}

#[test]
fn what_one_term_cannot_grade_is_skipped() {
    let choice = Accuracy { grader: Grader::Choice {} };
    let terms = || vec![Term::new(1.0, Format {}), Term::new(0.0, choice), Term::new(1.0, Accuracy::default())];
    let sum = score(&Sum { offset: 0.0, terms: terms() }, &play(&[RIGHT]));
    assert_eq!(sum.skip.as_deref(), Some(r#"sample a: the gold answer "seven" is not a letter of a choice"#));
    let product = Product { factors: terms().into_iter().map(|term| term.reward).collect() };
    assert_eq!(score(&product, &play(&["no answer"])).skip, sum.skip);
}

#[test]
fn rewards_within_sums_and_products_see_the_group() {
    let group = group_of(&[&[WRONG], &[LOOK, RIGHT], &[LOOK, WRONG]]);
    let sum = read(json!({"type": "sum", "terms": [{"weight": 10, "reward": {"type": "product", "factors": [
        {"type": "counterfactual"}, {"type": "tool_use"},
    ]}}]}));
    assert_eq!(values(&*sum, &group), [0.0, 20.0, 0.0]);
    assert_eq!(value(&*sum, &[LOOK, RIGHT]), 10.0);
}

fn any_episode() -> impl Strategy<Value = Vec<&'static str>> {
    let end = prop::sample::select(vec![RIGHT, WRONG, "seven", "<answer>", BROKEN]);
    let calls = prop::collection::vec(prop::sample::select(vec![LOOK, FAIL, BROKEN]), 0..3);
    (calls, end).prop_map(|(calls, end)| calls.into_iter().chain([end]).collect())
}

proptest! {
    #[test]
    fn the_reward_of_imagent_is_a_sum_of_a_product(
        turns in any_episode(), gain in 0.0f64..3.0, format_weight in 0.0f64..1.0,
    ) {
        let whole = ImAgent { tool_gain: gain, format_weight, ..ImAgent::default() };
        let parts = read(json!({"type": "sum", "terms": [
            {"reward": {"type": "product", "factors": [
                {"type": "accuracy"},
                {"type": "sum", "offset": 1, "terms": [{"weight": gain, "reward": {"type": "tool_use"}}]},
            ]}},
            {"weight": format_weight, "reward": {"type": "format"}},
        ]}));
        prop_assert!((value(&whole, &turns) - value(&*parts, &turns)).abs() <= 1e-6);
    }

    /// Each by itself, or all together: the same, for all rewards that do not compare.
    #[test]
    fn only_what_compares_depends_on_the_group(episodes in prop::collection::vec(any_episode(), 1..5)) {
        let group: Vec<Trajectory> = episodes.iter().map(|turns| play(turns)).collect();
        for tag in imagent_rewards::PLUGINS.iter().filter(|tag| **tag != "counterfactual") {
            let reward = read(json!({"type": tag}));
            let alone: Vec<Score> = group.iter().map(|trajectory| score(&*reward, trajectory)).collect();
            prop_assert_eq!(reward.score_group(&group[0].sample, &group), alone, "{}", tag);
        }
    }

    #[test]
    fn the_gain_of_a_tool_stays_in_its_bounds(
        episodes in prop::collection::vec(any_episode(), 1..6), gain in 0.0f64..3.0,
    ) {
        let group: Vec<Trajectory> = episodes.iter().map(|turns| play(turns)).collect();
        let reward = Counterfactual { gain, ..Counterfactual::default() };
        for (trajectory, score) in group.iter().zip(reward.score_group(&group[0].sample, &group)) {
            prop_assert!((-gain as f32 - 1e-6..=(1.0 + gain) as f32 + 1e-6).contains(&score.value));
            prop_assert!(trajectory.used_tool() || score.value == score.part("accuracy"));
        }
    }

    #[test]
    fn a_length_costs_from_0_to_1(n in 0usize..5000, tokens in 0usize..3000, slack in 1usize..3000) {
        let at_most = Length { shape: LengthShape::AtMost, tokens, slack };
        let near = Length { shape: LengthShape::Near, ..at_most };
        for length in [at_most, near] {
            prop_assert!((-1.0..=0.0).contains(&length.penalty(n)));
        }
        prop_assert!(at_most.penalty(n + 1) <= at_most.penalty(n));
        prop_assert_eq!(near.penalty(tokens + slack), -1.0);
    }
}
