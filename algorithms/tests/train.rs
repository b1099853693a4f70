//! The train loop over a fake policy: what flows where, the same twice, resumed, and with parts static or dynamic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use common::{Crop, Exact, answer, crop, sample};
use imagent_algorithms::{
    ActionMask, Flow, Grpo, SampleCursor, StepReport, TrainError, TrainSettings, TrajectoryMask, train,
};
use imagent_core::testing::FakePolicy;
use imagent_core::{
    EndReason, Limits, Mask, MaskSet, Origin, PolicyOptimizer, Reward, Sample, SampleError, SampleSource, Tool,
    Toolbox, TrainBatch,
};

const GOLD: [f64; 4] = [10.0, 10.0, 20.0, 20.0];

fn samples(n: usize) -> Vec<Arc<Sample>> {
    (0..n).map(|i| sample(&format!("s{i}"), "read", Some(1), Some(GOLD))).collect()
}

fn settings() -> TrainSettings {
    let limits = Limits { max_turns: 3, max_new_tokens: 120, ..Limits::default() };
    TrainSettings { steps: 4, prompts_per_step: 3, group_size: 4, seed: 5, limits, ..TrainSettings::default() }
}

/// Of four rollouts: zoom and answer right; answer wrong; zoom and answer right, in more words; run out of tokens.
fn policy() -> FakePolicy {
    FakePolicy::new(|rollout, turn| match (rollout % 4, turn) {
        (0 | 2, 0) => crop(2, [5.0, 5.0, 25.0, 25.0]),
        (0, _) => answer("7"),
        (2, _) => format!("<think>{}</think>{}", "so ".repeat(9), answer("7")),
        (1, _) => answer("8"),
        _ => "er ".repeat(99),
    })
}

fn masks() -> (ActionMask, TrajectoryMask) {
    (ActionMask {}, TrajectoryMask::default())
}

/// Reports without their times, which differ from run to run.
fn untimed(report: &StepReport) -> StepReport {
    let stages: Vec<&str> = report.seconds.keys().copied().collect();
    assert_eq!(stages, ["reward", "rollout", "score", "update"]);
    StepReport { seconds: Default::default(), ..report.clone() }
}

type Run = (Vec<StepReport>, Vec<TrainBatch>, usize);

fn run_with<T, R, M, O>(
    policy: &mut FakePolicy,
    parts: (&T, &R, &M, &O),
    settings: &TrainSettings,
    first_step: usize,
    data: &dyn SampleSource,
) -> Run
where
    T: Toolbox + ?Sized,
    R: Reward + ?Sized,
    M: MaskSet + ?Sized,
    O: PolicyOptimizer + ?Sized,
{
    let (mut reports, mut batches) = (Vec::new(), Vec::new());
    let mut watch = |_: &mut FakePolicy, report: &StepReport, batch: &TrainBatch| {
        reports.push(untimed(report));
        batches.push(batch.clone());
        Ok(Flow::Continue)
    };
    let (toolbox, reward, masks, optimizer) = parts;
    let done = train(policy, toolbox, reward, masks, optimizer, data, settings, first_step, &mut watch).unwrap();
    (reports, batches, done)
}

fn run(policy: &mut FakePolicy, grpo: &Grpo, settings: &TrainSettings, first_step: usize) -> Run {
    run_with(policy, (&Crop {}, &Exact::default(), &masks(), grpo), settings, first_step, &samples(5))
}

#[test]
fn reports_are_as_expected() {
    let mut policy = policy();
    let (reports, batches, done) = run(&mut policy, &Grpo::default(), &settings(), 0);
    assert_eq!((reports.len(), done, policy.updates.len()), (4, 4, 4));
    for (step, report) in reports.iter().enumerate() {
        assert_eq!(report.step, step);
        let m = &report.metrics;
        assert_eq!((m["accuracy"], m["tool_rate"], m["end/length_limit"]), (0.5, 0.5, 0.25));
        assert_eq!((m["zoom/hit"], m["zoom/reading"], m["flat_groups"]), (1.0, 1.0, 0.0));
        assert_eq!((m["update/count"], m["update/skipped"]), (1.0, 0.0));
        assert_eq!((m["update/ratio_max"], m["update/approx_kl"], m["update/clip_fraction"]), (1.0, 0.0, 0.0));
        assert_eq!(m["update/loss_tokens"], policy.updates[step].d_logprobs.len() as f64);
        for name in m.keys() {
            assert!(common::is_listed(name), "{name} is not in METRICS");
        }
    }
    // 12 prompts from 5 samples: every five in a row are all five.
    let ids: Vec<&str> =
        batches.iter().flat_map(|b| b.rows.iter().step_by(4)).map(|r| r.scored.trajectory.sample.id.as_str()).collect();
    assert_eq!(ids.len(), 12);
    ids.chunks_exact(5).for_each(|epoch| assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), 5));
}

