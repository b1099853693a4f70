//! The decode engine, packed passes and updates against each other, on the small random checkpoints of `tests/parity`:
//! what is sampled, what is scored and what is trained must be one model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "parity_support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use dfdx::prelude::*;
use image::RgbImage;
use imagent_core::testing::fake_sample;
use imagent_core::{
    Content, EndReason, ImageShelf, ImageSpan, Key, Message, Next, Observation, ObservationImage, Origin, Policy,
    PolicyError, PolicyPrompt, Role, Sampling, ScoreRow, Segment, SegmentImage, StopReason, TokenLoss, Trajectory,
    Weights,
};
use imagent_models::adamw::AdamWConfig;
use imagent_models::policy::{PassLimits, QwenPolicy, sequence};
use support::{distance, parity, relative};

fn policy(case: &str) -> QwenPolicy<Cpu> {
    descending(case, 1e-3)
}

/// A policy whose updates are plain gradient descent (AdamW with a huge epsilon).
fn descending(case: &str, rate: f64) -> QwenPolicy<Cpu> {
    let settings = AdamWConfig { learning_rate: 1.0, epsilon: rate.recip(), clip_norm: 0.0, ..AdamWConfig::default() };
    QwenPolicy::open(&parity().join(case).join("checkpoint"), Cpu::default(), settings).unwrap()
}

/// A picture that differs from all others.
fn picture(width: u32, height: u32, seed: u32) -> Arc<RgbImage> {
    let level = |x: u32, y: u32, c: u32| (x * (3 + seed) + y * (5 + 2 * seed) + c * 67 + seed * 31) as u8;
    Arc::new(RgbImage::from_fn(width, height, |x, y| image::Rgb([0, 1, 2].map(|c| level(x, y, c)))))
}

/// A prompt with `images` pictures.
fn prompt(policy: &QwenPolicy<Cpu>, images: u32, seed: u32) -> Arc<Segment> {
    let pictures: Vec<Arc<RgbImage>> = (0..images)
        .map(|i| picture(40 + 37 * ((seed + i) % 4), 30 + 29 * ((seed + 2 * i) % 5), seed + 10 * i))
        .collect();
    let mut content: Vec<Content> = pictures.iter().map(|_| Content::Image).collect();
    content.push(Content::text(format!("Question {seed}: which picture is the odd one out?")));
    let messages = [Message { role: Role::User, content }];
    Arc::new(policy.encoder().prompt(&messages, &[], &pictures).unwrap())
}

/// What rollout `index` observes after its turn `turn`; nothing ends it.
fn observation(index: usize, turn: usize) -> Option<Observation> {
    let last = index % 3;
    let shown = |k: u32| ObservationImage { pixels: picture(56 + 20 * k, 60, 100 + k), origin: None };
    let images = match (index + turn) % 3 {
        0 => vec![],
        1 => vec![shown(index as u32 % 5)],
        _ => vec![shown(7), shown(turn as u32)],
    };
    (turn < last).then(|| Observation { text: format!("Seen {turn}."), images })
}

/// One rollout to run: its prompt, and its number, which decides on randomness and observations.
type Plan = (Arc<Segment>, usize);

fn start(prompt: &Segment, index: usize) -> Trajectory {
    let mut trajectory = Trajectory {
        sample: fake_sample("s", 0, "", ""),
        index,
        prompt_len: prompt.ids.len(),
        ids: Vec::new(),
        origins: Vec::new(),
        logprobs: Vec::new(),
        spans: Vec::new(),
        shelf: ImageShelf::new(),
        turns: Vec::new(),
        answer: None,
        end: EndReason::NoAnswer,
    };
    append(&mut trajectory, prompt, Origin::Prompt);
    trajectory
}

fn append(trajectory: &mut Trajectory, segment: &Segment, origin: Origin) {
    let base = trajectory.ids.len();
    for SegmentImage { start, rows, columns, pixels, shown } in &segment.images {
        let image = trajectory.shelf.push(Arc::clone(pixels), *shown, None);
        trajectory.spans.push(ImageSpan { start: base + start, rows: *rows, columns: *columns, image });
    }
    trajectory.ids.extend_from_slice(&segment.ids);
    trajectory.origins.resize(trajectory.ids.len(), origin);
    trajectory.logprobs.resize(trajectory.ids.len(), 0.0);
}

