//! What the tests of core share: tools, a reward, masks and an optimiser of their own, a policy that remembers what it
//! sampled, and episodes of any kind.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use image::RgbImage;
use imagent_core::testing::{FakePolicy, fake_sample};
use imagent_core::{
    Arguments, CropOrigin, Encoder, ImageShelf, Limits, Mask, Observation, ObservationImage, OnTurn, Origin, Policy,
    PolicyError, PolicyOptimizer, PolicyPrompt, PromptStyle, Reward, RolloutRequest, Sample, SampledTurn, Sampling,
    Score, ScoreRow, TokenBatch, TokenLoss, TokenScores, Tool, ToolError, ToolSpec, Trajectory, UpdateReport, Weights,
    rollout,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

fn spec(name: &str) -> ToolSpec {
    ToolSpec { name: name.to_owned(), description: String::new(), parameters: json!({"type": "object"}) }
}

/// Returns `count` images of `side` × `side` pixels, said to show all of image 1.
#[derive(Debug, Serialize, Deserialize)]
pub struct Show {}

#[typetag::serde(name = "test_show")]
impl Tool for Show {
    fn spec(&self) -> ToolSpec {
        spec("show")
    }
    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        let number = |name: &'static str| arguments.get(name).and_then(serde_json::Value::as_u64);
        let side = number("side").ok_or(ToolError::MissingArgument("side"))? as u32;
        let (image, bbox) = images.root_region(1).ok_or(ToolError::NoImage { index: 1, count: 0 })?;
        let show = |_| ObservationImage {
            pixels: Arc::new(RgbImage::new(side, side)),
            origin: Some(CropOrigin::new(image, bbox)),
        };
        Ok(Observation { text: "seen".to_owned(), images: (0..number("count").unwrap_or(1)).map(show).collect() })
    }
}

/// Returns text, no image.
#[derive(Debug, Serialize, Deserialize)]
pub struct Say {}

#[typetag::serde(name = "test_say")]
impl Tool for Say {
    fn spec(&self) -> ToolSpec {
        spec("say")
    }
    fn call(&self, _: &Arguments, _: &ImageShelf) -> Result<Observation, ToolError> {
        Ok(Observation { text: "<answer>said</answer>".to_owned(), images: Vec::new() })
    }
}

/// 1 for the gold answer; skips samples without one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Equal {}

#[typetag::serde(name = "test_equal")]
impl Reward for Equal {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        if sample.answer.is_empty() {
            return Score::skip("no gold answer");
        }
        let right = trajectory.answer.as_deref() == Some(sample.answer.as_str());
        Score::new(f32::from(u8::from(right)), [("accuracy", f32::from(u8::from(right)))])
    }
}

/// Weight 1 on tokens of the origins in `on`, 0 on all others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Only {
    pub on: Vec<Origin>,
}

#[typetag::serde(name = "test_only")]
impl Mask for Only {
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        for (weight, origin) in weights.iter_mut().zip(&trajectory.origins) {
            *weight *= f32::from(u8::from(self.on.contains(origin)));
        }
    }
}

/// Weight 0 on a trajectory without an answer, which leaves the baseline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answered {}

#[typetag::serde(name = "test_answered")]
impl Mask for Answered {
    fn apply(&self, trajectory: &Trajectory, weights: &mut [f32]) {
        if trajectory.answer.is_none() {
            weights.fill(0.0);
        }
    }
    fn in_baseline(&self, trajectory: &Trajectory) -> bool {
        trajectory.answer.is_some()
    }
}

/// Advantage = reward minus the mean over the baseline.
#[derive(Debug, Serialize, Deserialize)]
pub struct Centre {}

#[typetag::serde(name = "test_centre")]
impl PolicyOptimizer for Centre {
    fn advantages_of(&self, rewards: &[f32], in_baseline: &[bool]) -> Vec<f32> {
        let counted: Vec<f32> = rewards.iter().zip(in_baseline).filter(|(_, b)| **b).map(|(r, _)| *r).collect();
        let mean = counted.iter().sum::<f32>() / counted.len().max(1) as f32;
        rewards.iter().map(|reward| reward - mean).collect()
    }
    fn loss(&self, tokens: &TokenBatch) -> TokenLoss {
        TokenLoss { d_logprobs: vec![0.0; tokens.len()], ..TokenLoss::default() }
    }
}

/// A [`FakePolicy`] that gives every token a log-probability of its own, and remembers what it sampled.
pub struct Recorder {
    pub inner: FakePolicy,
    /// (rollout, turn) in the order of sampling.
    pub sampled: Mutex<Vec<(usize, SampledTurn)>>,
}

