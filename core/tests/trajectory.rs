//! Properties of every trajectory: it keeps what was sampled, and its images are whole (design.md, section 4).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

mod common;

use common::{any_limits, any_script, record};
use imagent_core::testing::{FakeEncoder, IMAGE};
use imagent_core::{Action, Encoder, EndReason, Limits, Origin, StopReason, Trajectory, parse_turn};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// Ids, origins and log-probabilities agree in length, and turns tile the sampled positions.
fn check_tokens(t: &Trajectory) -> Result<(), TestCaseError> {
    prop_assert_eq!(t.ids.len(), t.origins.len());
    prop_assert_eq!(t.ids.len(), t.logprobs.len());
    prop_assert!(t.origins[..t.prompt_len].iter().all(|origin| *origin == Origin::Prompt));
    prop_assert!(t.origins[t.prompt_len..].iter().all(|origin| *origin != Origin::Prompt));
    let in_turns: Vec<usize> = t.turns.iter().flat_map(|turn| turn.tokens.clone()).collect();
    prop_assert_eq!(in_turns, t.sampled().collect::<Vec<_>>());
    for (logprob, origin) in t.logprobs.iter().zip(&t.origins) {
        prop_assert_eq!(*logprob != 0.0, *origin == Origin::Sampled);
    }
    Ok(())
}

/// Spans cover exactly the image tokens, in order, once each; every image of the shelf has one.
fn check_images(t: &Trajectory) -> Result<(), TestCaseError> {
    let covered: Vec<usize> = t.spans.iter().flat_map(|span| span.range()).collect();
    let tokens: Vec<usize> = (0..t.ids.len()).filter(|&i| t.ids[i] == IMAGE).collect();
    prop_assert_eq!(covered, tokens);
    let named: Vec<usize> = t.spans.iter().map(|span| span.image).collect();
    prop_assert_eq!(named, (1..=t.shelf.len()).collect::<Vec<_>>());
    for (span, image) in t.spans.iter().zip(t.shelf.iter()) {
        prop_assert_eq!(image.sizes.shown.height as usize, span.rows * 28);
        prop_assert_eq!(image.sizes.shown.width as usize, span.columns * 28);
        prop_assert_eq!(FakeEncoder.shown_size(image.sizes.original).unwrap(), image.sizes.shown);
    }
    let shown: usize = t.turns.iter().filter_map(|turn| turn.tool.as_ref()).map(|tool| tool.images.len()).sum();
    prop_assert_eq!(t.shelf.len(), t.sample.images.len() + shown);
    prop_assert_eq!(t.used_tool(), shown > 0);
    prop_assert!(
        (1..=t.shelf.len()).all(|i| t.shelf.root_region(i).is_some_and(|(root, _)| root <= t.sample.images.len()))
    );
    Ok(())
}

fn check_limits(t: &Trajectory, limits: &Limits) -> Result<(), TestCaseError> {
    prop_assert!(t.turns.len() <= limits.max_turns.max(1));
    prop_assert!(t.turns.iter().all(|turn| turn.tokens.len() <= limits.max_new_tokens));
    prop_assert!(t.ids.len() <= limits.max_tokens.max(t.prompt_len));
    prop_assert!(t.shelf.len() <= limits.max_images.max(t.sample.images.len()));
    // An appended observation leaves room for at least one token, so the next turn was sampled.
    prop_assert!(t.turns.iter().all(|turn| turn.tokens.end <= limits.max_tokens || turn.tokens.is_empty()));
    prop_assert!(t.origins.last() != Some(&Origin::Observation));
    Ok(())
}

/// The end reason is what the last turn's text and the limits say.
fn check_end(t: &Trajectory, limits: &Limits, stop: StopReason) -> Result<(), TestCaseError> {
    let last = t.turns.last().unwrap();
    let action = parse_turn(&last.text);
    prop_assert_eq!(t.answer.is_some(), t.end == EndReason::Answered);
    if stop == StopReason::Length {
        prop_assert_eq!(t.end, EndReason::LengthLimit);
        return Ok(());
    }
    match action {
        Action::Answer(answer) => prop_assert_eq!(t.answer.as_ref(), Some(&answer)),
        Action::Nothing => prop_assert_eq!(t.end, EndReason::NoAnswer),
        Action::Malformed => prop_assert_eq!(t.end, EndReason::Malformed),
        Action::Call(_) | Action::BadCall(_) if t.turns.len() >= limits.max_turns => {
            prop_assert_eq!(t.end, EndReason::TurnLimit);
        }
        Action::Call(_) => prop_assert!(matches!(t.end, EndReason::LengthLimit | EndReason::ImageLimit)),
        Action::BadCall(_) => {
            prop_assert!(matches!(t.end, EndReason::LengthLimit | EndReason::ImageLimit));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_trajectory_keeps_its_invariants(script in any_script(), limits in any_limits()) {
        let size = script.len();
        let (trajectories, sampled) = record(script, limits.clone());
        for (i, t) in trajectories.iter().enumerate() {
            prop_assert_eq!(t.index, i % size);
            check_tokens(t)?;
            check_images(t)?;
            check_limits(t, &limits)?;
            let turns: Vec<_> = sampled.iter().filter(|(rollout, _)| *rollout == i).map(|(_, turn)| turn).collect();
            prop_assert_eq!(turns.len(), t.turns.len());
            check_end(t, &limits, turns.last().unwrap().stop)?;
            // As sampled: ids and log-probabilities, to the bit.
            let ids: Vec<u32> = turns.iter().flat_map(|turn| turn.ids.clone()).collect();
            let logprobs: Vec<f32> = turns.iter().flat_map(|turn| turn.logprobs.clone()).collect();
            prop_assert_eq!(t.sampled().map(|at| t.ids[at]).collect::<Vec<_>>(), ids);
            prop_assert_eq!(t.sampled().map(|at| t.logprobs[at]).collect::<Vec<_>>(), logprobs);
            prop_assert_eq!(t.sampled_len(), turns.iter().map(|turn| turn.ids.len()).sum::<usize>());
        }
    }

    #[test]
    fn a_rerun_is_the_same(script in any_script(), limits in any_limits()) {
        let (one, other) = (record(script.clone(), limits.clone()).0, record(script, limits).0);
        for (a, b) in one.iter().zip(&other) {
            prop_assert_eq!((&a.ids, &a.logprobs, &a.turns, a.end), (&b.ids, &b.logprobs, &b.turns, b.end));
        }
    }
}