fn prompts(plans: &[Plan]) -> Vec<PolicyPrompt> {
    let prompt = |(prompt, index): &Plan| PolicyPrompt {
        prompt: Arc::clone(prompt),
        key: Key::new(1, 2, "sample", *index as u64),
        max_new_tokens: 6 + index % 4,
        max_tokens: 10_000,
    };
    plans.iter().map(prompt).collect()
}

/// Runs rollouts of up to three turns of at most nine tokens.
fn run(policy: &mut QwenPolicy<Cpu>, plans: &[Plan], sampling: &Sampling) -> Vec<Trajectory> {
    run_with(policy, plans, sampling, &|_, _| {})
}

/// The same with a tool that does `work(rollout, turn)` first.
fn run_with(
    policy: &mut QwenPolicy<Cpu>,
    plans: &[Plan],
    sampling: &Sampling,
    work: &(dyn Fn(usize, usize) + Sync),
) -> Vec<Trajectory> {
    let done: Vec<_> = plans.iter().map(|(prompt, index)| Mutex::new((start(prompt, *index), 0))).collect();
    let encoder = policy.encoder();
    let on_turn = &|i: usize, turn: imagent_core::SampledTurn| {
        assert_eq!(turn.ids.len(), turn.logprobs.len());
        let (done, turns) = &mut *done[i].lock().unwrap();
        done.ids.extend_from_slice(&turn.ids);
        done.logprobs.extend_from_slice(&turn.logprobs);
        done.origins.resize(done.ids.len(), Origin::Sampled);
        *turns += 1;
        work(i, *turns);
        let Some(seen) = observation(plans[i].1, *turns - 1) else { return Ok(Next::End) };
        let segment = encoder.observation(&seen, turn.stop == StopReason::EndOfTurn)?;
        append(done, &segment, Origin::Observation);
        Ok(Next::Observe(segment))
    };
    policy.rollout(&prompts(plans), sampling, on_turn).unwrap();
    done.into_iter().map(|done| done.into_inner().unwrap().0).collect()
}

/// Groups of several rollouts over prompts with 0, 1, 2 and 3 images.
fn groups(policy: &QwenPolicy<Cpu>, sizes: &[usize]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (group, &size) in sizes.iter().enumerate() {
        let prompt = prompt(policy, (group % 4) as u32, group as u32);
        plans.extend((0..size).map(|k| (Arc::clone(&prompt), 10 * group + k)));
    }
    plans
}

fn positions(trajectories: &[Trajectory]) -> Vec<Vec<usize>> {
    trajectories.iter().map(|trajectory| trajectory.sampled().collect()).collect()
}

/// Positions of every token that may be trained: sampled or observed text.
fn trained(trajectories: &[Trajectory]) -> Vec<Vec<usize>> {
    let text = |t: &Trajectory, i: usize| !t.spans.iter().any(|span| span.range().contains(&i));
    let of = |t: &Trajectory| {
        (0..t.ids.len()).filter(|&i| t.origins[i] != Origin::Prompt && text(t, i)).collect::<Vec<usize>>()
    };
    trajectories.iter().map(of).collect()
}

fn rows<'a>(trajectories: &'a [Trajectory], positions: &'a [Vec<usize>]) -> Vec<ScoreRow<'a>> {
    trajectories.iter().zip(positions).map(|(trajectory, positions)| ScoreRow { trajectory, positions }).collect()
}

