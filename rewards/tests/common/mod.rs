//! Episodes to grade: played by the fake policy, with a tool that looks at image 1.
#![allow(dead_code)]

use std::sync::Arc;

use imagent_core::testing::{FakePolicy, fake_sample};
use imagent_core::{
    Arguments, ImageShelf, Limits, Observation, ObservationImage, PromptStyle, Reward, RolloutRequest, Sampling, Score,
    Tool, ToolError, ToolSpec, Trajectory, rollout,
};
use serde::{Deserialize, Serialize};

/// Shows image 1 again and says the gold answer in its text; with argument `fail`, fails.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Look {}

#[typetag::serde(name = "test_look")]
impl Tool for Look {
    fn spec(&self) -> ToolSpec {
        ToolSpec { name: "look".into(), description: String::new(), parameters: serde_json::json!({}) }
    }
    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        if arguments.contains_key("fail") {
            return Err(ToolError::Other("<answer>seven</answer>".into()));
        }
        let pixels = Arc::clone(&images.get(1).unwrap().pixels);
        let text = "<answer>seven</answer> seven".to_owned();
        Ok(Observation { text, images: vec![ObservationImage { pixels, origin: None }] })
    }
}

pub(crate) const LOOK: &str = r#"<tool_call>{"name": "look", "arguments": {}}</tool_call>"#;
pub(crate) const FAIL: &str = r#"<tool_call>{"name": "look", "arguments": {"fail": 1}}</tool_call>"#;
pub(crate) const RIGHT: &str = "<answer>Seven.</answer>";
pub(crate) const WRONG: &str = "<answer>six</answer>";

pub(crate) fn play_for(gold: &str, turns: &[String]) -> Trajectory {
    let script = turns.to_vec();
    let mut policy = FakePolicy::new(move |_, turn| script.get(turn).cloned().unwrap_or_default());
    let limits = Limits { max_new_tokens: 4000, ..Limits::default() };
    let request = RolloutRequest {
        group_size: 1,
        sampling: Sampling::default(),
        limits,
        prompt: PromptStyle::default(),
        seed: 0,
        round: 0,
    };
    let sample = fake_sample("a", 1, "Which digit? <answer>seven</answer>", gold);
    rollout(&mut policy, &Look {}, &[sample], &request).unwrap().remove(0).remove(0)
}

pub(crate) fn play(turns: &[&str]) -> Trajectory {
    play_for("seven", &turns.iter().map(|&turn| turn.to_owned()).collect::<Vec<_>>())
}

pub(crate) fn score(reward: &dyn Reward, trajectory: &Trajectory) -> Score {
    reward.score(&trajectory.sample, trajectory)
}