impl Recorder {
    pub fn new(script: impl FnMut(usize, usize) -> String + 'static) -> Self {
        Self { inner: FakePolicy::new(script), sampled: Mutex::new(Vec::new()) }
    }
}

impl Policy for Recorder {
    fn encoder(&self) -> Arc<dyn Encoder> {
        self.inner.encoder()
    }
    fn rollout(
        &mut self,
        prompts: &[PolicyPrompt],
        sampling: &Sampling,
        on_turn: &OnTurn<'_>,
    ) -> Result<(), PolicyError> {
        let (sampled, next) = (&self.sampled, AtomicU32::new(0));
        self.inner.rollout(prompts, sampling, &|i, mut turn| {
            for logprob in &mut turn.logprobs {
                *logprob = -((next.fetch_add(1, Ordering::Relaxed) + 1) as f32) / 1024.0;
            }
            sampled.lock().unwrap().push((i, turn.clone()));
            on_turn(i, turn)
        })
    }
    fn score(&self, rows: &[ScoreRow<'_>], temperature: f32, weights: Weights) -> Result<TokenScores, PolicyError> {
        self.inner.score(rows, temperature, weights)
    }
    fn update(
        &mut self,
        rows: &[ScoreRow<'_>],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> Result<UpdateReport, PolicyError> {
        self.inner.update(rows, temperature, loss)
    }
}

pub fn tools() -> (Show, Say) {
    (Show {}, Say {})
}

pub fn request(group_size: usize, limits: Limits) -> RolloutRequest {
    RolloutRequest {
        group_size,
        sampling: Sampling::default(),
        limits,
        prompt: PromptStyle { system: "Be brief.".to_owned(), suffix: " Think.".to_owned(), number_images: true },
        seed: 7,
        round: 0,
    }
}

/// A call of [`Show`].
pub fn show(side: u32, count: u32) -> String {
    format!(r#"<tool_call>{{"name": "show", "arguments": {{"side": {side}, "count": {count}}}}}</tool_call>"#)
}

pub const SAY: &str = r#"<tool_call>{"name": "say"}</tool_call>"#;

/// Plays `turns`, then empty turns, on a sample with two images.
pub fn play(turns: &[&str], limits: Limits) -> Trajectory {
    let script: Vec<String> = turns.iter().map(|&turn| turn.to_owned()).collect();
    let mut policy = FakePolicy::new(move |_, turn| script.get(turn).cloned().unwrap_or_default());
    let sample = fake_sample("s", 2, "What? <answer>no</answer>", "7");
    rollout(&mut policy, &tools(), &[sample], &request(1, limits)).unwrap().remove(0).remove(0)
}

/// A turn of any kind.
pub fn any_turn() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (1u32..150, 0u32..3).prop_map(|(side, count)| show(side, count)),
        2 => Just(SAY.to_owned()),
        1 => Just(format!("{SAY}{SAY}")),
        1 => Just("<tool_call>{</tool_call>".to_owned()),
        1 => Just(r#"<tool_call>{"name": "dance"}</tool_call>"#.to_owned()),
        1 => Just(r#"<tool_call>{"name": "show"}</tool_call>"#.to_owned()),
        1 => "<answer>[0-9]</answer>",
        1 => "<answer>.{0,9}",
        1 => ".{0,40}",
    ]
}

/// The turns of several rollouts.
pub fn any_script() -> impl Strategy<Value = Vec<Vec<String>>> {
    prop::collection::vec(prop::collection::vec(any_turn(), 0..8), 1..5)
}

pub fn any_limits() -> impl Strategy<Value = Limits> {
    (0usize..7, 1usize..300, 100usize..900, 0usize..8).prop_map(
        |(max_turns, max_new_tokens, max_tokens, max_images)| Limits {
            max_turns,
            max_new_tokens,
            max_tokens,
            max_images,
        },
    )
}

/// Rollout `i` plays `script[i]`; two samples share the rollouts.
pub fn record(script: Vec<Vec<String>>, limits: Limits) -> (Vec<Trajectory>, Vec<(usize, SampledTurn)>) {
    let size = script.len();
    let samples = [fake_sample("a", 1, "One?", "1"), fake_sample("b", 3, "Three?", "3")];
    let text = move |i: usize, turn: usize| script[i % script.len()].get(turn).cloned().unwrap_or_default();
    let mut policy = Recorder::new(text);
    let groups = rollout(&mut policy, &tools(), &samples, &request(size, limits)).unwrap();
    assert!(groups.iter().all(|group| group.len() == size));
    (groups.into_iter().flatten().collect(), policy.sampled.into_inner().unwrap())
}