/// A loss that treats every token differently: `Σ wᵢ · logprobᵢ + vᵢ · entropyᵢ`, made by position alone.
fn uneven(scores: &imagent_core::TokenScores) -> TokenLoss {
    let weight = |i: usize| ((i * 37 % 11) as f32 - 4.0) / 20.0;
    let n = scores.logprobs.len();
    let d_logprobs: Vec<f32> = (0..n).map(weight).collect();
    let d_entropies: Vec<f32> = (0..n).map(|i| weight(i + 5) / 3.0).collect();
    let sum = |values: &[f32], weights: &[f32]| -> f64 {
        values.iter().zip(weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let value = sum(&scores.logprobs, &d_logprobs) + sum(&scores.entropies, &d_entropies);
    TokenLoss { value, d_logprobs, d_entropies, ..TokenLoss::default() }
}

#[test]
fn sampled_logprobs_are_those_of_scoring() {
    for case in ["single_image", "three_images"] {
        let mut policy = policy(case);
        let plans = groups(&policy, &[2, 5, 3, 4, 1]);
        let settings = [
            (Sampling::default(), 1.0),
            (Sampling { temperature: 0.7, top_p: 0.9, ..Sampling::default() }, 0.7),
            (Sampling { temperature: 1.3, top_k: 20, ..Sampling::default() }, 1.3),
            (Sampling::greedy(), 1.0),
        ];
        for (sampling, temperature) in settings {
            let done = run(&mut policy, &plans, &sampling);
            assert!(done.iter().any(|t| t.spans.len() > 3) && done.iter().any(|t| t.spans.is_empty()));
            let positions = positions(&done);
            let scores = policy.score(&rows(&done, &positions), temperature, Weights::Current).unwrap();
            let drawn: Vec<f32> = done.iter().flat_map(|t| t.sampled().map(|i| t.logprobs[i])).collect();
            let error = distance(&drawn, &scores.logprobs);
            println!("{case}: {} tokens at {sampling:?}: {error:.1e}", drawn.len());
            assert!(error <= 1e-4, "{error}");
            assert!(drawn.iter().all(|x| x.is_finite() && *x <= 1e-6));
            assert!(scores.entropies.iter().all(|x| (0.0..8.0).contains(x)));
        }
    }
}

#[test]
fn a_rollout_does_not_depend_on_its_company_nor_on_threads() {
    let mut policy = policy("three_images");
    let plans = groups(&policy, &[3, 6, 4, 5, 2]);
    let sampling = Sampling::default();
    let together = run(&mut policy, &plans, &sampling);
    let same = |a: &Trajectory, b: &Trajectory| {
        assert_eq!(a.ids, b.ids);
        let bits = |t: &Trajectory| t.logprobs.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(a), bits(b));
    };
    for (plan, expected) in plans.iter().zip(&together) {
        same(&run(&mut policy, std::slice::from_ref(plan), &sampling)[0], expected);
    }
    let reversed: Vec<Plan> = plans.iter().rev().cloned().collect();
    run(&mut policy, &reversed, &sampling).iter().rev().zip(&together).for_each(|(a, b)| same(a, b));
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| run(&mut policy, &plans, &sampling));
        again.iter().zip(&together).for_each(|(a, b)| same(a, b));
    }
    policy.limits = PassLimits { max_rows: 50, max_images: 1 };
    run(&mut policy, &plans, &sampling).iter().zip(&together).for_each(|(a, b)| same(a, b));
}

fn bits(t: &Trajectory) -> (Vec<u32>, Vec<u32>) {
    (t.ids.clone(), t.logprobs.iter().map(|x| x.to_bits()).collect())
}

#[test]
fn when_a_tool_comes_back_changes_no_token() {
    let mut policy = policy("three_images");
    let plans = groups(&policy, &[3, 6, 4, 5, 2]);
    let quick = run(&mut policy, &plans, &Sampling::default());
    for round in 0..4 {
        let pause = |i: usize, turn: usize| {
            let chance = imagent_core::derive(round, &[i as u64, turn as u64]) % 24;
            sleep(Duration::from_millis(chance.saturating_sub(8)));
        };
        let slow = run_with(&mut policy, &plans, &Sampling::default(), &pause);
        quick.iter().zip(&slow).for_each(|(a, b)| assert_eq!(bits(a), bits(b), "round {round}"));
    }
}

#[test]
fn the_rest_decode_on_while_a_tool_works() {
    let mut policy = policy("single_image");
    let prompt = prompt(&policy, 1, 3);
    // The tool of rollout 0 waits for the second turn of rollout 1.
    let plans: Vec<Plan> = vec![(Arc::clone(&prompt), 2), (prompt, 1)];
    let quick = run(&mut policy, &plans, &Sampling::default());
    let (told, done) = channel();
    let done: Mutex<Receiver<()>> = Mutex::new(done);
    let work = |i: usize, turn: usize| match (i, turn) {
        (0, 1) => done.lock().unwrap().recv_timeout(Duration::from_secs(60)).expect("rollout 1 stood still"),
        (1, 2) => told.send(()).unwrap(),
        _ => {}
    };
    let waited = run_with(&mut policy, &plans, &Sampling::default(), &work);
    quick.iter().zip(&waited).for_each(|(a, b)| assert_eq!(bits(a), bits(b)));
}

