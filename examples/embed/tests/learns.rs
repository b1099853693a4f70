//! The table learns to look and to answer; what it is told of its own tokens is what it sampled; the same on every rerun.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use embed::{ACTIONS, Table, Words, samples};
use imagent::prelude::*;

fn train(optimizer: Grpo) -> (Table, Vec<StepReport>, f64) {
    let settings = TrainSettings {
        steps: 60,
        prompts_per_step: 8,
        group_size: 8,
        seed: 3,
        limits: Limits { max_turns: 3, ..Limits::default() },
        ..TrainSettings::default()
    };
    let parts = ((ZoomIn::default(), ImAgent::default()), (ActionMask::default(), optimizer));
    let mut experiment = Experiment::new(Table::default(), parts.0, parts.1, samples(16), settings);
    experiment.held_out = Some(Box::new(samples(64)));
    let mut reports = Vec::new();
    experiment
        .train(0, &mut |policy: &mut Table, report: &StepReport, batch: &TrainBatch| {
            reports.push(StepReport { seconds: Default::default(), ..report.clone() });
            if report.step == 0 {
                check_scores(policy, batch);
                check_gradient(policy, batch);
            }
            Ok(Flow::Continue)
        })
        .unwrap();
    let accuracy = experiment.evaluate().unwrap().metrics["accuracy"];
    (experiment.policy, reports, accuracy)
}

/// What was sampled by the fresh table has the log-probability that the fresh table gives it.
fn check_scores(policy: &Table, batch: &TrainBatch) {
    let rows: Vec<ScoreRow<'_>> = batch.rows.iter().map(|row| row.score_row()).collect();
    let sampled: Vec<f32> = batch.rows.iter().flat_map(|row| row.old_logprobs.clone().unwrap()).collect();
    let scores = policy.score(&rows, 1.0, Weights::Reference).unwrap();
    assert_eq!(scores.logprobs, sampled);
    assert!(scores.entropies.iter().all(|entropy| (f64::from(*entropy) - (ACTIONS as f64).ln()).abs() < 1e-6));
}

#[test]
fn it_learns_where_to_look_and_what_it_saw() {
    let (policy, reports, accuracy) = train(Grpo::default());
    let first = &reports[0].metrics;
    assert!(first["accuracy"] < 0.4, "{}", first["accuracy"]);
    let last = &reports[59].metrics;
    assert!(last["accuracy"] > 0.9 && last["tool_rate"] > 0.9, "{last:?}");
    assert_eq!(accuracy, 1.0);
    // The same again, to the bit.
    assert_eq!(train(Grpo::default()), (policy, reports, accuracy));
}

/// A small step down the gradient lowers any loss by about the step times the gradient's squared norm.
fn check_gradient(policy: &Table, batch: &TrainBatch) {
    let rows: Vec<ScoreRow<'_>> = batch.rows.iter().map(|row| row.score_row()).collect();
    let tokens: usize = rows.iter().map(|row| row.positions.len()).sum();
    let slopes = |phase: f32| (0..tokens).map(|i| (i as f32 + phase).sin()).collect::<Vec<f32>>();
    let (d_logprobs, d_entropies) = (slopes(0.0), slopes(0.5));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let value = |scores: &TokenScores| dot(&d_logprobs, &scores.logprobs) + dot(&d_entropies, &scores.entropies);
    let mut moved = policy.clone();
    moved.learning_rate = 1e-3;
    let mut loss = |scores: &TokenScores| TokenLoss {
        value: value(scores),
        d_logprobs: d_logprobs.clone(),
        d_entropies: d_entropies.clone(),
        ..TokenLoss::default()
    };
    let report = moved.update(&rows, 0.7, &mut loss).unwrap();
    let after = value(&moved.score(&rows, 0.7, Weights::Current).unwrap());
    let (fell, expected) = (report.loss.value - after, 1e-3 * report.grad_norm * report.grad_norm);
    assert!(expected > 1e-4 && (fell - expected).abs() < 0.03 * expected, "{fell} for {expected}");
}

#[test]
fn a_bonus_and_a_reference_are_heeded() {
    let (_, open, _) = train(Grpo { entropy_coef: 0.1, ..Grpo::default() });
    let (_, held, _) = train(Grpo { kl_coef: 0.5, ..Grpo::default() });
    let (_, without, _) = train(Grpo::default());
    let last = |reports: &[StepReport], name: &str| reports[59].metrics[name];
    assert!(last(&open, "update/entropy") > last(&without, "update/entropy"));
    assert!(last(&held, "update/kl") > 0.0 && last(&held, "update/entropy") > last(&without, "update/entropy"));
}

#[test]
fn what_is_said_reads_back() {
    for action in 0..ACTIONS as u32 {
        assert_eq!(Words.scripted_turn(&Words.decode(&[action])).unwrap(), [action]);
    }
    assert!(Words.scripted_turn("hello").is_err());
}
