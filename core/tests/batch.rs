//! From trajectories to numbers: what is trained, with what weight, and in what shape.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

mod common;

use common::{Answered, Centre, Equal, Only, any_limits, any_script, record};
use imagent_core::testing::{FakePolicy, IMAGE, fake_sample};
use imagent_core::{
    Group, Limits, Mask, MaskSet, Origin, Policy, Reward, ScoredTrajectory, TokenScores, TrainBatch, TrainRow,
    Trajectory, Weights,
};
use proptest::prelude::*;

fn groups(trajectories: Vec<Trajectory>) -> Vec<Group> {
    let half = trajectories.len() / 2;
    let mut rest = trajectories;
    let second = rest.split_off(half);
    [rest, second].into_iter().map(|group| Group::grade(group[0].sample.clone(), group, &Equal {})).collect()
}

fn any_mask() -> impl Strategy<Value = Only> {
    prop::sample::subsequence(vec![Origin::Prompt, Origin::Sampled, Origin::Observation], 0..=3)
        .prop_map(|on| Only { on })
}

fn bits(rows: &[TrainRow]) -> Vec<(usize, u32, Vec<usize>, Vec<u32>)> {
    let weights = |row: &TrainRow| row.loss_mask.iter().map(|weight| weight.to_bits()).collect();
    rows.iter().map(|row| (row.group, row.advantage.to_bits(), row.positions.clone(), weights(row))).collect()
}

proptest! {
    #[test]
    fn only_sampled_and_unmasked_observed_tokens_are_trained(
        script in any_script(),
        limits in any_limits(),
        mask in any_mask(),
    ) {
        let batch = TrainBatch::new(groups(record(script, limits).0), &Centre {}, &mask);
        for row in &batch.rows {
            let t = &row.scored.trajectory;
            prop_assert_eq!(row.positions.len(), row.loss_mask.len());
            prop_assert!(row.positions.windows(2).all(|pair| pair[0] < pair[1]));
            for (&i, &weight) in row.positions.iter().zip(&row.loss_mask) {
                prop_assert!(i >= t.prompt_len && i > 0);
                prop_assert!(t.ids[i] != IMAGE);
                prop_assert_eq!(weight, f32::from(u8::from(mask.on.contains(&t.origins[i]))));
            }
            let sampled: Vec<usize> =
                row.positions.iter().copied().filter(|&i| t.origins[i] == Origin::Sampled).collect();
            prop_assert_eq!(sampled, t.sampled().collect::<Vec<_>>());
            let observed = row.positions.iter().any(|&i| t.origins[i] == Origin::Observation);
            prop_assert!(!observed || mask.on.contains(&Origin::Observation));
            // What was sampled keeps its log-probability to the bit; what was not has to be scored first.
            let expected = (!observed).then(|| row.positions.iter().map(|&i| t.logprobs[i]).collect::<Vec<_>>());
            prop_assert_eq!(&row.old_logprobs, &expected);
        }
    }

    #[test]
    fn static_and_dynamic_masks_agree_to_the_bit(script in any_script(), limits in any_limits(), mask in any_mask()) {
        let trajectories = record(script, limits).0;
        let boxed: Vec<Box<dyn Mask>> = vec![Box::new(mask.clone()), Box::new(Answered {})];
        let json = serde_json::to_string(&boxed).unwrap();
        let read: Vec<Box<dyn Mask>> = serde_json::from_str(&json).unwrap();
        let still = TrainBatch::new(groups(trajectories.clone()), &Centre {}, &(mask.clone(), Answered {}));
        prop_assert_eq!(bits(&still.rows), bits(&TrainBatch::new(groups(trajectories.clone()), &Centre {}, &boxed).rows));
        prop_assert_eq!(bits(&still.rows), bits(&TrainBatch::new(groups(trajectories.clone()), &Centre {}, &read).rows));
        let nested = TrainBatch::new(groups(trajectories), &Centre {}, &((), (mask,), (Answered {}, ())));
        prop_assert_eq!(bits(&still.rows), bits(&nested.rows));
    }

    #[test]
    fn the_numbers_of_a_batch_have_one_shape(
        script in any_script(), limits in any_limits(), mask in any_mask(), reference in any::<bool>(),
    ) {
        let mut rows = TrainBatch::new(groups(record(script, limits).0), &Centre {}, &mask).rows;
        let policy = FakePolicy::new(|_, _| String::new());
        let score_rows: Vec<_> = rows.iter().map(TrainRow::score_row).collect();
        let mut scores = policy.score(&score_rows, 1.0, Weights::Current).unwrap();
        scores.logprobs.iter_mut().enumerate().for_each(|(i, logprob)| *logprob -= i as f32);
        if reference {
            rows.iter_mut().for_each(|row| row.ref_logprobs = Some(vec![-2.0; row.positions.len()]));
        }
        let batch = TrainBatch::tokens(&rows, &scores);
        prop_assert_eq!(batch.rows(), rows.len());
        prop_assert_eq!((batch.offsets[0], *batch.offsets.last().unwrap()), (0, batch.len()));
        prop_assert_eq!((batch.advantages.len(), batch.groups.len()), (rows.len(), rows.len()));
        let lengths = [&batch.logprobs, &batch.old_logprobs, &batch.entropies, &batch.loss_mask].map(Vec::len);
        prop_assert_eq!(lengths, [batch.len(); 4]);
        prop_assert_eq!(batch.ref_logprobs.as_ref().map(Vec::len), (reference || rows.is_empty()).then_some(batch.len()));
        for (i, row) in rows.iter().enumerate() {
            prop_assert_eq!(batch.row(i).len(), row.positions.len());
            prop_assert_eq!(&batch.loss_mask[batch.row(i)], row.loss_mask.as_slice());
            let on_policy = scores.logprobs[batch.row(i)].to_vec();
            prop_assert_eq!(&batch.old_logprobs[batch.row(i)], row.old_logprobs.as_ref().unwrap_or(&on_policy).as_slice());
            prop_assert_eq!((batch.advantages[i], batch.groups[i]), (row.advantage, row.group));
        }
    }

    #[test]
    fn the_baseline_is_what_all_masks_leave_in(script in any_script(), limits in any_limits()) {
        for t in record(script, limits).0 {
            let answered = t.answer.is_some();
            prop_assert_eq!((Only { on: Vec::new() }, Answered {}).all_in_baseline(&t), answered);
            prop_assert!(().all_in_baseline(&t));
            let mut weights = vec![1.0; t.ids.len()];
            (Answered {}, Only { on: vec![Origin::Sampled] }).apply_all(&t, &mut weights);
            let kept = weights.iter().filter(|weight| **weight == 1.0).count();
            prop_assert_eq!(kept, if answered { t.sampled_len() } else { 0 });
        }
    }
}