/// Five rollouts whose first turns have 8, 6, 6, 7 and 9 tokens, unless they end before.
fn five(policy: &QwenPolicy<Cpu>) -> Vec<Plan> {
    let prompt = prompt(policy, 1, 3);
    [2, 0, 4, 1, 3].map(|index| (Arc::clone(&prompt), index)).to_vec()
}

#[test]
fn which_failure_is_told_does_not_depend_on_how_long_tools_take() {
    let mut policy = policy("single_image");
    let plans = five(&policy);
    for slow in [vec![], vec![1], vec![2], vec![1, 2], vec![0, 1], vec![3, 4]] {
        let failing = |i: usize, turn: imagent_core::SampledTurn| {
            assert_eq!(turn.ids.len(), 6 + plans[i].1 % 4, "the turns were to end by length");
            sleep(Duration::from_millis(if slow.contains(&i) { 60 } else { 0 }));
            Err(PolicyError::Model(format!("rollout {i} failed")))
        };
        let error = policy.rollout(&prompts(&plans), &Sampling::default(), &failing).unwrap_err();
        assert_eq!(error.to_string(), "model: rollout 1 failed", "{slow:?} are slow");
    }
}

#[test]
fn a_panic_of_a_tool_is_one_of_the_rollout() {
    let mut policy = policy("single_image");
    let plans = five(&policy);
    let panicking = |i: usize, _| match i {
        1 => {
            sleep(Duration::from_millis(60));
            panic!("rollout 1 fell")
        }
        _ => Err(PolicyError::Model("later".to_owned())),
    };
    let rollout = || policy.rollout(&prompts(&plans), &Sampling::default(), &panicking);
    let payload = catch_unwind(AssertUnwindSafe(rollout)).expect_err("a panic");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"rollout 1 fell"));
    assert_eq!(run(&mut policy, &plans, &Sampling::default()).len(), 5, "the policy is as it was");
}

#[test]
fn a_rollout_that_waits_for_tools_alone_can_be_stopped() {
    let mut policy = policy("single_image");
    let (plans, stop) = (five(&policy), Arc::clone(&policy.stop));
    let seen = AtomicBool::new(false);
    let stopping = |_, _| {
        stop.store(true, Ordering::Relaxed);
        sleep(Duration::from_millis(200));
        seen.store(true, Ordering::Relaxed);
        Ok(Next::End)
    };
    let error = policy.rollout(&prompts(&plans[..1]), &Sampling::default(), &stopping).unwrap_err();
    assert!(matches!(error, PolicyError::Stopped), "{error}");
    assert!(seen.load(Ordering::Relaxed), "a call that runs is waited for");
}

#[test]
fn other_seeds_give_other_tokens() {
    let mut policy = policy("single_image");
    let prompt = prompt(&policy, 1, 3);
    let plans: Vec<Plan> = (0..8).map(|i| (Arc::clone(&prompt), 3 * i)).collect();
    let done = run(&mut policy, &plans, &Sampling { temperature: 3.0, ..Sampling::default() });
    let distinct: std::collections::HashSet<&[u32]> = done.iter().map(|t| &t.ids[t.prompt_len..]).collect();
    assert!(distinct.len() >= 7, "{}", distinct.len());
}

#[test]
fn scores_and_updates_do_not_depend_on_threads() {
    let mut policy = policy("three_images");
    let plans = groups(&policy, &[2, 3, 2]);
    let done = run(&mut policy, &plans, &Sampling::default());
    let positions = trained(&done);
    let pass = |policy: &QwenPolicy<Cpu>| {
        let sequences: Vec<_> = rows(&done, &positions).iter().map(sequence).collect();
        let mut seen = Vec::new();
        let (_, gradients) = policy
            .gradients(&sequences, 1.0, &mut |scores| {
                seen.extend(scores.logprobs.iter().chain(&scores.entropies).map(|x| x.to_bits()));
                uneven(scores)
            })
            .unwrap();
        let bits: Vec<u32> = gradients.iter().flatten().map(|x| x.to_bits()).collect();
        (seen, bits)
    };
    let first = pass(&policy);
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| pass(&policy)) == first, "{threads} threads");
    }
}