#[test]
fn the_same_twice_and_resumed() {
    for grpo in [Grpo::default(), Grpo { kl_coef: 0.1, entropy_coef: 0.01, ..Grpo::default() }] {
        let settings = TrainSettings { minibatches: 2, epochs: 2, ..settings() };
        let (whole, _, _) = run(&mut policy(), &grpo, &settings, 0);
        assert_eq!(run(&mut policy(), &grpo, &settings, 0).0, whole);
        assert!(whole[3].metrics["update/count"] == 4.0 && whole[3].metrics["update/loss"] != 0.0);
        for k in 0..=4 {
            let mut policy = policy();
            let (mut reports, _, done) = run(&mut policy, &grpo, &TrainSettings { steps: k, ..settings.clone() }, 0);
            assert_eq!(done, k);
            let (rest, _, done) = run(&mut policy, &grpo, &settings, k);
            reports.extend(rest);
            assert_eq!((reports, done), (whole.clone(), 4));
        }
    }
    assert_eq!(run(&mut policy(), &Grpo::default(), &settings(), 9).2, 9);
}

#[test]
fn static_and_dynamic_parts_are_the_same() {
    let grpo = Grpo { kl_coef: 0.05, ..Grpo::default() };
    let settings = TrainSettings { minibatches: 2, ..settings() };
    let (want, _, _) = run(&mut policy(), &grpo, &settings, 0);
    let tools: Vec<Box<dyn Tool>> = serde_json::from_str(r#"[{"type": "test_crop"}]"#).unwrap();
    let reward: Box<dyn Reward> = serde_json::from_str(r#"{"type": "test_exact"}"#).unwrap();
    let masks: Vec<Box<dyn Mask>> = serde_json::from_str(r#"[{"type": "action"}, {"type": "trajectory"}]"#).unwrap();
    let optimizer: Box<dyn PolicyOptimizer> = serde_json::from_str(r#"{"type": "grpo", "kl_coef": 0.05}"#).unwrap();
    let parts = (&tools, reward.as_ref(), &masks, optimizer.as_ref());
    assert_eq!(run_with(&mut policy(), parts, &settings, 0, &samples(5)).0, want);
}

#[test]
fn masks_and_advantages_reach_the_loss() {
    let mut policy = policy();
    let (_, batches, _) = run(&mut policy, &Grpo::default(), &TrainSettings { steps: 1, ..settings() }, 0);
    let rows = &batches[0].rows;
    assert_eq!(rows.len(), 12);
    // Rewards 1, 0, 1, 0: deviation √(1/3).
    let advantage = 0.5 / (1.0f32 / 3.0).sqrt();
    let mut live = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let trajectory = &row.scored.trajectory;
        assert!((row.advantage.abs() - advantage).abs() < 1e-4);
        assert_eq!(row.advantage > 0.0, i % 2 == 0);
        assert!(row.positions.iter().all(|&at| trajectory.origins[at] == Origin::Sampled));
        let cut = trajectory.end == EndReason::LengthLimit;
        assert_eq!(cut, i % 4 == 3);
        assert!(row.loss_mask.iter().all(|&weight| weight == if cut { 0.0 } else { 1.0 }));
        if !cut {
            live.push(row);
        }
    }
    // The model computes the rows with weight only, each token with its −A / tokens.
    let slopes = &policy.updates[0].d_logprobs;
    let tokens: usize = live.iter().map(|row| row.positions.len()).sum();
    assert_eq!(slopes.len(), tokens);
    let want = live.iter().flat_map(|row| vec![-row.advantage / tokens as f32; row.positions.len()]);
    assert!(slopes.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-7));
}

#[test]
fn without_masks_observations_are_trained_on_and_scored_first_where_two_updates_follow() {
    let parts = (&Crop {}, &Exact::default(), &(), &Grpo { kl_coef: 0.1, ..Grpo::default() });
    let one = TrainSettings { steps: 1, ..settings() };
    for (settings, scored) in [(one.clone(), false), (TrainSettings { minibatches: 2, ..one }, true)] {
        let (reports, batches, _) = run_with(&mut policy(), parts, &settings, 0, &samples(5));
        assert_eq!(reports[0].metrics["update/count"], settings.minibatches as f64);
        for row in &batches[0].rows {
            let t = &row.scored.trajectory;
            let observed = row.positions.iter().any(|&at| t.origins[at] == Origin::Observation);
            assert_eq!(observed, t.used_tool());
            assert_eq!(row.old_logprobs.is_some(), !observed || scored);
            assert_eq!(row.ref_logprobs.as_ref().unwrap().len(), row.positions.len());
        }
    }
}

#[test]
fn updates_without_weight_or_gradient_are_skipped_and_counted() {
    let settings = TrainSettings { steps: 1, minibatches: 2, epochs: 2, ..settings() };
    let right = || FakePolicy::new(|_, _| answer("7"));
    let cut = || FakePolicy::new(|rollout, _| if rollout % 2 == 0 { "er ".repeat(99) } else { "hm".into() });
    let skipped = |mut policy: FakePolicy, grpo: &Grpo, settings: &TrainSettings| {
        let (reports, _, _) = run(&mut policy, grpo, settings, 0);
        let m = &reports[0].metrics;
        assert_eq!(m["update/count"], policy.updates.len() as f64);
        assert_eq!(m.contains_key("update/loss"), !policy.updates.is_empty());
        m["update/skipped"]
    };
    assert_eq!(skipped(right(), &Grpo::default(), &settings), 4.0);
    assert_eq!(skipped(cut(), &Grpo { kl_coef: 0.1, ..Grpo::default() }, &settings), 4.0);
    // A KL term or an entropy bonus pushes without advantages; dropped groups are not pushed at all.
    let kl = Grpo { kl_coef: 0.1, ..Grpo::default() };
    assert_eq!(skipped(right(), &kl, &settings), 0.0);
    assert_eq!(skipped(right(), &Grpo { entropy_coef: 0.1, ..Grpo::default() }, &settings), 0.0);
    let dropping = TrainSettings { drop_flat_groups: true, ..settings.clone() };
    assert_eq!(skipped(right(), &kl, &dropping), 4.0);
    // A clip so tight that only the policy itself is inside still has a gradient there.
    assert_eq!(skipped(policy(), &Grpo { clip_low: 0.0, clip_high: 0.0, ..Grpo::default() }, &settings), 0.0);
}

#[test]
fn dropped_groups_stay_in_what_the_observer_sees() {
    let script = |rollout: usize, _| answer(if matches!(rollout, 0 | 2) { "8" } else { "7" });
    let mut policy = FakePolicy::new(script);
    let settings = TrainSettings { steps: 1, drop_flat_groups: true, ..settings() };
    let (reports, batches, _) = run(&mut policy, &Grpo::default(), &settings, 0);
    assert_eq!(batches[0].rows.len(), 12);
    assert!((reports[0].metrics["flat_groups"] - 2.0 / 3.0).abs() < 1e-12);
    let kept: usize = batches[0].rows[..4].iter().map(|row| row.positions.len()).sum();
    assert_eq!(policy.updates[0].d_logprobs.len(), kept);
}

#[test]
fn rewards_that_cannot_be_graded_leave_no_rows() {
    let mut policy = FakePolicy::new(|_, _| answer("?"));
    let (reports, batches, _) = run(&mut policy, &Grpo::default(), &settings(), 0);
    assert!(batches.iter().all(|batch| batch.rows.is_empty()));
    assert_eq!((reports[0].metrics["skipped"], reports[0].metrics["update/skipped"]), (1.0, 1.0));
}

#[test]
fn an_observer_can_stop_and_fail() {
    let (data, grpo) = (samples(5), Grpo::default());
    let go = |observer: &mut dyn imagent_algorithms::TrainObserver<FakePolicy>| {
        train(&mut policy(), &Crop {}, &Exact::default(), &masks(), &grpo, &data, &settings(), 0, observer)
    };
    let mut stop = |_: &mut FakePolicy, report: &StepReport, _: &TrainBatch| {
        Ok(if report.step == 1 { Flow::Stop } else { Flow::Continue })
    };
    assert_eq!(go(&mut stop).unwrap(), 2);
    let mut fail = |_: &mut FakePolicy, report: &StepReport, _: &TrainBatch| {
        Err(TrainError::Observer { step: report.step, reason: "disk full".into() })
    };
    assert_eq!(go(&mut fail).unwrap_err().to_string(), "after step 0: disk full");
}

struct Broken;

impl SampleSource for Broken {
    fn len(&self) -> usize {
        3
    }
    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError> {
        Err(SampleError(format!("samples.jsonl:{}: no image", position + 1)))
    }
}

#[test]
fn errors_name_what_is_wrong() {
    let try_with = |settings: &TrainSettings, data: &dyn SampleSource| {
        let mut watch = |_: &mut FakePolicy, _: &StepReport, _: &TrainBatch| Ok(Flow::Continue);
        let grpo = Grpo::default();
        train(&mut policy(), &Crop {}, &Exact::default(), &masks(), &grpo, data, settings, 0, &mut watch).unwrap_err()
    };
    let wrong = TrainSettings { minibatches: 0, ..settings() };
    assert_eq!(try_with(&wrong, &samples(5)).to_string(), "minibatches must be at least 1, got 0");
    assert!(matches!(try_with(&settings(), &samples(0)), TrainError::NoSamples));
    let error = try_with(&settings(), &Broken);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().starts_with("sample at position ") && source.ends_with("no image"), "{error}: {source}");
    let typo = serde_json::from_str::<TrainSettings>(r#"{"group_sise": 4}"#).unwrap_err().to_string();
    assert!(typo.contains("unknown field `group_sise`"), "{typo}");
    for (json, key) in [
        (r#"{"prompts_per_step": 0}"#, "prompts_per_step"),
        (r#"{"epochs": 0}"#, "epochs"),
        (r#"{"limits": {"max_turns": 0}}"#, "limits.max_turns"),
        (r#"{"sampling": {"temperature": 0}}"#, "sampling.temperature"),
        (r#"{"sampling": {"top_p": 1.5}}"#, "sampling.top_p"),
    ] {
        let settings: TrainSettings = serde_json::from_str(json).unwrap();
        assert!(settings.validate().unwrap_err().to_string().starts_with(key), "{json}");
    }
}

/// Samples of which some cannot be had, and what was made ready of them.
struct Remembering {
    samples: Vec<Arc<Sample>>,
    bad: usize,
    ready: Mutex<Vec<usize>>,
}

impl SampleSource for Remembering {
    fn len(&self) -> usize {
        self.samples.len()
    }
    fn get(&self, position: usize) -> Result<Arc<Sample>, SampleError> {
        if position == self.bad {
            return Err(SampleError("bad".into()));
        }
        self.samples.get(position)
    }
    fn prefetch(&self, position: usize) -> Vec<Arc<imagent_core::RgbImage>> {
        self.ready.lock().unwrap().push(position);
        assert!(position != self.bad, "a panic here is nobody's");
        self.samples[position].images.clone()
    }
}

#[test]
fn samples_of_the_next_step_are_made_ready_and_errors_wait_for_their_step() {
    let (settings, grpo) = (settings(), Grpo::default());
    let cursor = SampleCursor { samples: 40, per_step: settings.prompts_per_step, seed: settings.seed };
    let data = Remembering { samples: samples(40), bad: cursor.positions(2)[0], ready: Mutex::default() };
    let mut steps = 0;
    let mut watch = |_: &mut FakePolicy, report: &StepReport, _: &TrainBatch| {
        steps = report.step + 1;
        let wanted = cursor.positions(report.step + 1);
        let began = std::time::Instant::now();
        while !wanted.iter().all(|position| data.ready.lock().unwrap().contains(position)) {
            assert!(began.elapsed().as_secs() < 60, "step {} was not made ready", report.step + 1);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(Flow::Continue)
    };
    let done = train(&mut policy(), &Crop {}, &Exact::default(), &masks(), &grpo, &data, &settings, 0, &mut watch);
    assert!(matches!(done, Err(TrainError::Sample { position, .. }) if position == data.bad));
    assert_eq!(steps, 2, "the steps before are done");
    let all: Vec<usize> = (1..4).flat_map(|step| cursor.positions(step)).collect();
    assert!(data.ready.into_inner().unwrap().iter().all(|position| all.contains(position)), "and nothing else");
}