#[test]
fn what_cannot_be_graded_is_counted_and_left_out() {
    let (mut trajectories, _) =
        record(vec![vec!["<answer>1</answer>".into()], vec!["<answer>2</answer>".into()]], Limits::default());
    trajectories.truncate(2);
    let group = Group::grade(trajectories[0].sample.clone(), trajectories.clone(), &Equal {});
    let values: Vec<f32> = group.members.iter().map(|member| member.score.value).collect();
    assert_eq!((values, group.skipped, group.is_flat()), (vec![1.0, 0.0], 0, false));
    for t in &mut trajectories {
        t.sample = fake_sample("none", 1, "Q", "");
    }
    let group = Group::grade(trajectories[0].sample.clone(), trajectories, &Equal {});
    assert_eq!((group.members.len(), group.skipped, group.is_flat()), (0, 2, true));
    let batch = TrainBatch::new(vec![group], &Centre {}, &());
    assert!(TrainBatch::tokens(&batch.rows, &TokenScores::default()).is_empty());
}

#[test]
fn static_and_dynamic_rewards_agree() {
    let boxed: Box<dyn Reward> = serde_json::from_str(r#"{"type": "test_equal"}"#).unwrap();
    let (trajectories, _) = record(vec![vec!["<answer>1</answer>".into()]], Limits::default());
    for t in trajectories {
        let still = ScoredTrajectory::grade(t.clone(), &Equal {}).score;
        assert_eq!(still, ScoredTrajectory::grade(t, boxed.as_ref()).score);
    }
}

/// Advantages of the step as a whole: of row `i`, and of each of its tokens, `i + 1`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Whole {}

#[typetag::serde(name = "test_whole")]
impl imagent_core::PolicyOptimizer for Whole {
    fn advantages_of(&self, rewards: &[f32], _: &[bool]) -> Vec<f32> {
        vec![7.0; rewards.len()]
    }
    fn batch_advantages(&self, outcomes: &imagent_core::Outcomes) -> Option<imagent_core::Advantages> {
        let rows: Vec<f32> = (0..outcomes.rows()).map(|row| row as f32 + 1.0).collect();
        let tokens = (0..outcomes.rows()).flat_map(|row| outcomes.row(row).map(move |_| row as f32 + 1.0)).collect();
        Some(imagent_core::Advantages { rows, tokens: Some(tokens) })
    }
    fn loss(&self, _: &imagent_core::TokenBatch) -> imagent_core::TokenLoss {
        imagent_core::TokenLoss::default()
    }
}

#[test]
fn the_weight_of_a_score_is_on_its_advantage_once() {
    let script = || vec![vec!["<answer>1</answer>".into()], vec!["<answer>2</answer>".into()]];
    let weighted = |weight: f32| {
        let mut all = groups(record(script(), Limits::default()).0);
        all.iter_mut().flat_map(|group| &mut group.members).for_each(|member| member.score.weight = weight);
        all
    };
    let advantages = |batch: &TrainBatch| batch.rows.iter().map(|row| row.advantage).collect::<Vec<_>>();
    let (one, two) = (TrainBatch::new(weighted(1.0), &Centre {}, &()), TrainBatch::new(weighted(2.5), &Centre {}, &()));
    assert!(advantages(&one).iter().any(|&advantage| advantage != 0.0));
    assert_eq!(advantages(&two), advantages(&one).iter().map(|a| 2.5 * a).collect::<Vec<_>>());
    let mut whole = TrainBatch::new(weighted(2.5), &Whole {}, &());
    for _ in 0..2 {
        for (i, row) in whole.rows.iter().enumerate() {
            let expected = 2.5 * (i as f32 + 1.0);
            assert_eq!(row.advantage, expected);
            assert_eq!(row.token_advantages, Some(vec![expected; row.positions.len()]));
        }
        whole.settle(&Whole {}, |_| true);
    }
}