#[test]
fn a_shared_prompt_gives_what_separate_sequences_give() {
    for case in ["single_image", "three_images"] {
        let mut policy = policy(case);
        let plans = groups(&policy, &[3, 4, 3, 2]);
        let done = run(&mut policy, &plans, &Sampling::default());
        let positions = trained(&done);
        let rows = rows(&done, &positions);
        let shared = policy.score(&rows, 0.9, Weights::Current).unwrap();
        let mut alone = imagent_core::TokenScores::default();
        for row in &rows {
            let one = policy.score(std::slice::from_ref(row), 0.9, Weights::Current).unwrap();
            alone.logprobs.extend(one.logprobs);
            alone.entropies.extend(one.entropies);
        }
        let errors = [distance(&shared.logprobs, &alone.logprobs), distance(&shared.entropies, &alone.entropies)];
        println!("{case}: shared against separate: {:.1e} {:.1e}", errors[0], errors[1]);
        assert!(errors.iter().all(|error| *error <= 1e-5));
        let together: Vec<_> = rows.iter().map(sequence).collect();
        let (loss, gradients) = policy.gradients(&together, 0.9, &mut uneven).unwrap();
        let mut total: Vec<Vec<f64>> = gradients.iter().map(|g| vec![0.0; g.len()]).collect();
        let mut at = 0;
        for sequence in &together {
            let mine = at..at + sequence.targets.len();
            at = mine.end;
            let part = TokenLoss {
                d_logprobs: loss.d_logprobs[mine.clone()].to_vec(),
                d_entropies: loss.d_entropies[mine].to_vec(),
                ..TokenLoss::default()
            };
            let (_, some) = policy.gradients(std::slice::from_ref(sequence), 0.9, &mut |_| part.clone()).unwrap();
            let pairs = total.iter_mut().flatten().zip(some.iter().flatten());
            pairs.for_each(|(sum, g)| *sum += f64::from(*g));
        }
        let flat: Vec<f32> = total.iter().flatten().map(|x| *x as f32).collect();
        let all = relative(&gradients.concat(), &flat);
        let worst = gradients.iter().zip(&total).map(|(a, b)| {
            let b: Vec<f32> = b.iter().map(|x| *x as f32).collect();
            relative(a, &b)
        });
        let worst = worst.fold(0.0, f64::max);
        println!("{case}: gradients: {all:.1e} in all, {worst:.1e} at worst");
        assert!(all <= 1e-4 && worst <= 1e-3);
    }
}

#[test]
fn small_passes_update_as_one_pass_does() {
    let mut one = policy("three_images");
    let plans = groups(&one, &[3, 4, 3]);
    let done = run(&mut one, &plans, &Sampling::default());
    let positions = trained(&done);
    let rows = rows(&done, &positions);
    let longest = done.iter().map(|t| t.ids.len()).max().unwrap();
    let report = one.update(&rows, 1.0, &mut uneven).unwrap();
    for max_rows in [1, longest + 30, 3 * longest] {
        let mut several = policy("three_images");
        several.limits.max_rows = max_rows;
        let other = several.update(&rows, 1.0, &mut uneven).unwrap();
        assert!((report.loss.value - other.loss.value).abs() < 1e-4, "{} {}", report.loss.value, other.loss.value);
        assert!((report.grad_norm / other.grad_norm - 1.0).abs() < 1e-5);
        let start = policy("three_images");
        for index in 0..start.model.weights.entries().len() {
            let moved = |p: &QwenPolicy<Cpu>| -> Vec<f32> {
                let pairs = p.model.weights.values(index).into_iter().zip(start.model.weights.values(index));
                pairs.map(|(now, before)| now - before).collect()
            };
            let (a, b) = (moved(&several), moved(&one));
            let scale = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            // Weights near 1 (of norms) keep their movement to 1e-7 only.
            assert!(distance(&a, &b) <= 1e-3 * scale + 3e-7, "{}", start.model.weights.entries()[index].name);
        }
    }
}

