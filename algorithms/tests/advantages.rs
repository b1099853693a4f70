//! Properties of advantages: within a group, over a step, and with what trajectories are outside the baseline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use imagent_algorithms::{
    Baseline, BatchScale, Grpo, KlEstimator, KlIn, Lone, ReinforcePlusPlus, ReinforcePlusPlusBaseline,
};
use imagent_core::{Advantages, Outcomes, PolicyOptimizer};
use proptest::collection::vec;
use proptest::prelude::*;

/// Rows of 1–6 tokens in interleaved groups.
fn outcomes() -> impl Strategy<Value = Outcomes> {
    let row =
        (-1.0f32..1.0, 0usize..3, any::<bool>(), vec((-3.0f32..0.0, -3.0f32..0.0, prop::bool::weighted(0.8)), 1..6));
    vec(row, 1..10).prop_map(|rows| {
        let mut all = Outcomes {
            offsets: vec![0],
            old_logprobs: Some(vec![]),
            ref_logprobs: Some(vec![]),
            ..Outcomes::default()
        };
        for (reward, group, in_baseline, tokens) in rows {
            all.rewards.push((reward * 4.0).round() / 4.0);
            all.groups.push(group);
            all.in_baseline.push(in_baseline);
            for (old, reference, counts) in tokens {
                all.old_logprobs.as_mut().unwrap().push(old);
                all.ref_logprobs.as_mut().unwrap().push(reference);
                all.loss_mask.push(f32::from(u8::from(counts)));
            }
            all.offsets.push(all.loss_mask.len());
        }
        all
    })
}

fn bare(baseline: Baseline) -> Grpo {
    Grpo { baseline, normalize_std: false, ..Grpo::default() }
}

/// Weight and advantage of the tokens of rows in the baseline.
fn counted(outcomes: &Outcomes, advantages: &Advantages) -> Vec<(f64, f64)> {
    let rows = (0..outcomes.rows()).filter(|&row| outcomes.in_baseline[row]);
    let tokens = rows.flat_map(|row| outcomes.row(row).map(move |i| (row, i)));
    let of = |row: usize, i: usize| advantages.tokens.as_ref().map_or(advantages.rows[row], |all| all[i]);
    tokens
        .map(|(row, i)| (f64::from(outcomes.loss_mask[i]), f64::from(of(row, i))))
        .filter(|(w, _)| *w != 0.0)
        .collect()
}