#[test]
fn an_update_moves_the_loss_by_what_the_gradient_says() {
    let mut policy = descending("single_image", 1e-6);
    let plans = groups(&policy, &[2, 3, 3]);
    let done = run(&mut policy, &plans, &Sampling::default());
    let positions = positions(&done);
    let rows = rows(&done, &positions);
    policy.freeze_reference().unwrap();
    let before = policy.score(&rows, 1.0, Weights::Current).unwrap();
    let report = policy.update(&rows, 1.0, &mut uneven).unwrap();
    assert!(report.grad_norm > 0.01 && report.learning_rate == 1.0);
    let after = policy.score(&rows, 1.0, Weights::Current).unwrap();
    let moved = uneven(&after).value - uneven(&before).value;
    let expected = -1e-6 * report.grad_norm * report.grad_norm;
    println!("loss moved by {moved:.4e}, gradient says {expected:.4e}");
    assert!((moved / expected - 1.0).abs() < 0.05, "{moved} for {expected}");
    let reference = policy.score(&rows, 1.0, Weights::Reference).unwrap();
    assert_eq!(reference, before);
    // What is sampled now follows the new weights.
    let again = run(&mut policy, &plans, &Sampling::default());
    let positions = self::positions(&again);
    let scores = policy.score(&self::rows(&again, &positions), 1.0, Weights::Current).unwrap();
    let drawn: Vec<f32> = again.iter().flat_map(|t| t.sampled().map(|i| t.logprobs[i])).collect();
    assert!(distance(&drawn, &scores.logprobs) <= 1e-4);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let mut policy = policy("three_images");
    let plans = groups(&policy, &[2, 2, 2, 2]);
    let done = run(&mut policy, &plans, &Sampling::default());
    let positions = trained(&done);
    let sequences: Vec<_> = rows(&done, &positions).iter().map(sequence).collect();
    let (_, gradients) = policy.gradients(&sequences, 1.0, &mut uneven).unwrap();
    let names = [
        "visual.patch_embed.proj.weight",
        "visual.merger.mlp.0.weight",
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "lm_head.weight",
    ];
    for name in names {
        let index = policy.model.weights.index(name).unwrap();
        let start = policy.model.weights.values(index);
        // Along the gradient itself, so that rounding is small beside the difference.
        let norm = gradients[index].iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt();
        let step = 1e-2 / norm.max(1.0);
        let mut at = |sign: f64| {
            let values: Vec<f32> = (start.iter().zip(&gradients[index]))
                .map(|(w, g)| (f64::from(*w) + sign * step * f64::from(*g) / norm) as f32)
                .collect();
            policy.model.weights.set(index, &values);
            uneven(&policy.score_sequences(&sequences, 1.0, Weights::Current).unwrap()).value
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
        policy.model.weights.set(index, &start);
        println!("{name}: {slope:.5} for {norm:.5}");
        assert!((slope / norm - 1.0).abs() < 0.03, "{name}: {slope} for {norm}");
    }
}

#[test]
fn masked_tokens_have_no_gradient() {
    let mut policy = policy("single_image");
    let plans = groups(&policy, &[2, 3, 3]);
    let mut done = run(&mut policy, &plans, &Sampling::default());
    let positions = trained(&done);
    let total: usize = positions.iter().map(Vec::len).sum();
    // Trajectory 4, and the last three tokens of every other one, are masked.
    let mut mask = vec![1.0f32; total];
    let mut at = 0;
    for (i, positions) in positions.iter().enumerate() {
        let masked = if i == 4 { positions.len() } else { 3 };
        mask[at + positions.len() - masked..at + positions.len()].fill(0.0);
        at += positions.len();
    }
    let gradients = |done: &[Trajectory]| {
        let sequences: Vec<_> = rows(done, &positions).iter().map(sequence).collect();
        let loss = &mut |scores: &imagent_core::TokenScores| {
            let mut loss = uneven(scores);
            loss.d_logprobs
                .iter_mut()
                .chain(&mut loss.d_entropies)
                .zip(mask.iter().chain(&mask))
                .for_each(|(d, m)| *d *= m);
            loss
        };
        policy.gradients(&sequences, 1.0, loss).unwrap().1.concat()
    };
    let before = gradients(&done);
    for (i, trajectory) in done.iter_mut().enumerate() {
        let masked = if i == 4 { positions[i].len() } else { 3 };
        for &position in &positions[i][positions[i].len() - masked..] {
            trajectory.ids[position] = 40 + (trajectory.ids[position] + 7) % 600;
        }
    }
    let after = gradients(&done);
    assert!(before.iter().any(|g| *g != 0.0));
    assert!(before.iter().zip(&after).all(|(a, b)| a == b));
    let sequences: Vec<_> = rows(&done, &positions).iter().map(sequence).collect();
    let nothing = &mut |scores: &imagent_core::TokenScores| TokenLoss {
        d_logprobs: vec![0.0; scores.logprobs.len()],
        ..TokenLoss::default()
    };
    let (_, zero) = policy.gradients(&sequences, 1.0, nothing).unwrap();
    assert!(zero.iter().flatten().all(|g| *g == 0.0));
}

#[test]
fn limits_end_turns_and_trajectories() {
    let mut policy = policy("single_image");
    let prompt = prompt(&policy, 1, 0);
    let len = prompt.ids.len();
    let room = [(5, len + 3, 3), (2, 10_000, 2), (4, len, 0), (4, len - 1, 0), (0, 10_000, 0)];
    let prompts: Vec<PolicyPrompt> = room
        .iter()
        .map(|&(max_new_tokens, max_tokens, _)| PolicyPrompt {
            prompt: Arc::clone(&prompt),
            key: Key(4),
            max_new_tokens,
            max_tokens,
        })
        .collect();
    let seen = Mutex::new(vec![None; room.len()]);
    policy
        .rollout(&prompts, &Sampling::default(), &|i, turn| {
            assert!(seen.lock().unwrap()[i].replace((turn.ids.len(), turn.stop)).is_none());
            Ok(Next::End)
        })
        .unwrap();
    let seen = seen.into_inner().unwrap();
    for (seen, (_, _, expected)) in seen.iter().zip(room) {
        let (len, stop) = seen.unwrap();
        assert!(len == expected && stop == StopReason::Length || len < expected && stop == StopReason::EndOfTurn);
    }
    policy.rollout(&[], &Sampling::default(), &|_, _| Ok(Next::End)).unwrap();
    assert!(policy.score(&[], 1.0, Weights::Current).unwrap().logprobs.is_empty());
    let idle = start(&prompt, 0);
    let row = ScoreRow { trajectory: &idle, positions: &[] };
    assert!(policy.score(&[row], 1.0, Weights::Current).unwrap().logprobs.is_empty());
    assert_eq!(policy.update(&[row], 1.0, &mut uneven).unwrap().grad_norm, 0.0);
    assert_eq!(policy.update(&[], 1.0, &mut uneven).unwrap().grad_norm, 0.0);
}

#[test]
fn a_conversation_built_turn_by_turn_has_the_tokens_of_the_template() {
    let policy = policy("tool_turn");
    let (codec, encoder) = (policy.codec(), policy.encoder());
    let pictures = [picture(90, 70, 1), picture(56, 84, 2), picture(30, 200, 3)];
    let user = Message { role: Role::User, content: vec![Content::Image, Content::text("What time is it?")] };
    let calls = ["<think>Small.</think>\n<tool_call>\n{\"name\": \"zoom_in\"}\n</tool_call>", "<answer>7:30</answer>"];
    let seen = Message {
        role: Role::User,
        content: vec![
            Content::text("<tool_response>Here are the pictures: "),
            Content::Image,
            Content::Image,
            Content::text("</tool_response>"),
        ],
    };
    let said = |i: usize| Message::text(Role::Assistant, calls[i]);
    let chat = [user.clone(), said(0), seen, said(1)];
    let at_once = codec.segment(&codec.render(&chat, &[], false).unwrap(), &pictures).unwrap();

    let mut whole = start(&encoder.prompt(&[user], &[], &pictures[..1]).unwrap(), 0);
    let scripted = |i: usize| Segment { ids: encoder.scripted_turn(calls[i]).unwrap(), images: vec![] };
    append(&mut whole, &scripted(0), Origin::Sampled);
    let image = |picture: &Arc<RgbImage>| ObservationImage { pixels: Arc::clone(picture), origin: None };
    let seen =
        Observation { text: "Here are the pictures: ".into(), images: pictures[1..].iter().map(image).collect() };
    append(&mut whole, &encoder.observation(&seen, true).unwrap(), Origin::Observation);
    append(&mut whole, &scripted(1), Origin::Sampled);
    // The template ends the last line too.
    assert_eq!(whole.ids, at_once.ids[..at_once.ids.len() - 1]);
    let starts = |images: &[SegmentImage]| images.iter().map(|image| image.start).collect::<Vec<_>>();
    assert_eq!(whole.spans.iter().map(|span| span.start).collect::<Vec<_>>(), starts(&at_once.images));
}

#[test]
fn a_rollout_is_the_same_whether_its_weights_are_trained_or_left_in_the_files() {
    for case in ["single_image", "three_images"] {
        let mut trained = policy(case);
        let dir = parity().join(case).join("checkpoint");
        let mut stored = QwenPolicy::open_for_inference(&dir, Cpu::default(), None).unwrap();
        let plans = groups(&trained, &[2, 3, 1, 2]);
        let (a, b) = (run(&mut trained, &plans, &Sampling::default()), run(&mut stored, &plans, &Sampling::default()));
        for (a, b) in a.iter().zip(&b) {
            let bits = |t: &Trajectory| t.logprobs.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(a.ids == b.ids && bits(a) == bits(b), "{case}");
        }
        let positions = positions(&a);
        let scores = |p: &QwenPolicy<Cpu>| p.score(&rows(&a, &positions), 0.8, Weights::Current).unwrap();
        let (ours, theirs) = (scores(&stored), scores(&trained));
        let errors = [distance(&ours.logprobs, &theirs.logprobs), distance(&ours.entropies, &theirs.entropies)];
        println!("{case}: scores of stored weights: {:.1e} {:.1e}", errors[0], errors[1]);
        assert!(errors.iter().all(|error| *error <= 1e-4));
        let refused = stored.update(&rows(&a, &positions), 1.0, &mut uneven).unwrap_err().to_string();
        assert!(refused.contains("opened for inference"), "{refused}");
    }
}

/// The first turn of a rollout of at most 24 tokens.
fn first_turn(policy: &mut QwenPolicy<Cpu>, prompt: &Arc<Segment>, sampling: &Sampling) -> imagent_core::SampledTurn {
    let prompt = PolicyPrompt {
        prompt: Arc::clone(prompt),
        key: Key::new(1, 2, "stop", 3),
        max_new_tokens: 24,
        max_tokens: 10_000,
    };
    let turns = Mutex::new(Vec::new());
    let on_turn = &|_, turn| {
        turns.lock().unwrap().push(turn);
        Ok(Next::End)
    };
    policy.rollout(&[prompt], sampling, on_turn).unwrap();
    turns.into_inner().unwrap().remove(0)
}

#[test]
fn turns_end_at_stop_tokens_and_stop_texts() {
    let mut policy = policy("single_image");
    let prompt = prompt(&policy, 1, 4);
    let free = first_turn(&mut policy, &prompt, &Sampling::default());
    assert_eq!((free.ids.len(), free.stop), (24, StopReason::Length));
    let place = |id: u32| free.ids.iter().position(|x| *x == id).unwrap();
    let (id, end) = (free.ids[9], place(free.ids[9]) + 1);
    let stopped = |policy: &mut QwenPolicy<Cpu>, sampling: &Sampling, end: usize| {
        let turn = first_turn(policy, &prompt, sampling);
        assert_eq!((turn.ids.as_slice(), turn.stop), (&free.ids[..end], StopReason::Stopped));
        assert_eq!(turn.logprobs, free.logprobs[..end]);
    };
    stopped(&mut policy, &Sampling { stop_tokens: vec![id], ..Sampling::default() }, end);
    // A text that begins in one token and ends in another.
    let codec = Arc::clone(policy.codec());
    let text = |ids: &[u32]| codec.tokenizer.decode(ids, false).unwrap();
    let plain = |i: &usize| {
        let both = text(&free.ids[*i..i + 2]);
        both.is_ascii() && text(&free.ids[*i..=*i]).len() > 1
    };
    let at = (4..22).find(plain).expect("two tokens of plain text");
    let wanted = text(&free.ids[at..at + 2])[1..].to_owned();
    let end = (1..=24).find(|&n| text(&free.ids[..n]).contains(&wanted)).unwrap();
    let stop = vec!["never written".to_owned(), wanted];
    stopped(&mut policy, &Sampling { stop, ..Sampling::default() }, end);
}