proptest! {
    #[test]
    fn whitened_advantages_have_mean_0_and_variance_1(outcomes in outcomes(), by_token: bool) {
        let by_token_one = ReinforcePlusPlus(Grpo { gamma: Some(0.9), kl_coef: 0.1, ..ReinforcePlusPlus::default().0 });
        let advantages = if by_token {
            by_token_one.batch_advantages(&outcomes).unwrap()
        } else {
            ReinforcePlusPlusBaseline::default().batch_advantages(&outcomes).unwrap()
        };
        let pairs = counted(&outcomes, &advantages);
        let mass: f64 = pairs.iter().map(|(w, _)| w).sum();
        let mean = pairs.iter().map(|(w, a)| w * a).sum::<f64>() / mass.max(1.0);
        prop_assert!(mean.abs() < 1e-4);
        if pairs.iter().any(|(_, a)| *a != 0.0) {
            let variance = pairs.iter().map(|(w, a)| w * (a - mean).powi(2)).sum::<f64>() / (mass - 1.0);
            // Less where the variance was not large beside the 1e-8 that is added to it.
            prop_assert!(variance < 1.001 && (by_token || variance > 0.99), "{}", variance);
        } else {
            prop_assert!(advantages.rows.iter().all(|&advantage| advantage == 0.0));
        }
    }

    #[test]
    fn leaving_one_out_stretches_the_mean_s_advantages(rewards in vec(-2.0f32..2.0, 2..9)) {
        let all = vec![true; rewards.len()];
        let n = rewards.len() as f32;
        let (mean, others) = (bare(Baseline::Mean).advantages_of(&rewards, &all), bare(Baseline::LeaveOneOut).advantages_of(&rewards, &all));
        for (mean, others) in mean.iter().zip(&others) {
            prop_assert!((others - mean * n / (n - 1.0)).abs() < 1e-5);
        }
        prop_assert!(others.iter().sum::<f32>().abs() < 1e-4);
    }

    #[test]
    fn equal_rewards_have_exactly_no_advantage_but_without_a_baseline(reward in -2.0f32..2.0, n in 2usize..9) {
        for baseline in [Baseline::Mean, Baseline::LeaveOneOut, Baseline::LengthWeighted, Baseline::SecondBest] {
            let advantages = bare(baseline).advantages_of(&vec![reward; n], &vec![true; n]);
            prop_assert!(advantages.iter().all(|advantage| *advantage == 0.0), "{:?}", baseline);
        }
        prop_assert_eq!(bare(Baseline::None).advantages_of(&vec![reward; n], &vec![true; n]), vec![reward; n]);
    }

    /// A row outside the baseline changes no other row's advantage.
    #[test]
    fn who_is_outside_the_baseline_has_no_say(outcomes in outcomes(), change in -3.0f32..3.0) {
        let mut other = outcomes.clone();
        for row in (0..outcomes.rows()).filter(|&row| !outcomes.in_baseline[row]) {
            other.rewards[row] += change;
        }
        for optimizer in [
            Grpo { batch_scale: BatchScale::Whiten, ..bare(Baseline::Mean) },
            bare(Baseline::LengthWeighted),
            Grpo { kl_coef: 0.2, kl_in: KlIn::Reward, kl_estimator: KlEstimator::K2, ..Grpo::default() },
            ReinforcePlusPlus::default().0,
        ] {
            let (one, two) = (optimizer.batch_advantages(&outcomes).unwrap(), optimizer.batch_advantages(&other).unwrap());
            for row in (0..outcomes.rows()).filter(|&row| outcomes.in_baseline[row]) {
                prop_assert_eq!(one.rows[row].to_bits(), two.rows[row].to_bits());
            }
        }
    }

    /// What is masked may be anything.
    #[test]
    fn masked_tokens_have_no_say(outcomes in outcomes()) {
        let mut other = outcomes.clone();
        for i in (0..outcomes.loss_mask.len()).filter(|&i| outcomes.loss_mask[i] == 0.0) {
            other.old_logprobs.as_mut().unwrap()[i] = f32::NAN;
            other.ref_logprobs.as_mut().unwrap()[i] = f32::NAN;
        }
        let optimizer = ReinforcePlusPlus(Grpo { kl_coef: 0.3, gamma: Some(0.5), ..ReinforcePlusPlus::default().0 });
        prop_assert_eq!(optimizer.batch_advantages(&other), optimizer.batch_advantages(&outcomes));
    }
}

#[test]
fn a_lone_trajectory_gets_nothing_or_its_reward() {
    for (lone, want) in [(Lone::Zero, 0.0), (Lone::Reward, 0.75)] {
        let optimizer = Grpo { lone, ..Grpo::default() };
        assert_eq!(optimizer.advantages_of(&[0.75], &[true]), [want]);
        assert_eq!(optimizer.advantages_of(&[0.75, 0.25], &[true, false])[0], want);
    }
}

#[test]
fn the_best_alone_has_an_advantage_over_the_second_best() {
    let optimizer = bare(Baseline::SecondBest);
    assert_eq!(optimizer.advantages_of(&[0.0, 1.0, 0.25], &[true; 3]), [0.0, 0.75, 0.0]);
    assert_eq!(optimizer.advantages_of(&[1.0, 1.0, 0.25], &[true; 3]), [0.0; 3]);
    assert_eq!(optimizer.advantages_of(&[5.0, 1.0, 0.25], &[false, true, true]), [0.0, 0.75, 0.0]);
}

#[test]
fn an_optimizer_of_groups_leaves_the_step_as_it_is() {
    let outcomes = Outcomes {
        offsets: vec![0, 1, 2],
        groups: vec![0, 0],
        in_baseline: vec![true; 2],
        rewards: vec![1.0, 0.0],
        loss_mask: vec![1.0; 2],
        ..Outcomes::default()
    };
    assert_eq!(Grpo::default().batch_advantages(&outcomes), None);
    assert_eq!(Grpo { kl_coef: 0.1, ..Grpo::default() }.batch_advantages(&outcomes), None);
    // Asked before the log-probabilities are known, a KL term in the reward is none.
    let in_reward = Grpo { kl_coef: 0.1, kl_in: KlIn::Reward, ..Grpo::default() };
    assert_eq!(in_reward.batch_advantages(&outcomes), None);
    assert!(in_reward.needs_behavior() && in_reward.needs_reference());
}
