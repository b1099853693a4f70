//! The episode state machine: every end, every error that is an observation, and refusals that leave nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

mod common;

use std::sync::Arc;

use common::{SAY, Say, Show, play, request, show, tools};
use imagent_core::testing::{END, FakeEncoder, FakePolicy, fake_sample};
use imagent_core::{
    Content, Encoder, EndReason, Episode, Limits, Next, Origin, PolicyPrompt, PromptStyle, Role, SampledTurn,
    StopReason, Tool, Toolbox, rollout,
};
use proptest::prelude::*;

const ANSWER: &str = "<answer> 7 </answer>";

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn answered() {
    let t = play(&["<think><answer>1</answer></think><answer> 7 </answer>"], limits());
    assert_eq!((t.end, t.answer.as_deref(), t.calls()), (EndReason::Answered, Some("7"), 0));
    let t = play(&[&format!("{}{ANSWER}", show(28, 1))], limits());
    assert_eq!((t.end, t.calls(), t.used_tool()), (EndReason::Answered, 0, false), "an answer wins over a call");
}

#[test]
fn no_answer_and_malformed() {
    for (text, end) in [
        ("seven", EndReason::NoAnswer),
        ("", EndReason::NoAnswer),
        ("<think><answer>7</answer></think>", EndReason::NoAnswer),
        ("<answer>7", EndReason::Malformed),
        ("7</answer>", EndReason::Malformed),
        ("<tool_call>{}", EndReason::Malformed),
        ("<answer><answer>7</answer></answer>", EndReason::Malformed),
        ("</tool_call><answer>7</answer>", EndReason::Malformed),
    ] {
        let t = play(&[text], limits());
        assert_eq!((t.end, t.answer.as_deref(), t.turns.len()), (end, None, 1), "{text}");
    }
}

#[test]
fn a_call_brings_its_images_and_the_episode_goes_on() {
    let t = play(&[&show(56, 2), ANSWER], limits());
    assert_eq!((t.end, t.calls(), t.used_tool(), t.shelf.len()), (EndReason::Answered, 1, true, 4));
    let tool = t.turns[0].tool.as_ref().unwrap();
    assert_eq!((tool.error.as_deref(), tool.text.as_str(), &tool.images), (None, "seen", &vec![3, 4]));
    assert_eq!(tool.call.as_ref().unwrap().name, "show");
    assert_eq!(t.shelf.root_region(4).unwrap().0, 1);
    let text = play(&[SAY, ANSWER], limits());
    assert_eq!((text.end, text.calls(), text.used_tool()), (EndReason::Answered, 1, false));
}

#[test]
fn what_goes_wrong_is_read_by_the_policy() {
    let unknown = r#"<tool_call>{"name": "dance"}</tool_call>"#;
    let argument = r#"<tool_call>{"name": "show"}</tool_call>"#;
    let two = format!("{SAY}{SAY}");
    for (text, name, message, readable) in [
        (two.as_str(), "several_calls", "one call per turn, got 2", false),
        ("<tool_call>{</tool_call>", "broken_call", "not valid JSON", false),
        ("<tool_call>[]</tool_call>", "broken_call", "not valid JSON", false),
        (r#"<tool_call>{"name": "say", "x": 1}</tool_call>"#, "broken_call", "not valid JSON", false),
        (r#"<tool_call>{"name": "say", "arguments": 1}</tool_call>"#, "broken_call", "not valid JSON", false),
        (unknown, "unknown_tool", "unknown tool dance", true),
        (argument, "missing_argument", "missing argument side", true),
    ] {
        let t = play(&[text, ANSWER], limits());
        assert_eq!((t.end, t.calls(), t.used_tool()), (EndReason::Answered, 1, false), "{text}");
        let tool = t.turns[0].tool.as_ref().unwrap();
        assert_eq!(tool.error.as_deref(), Some(name), "{text}");
        assert!(tool.text.starts_with("Error: ") && tool.text.contains(message), "{}", tool.text);
        assert_eq!(tool.call.is_some(), readable, "{text}");
        let read: Vec<u32> =
            (0..t.ids.len()).filter(|&i| t.origins[i] == Origin::Observation).map(|i| t.ids[i]).collect();
        assert!(FakeEncoder.decode(&read).contains(&tool.text));
    }
}

#[test]
fn turn_limit() {
    let t = play(&[SAY, SAY, SAY], Limits { max_turns: 2, ..limits() });
    assert_eq!((t.end, t.turns.len(), t.calls()), (EndReason::TurnLimit, 2, 2));
    assert_eq!(t.origins.last(), Some(&Origin::Sampled));
    let t = play(&[SAY, ANSWER], Limits { max_turns: 2, ..limits() });
    assert_eq!(t.end, EndReason::Answered);
    let t = play(&["<tool_call>{</tool_call>"], Limits { max_turns: 1, ..limits() });
    assert_eq!(
        (t.end, t.turns[0].tool.as_ref().unwrap().error.as_deref()),
        (EndReason::TurnLimit, Some("broken_call"))
    );
}

#[test]
fn image_limit() {
    let three = Limits { max_images: 3, ..limits() };
    let t = play(&[&show(28, 1), ANSWER], three.clone());
    assert_eq!((t.end, t.shelf.len()), (EndReason::Answered, 3));
    let t = play(&[&show(28, 2), ANSWER], three.clone());
    assert_eq!((t.end, t.shelf.len(), t.turns.len()), (EndReason::ImageLimit, 2, 1));
    assert_eq!(t.origins.last(), Some(&Origin::Sampled));
    assert!(!t.used_tool());
    let t = play(&[&show(28, 1), SAY, ANSWER], three);
    assert_eq!(t.end, EndReason::Answered, "an observation without images always fits");
}

#[test]
fn length_limit_of_a_turn() {
    let t = play(&[ANSWER], Limits { max_new_tokens: ANSWER.len() + 1, ..limits() });
    assert_eq!(t.end, EndReason::Answered);
    let t = play(&[ANSWER], Limits { max_new_tokens: ANSWER.len(), ..limits() });
    assert_eq!((t.end, t.answer.as_deref(), t.sampled_len()), (EndReason::LengthLimit, None, ANSWER.len()));
}

#[test]
fn an_observation_that_does_not_fit_is_refused_whole() {
    let call = show(100, 2);
    let whole = play(&[&call, ANSWER], limits());
    let needed = whole.turns[1].tokens.start;
    // It has to leave room for at least one more token.
    let t = play(&[&call, ANSWER], Limits { max_tokens: needed, ..limits() });
    assert_eq!((t.end, t.turns.len(), t.shelf.len(), t.spans.len()), (EndReason::LengthLimit, 1, 2, 2));
    assert_eq!(t.ids.len(), whole.turns[0].tokens.end);
    assert!(t.ids.len() < needed && !t.used_tool());
    let t = play(&[&call, ANSWER], Limits { max_tokens: needed + 1, ..limits() });
    assert_eq!((t.end, t.turns.len(), t.shelf.len()), (EndReason::LengthLimit, 2, 4));
    assert_eq!(t.ids.len(), needed + 1);
}

#[test]
fn a_prompt_beyond_the_limit_ends_at_once() {
    let t = play(&[ANSWER], Limits { max_tokens: 3, ..limits() });
    assert_eq!((t.end, t.sampled_len(), t.turns.len()), (EndReason::LengthLimit, 0, 1));
}

#[test]
fn the_answer_is_read_from_sampled_text_only() {
    // The question, the tool's text and the fake template's all hold a complete answer.
    let t = play(&[SAY, "I do not know"], limits());
    let context = FakeEncoder.decode(&t.ids);
    assert!(context.contains("<answer>no</answer>") && context.contains("<answer>said</answer>"));
    assert!(context.contains("<answer>template</answer>"));
    assert_eq!((t.end, t.answer.as_deref()), (EndReason::NoAnswer, None));
    assert!(t.sampled_text().all(|text| !text.contains("<answer>")));
}

#[test]
fn prompts_name_their_images_in_order() {
    let style = PromptStyle { system: "S".into(), suffix: "!".into(), number_images: true };
    let messages = style.messages(&fake_sample("a", 2, "Q?", ""));
    assert_eq!((messages.len(), messages[0].role), (2, Role::System));
    let text = |text: &str| Content::text(text);
    let expected = [text("Picture 1: "), Content::Image, text("Picture 2: "), Content::Image, text("Q?!")];
    assert_eq!(messages[1].content, expected);
    let plain = PromptStyle::default().messages(&fake_sample("a", 1, "Q?", ""));
    assert_eq!((plain.len(), plain[0].content.as_slice()), (1, &[Content::Image, text("Q?")][..]));
}

#[test]
fn static_and_dynamic_toolboxes_play_the_same_episode() {
    let boxed: Vec<Box<dyn Tool>> = serde_json::from_str(r#"[{"type": "test_show"}, {"type": "test_say"}]"#).unwrap();
    fn run<T: Toolbox + ?Sized>(toolbox: &T) -> Vec<u32> {
        let turns = [show(30, 1), SAY.to_owned(), ANSWER.to_owned()];
        let mut policy = FakePolicy::new(move |_, turn| turns[turn].clone());
        let samples = [fake_sample("s", 1, "Q", "7")];
        rollout(&mut policy, toolbox, &samples, &request(1, Limits::default())).unwrap().remove(0).remove(0).ids
    }
    assert_eq!(run(&tools()), run(&boxed));
    assert_eq!(run(&((Show {}, ()), Say {})), run(&boxed));
}

#[test]
fn rollouts_of_a_group_share_the_prompt_and_have_keys_of_their_own() {
    /// Looks at the prompts and plays nothing.
    struct Look(Vec<PolicyPrompt>);
    impl imagent_core::Policy for Look {
        fn encoder(&self) -> Arc<dyn Encoder> {
            Arc::new(FakeEncoder)
        }
        fn rollout(
            &mut self,
            prompts: &[PolicyPrompt],
            _: &imagent_core::Sampling,
            _: &imagent_core::OnTurn<'_>,
        ) -> Result<(), imagent_core::PolicyError> {
            self.0 = prompts.to_vec();
            Ok(())
        }
        fn score(
            &self,
            _: &[imagent_core::ScoreRow<'_>],
            _: f32,
            _: imagent_core::Weights,
        ) -> Result<imagent_core::TokenScores, imagent_core::PolicyError> {
            Err(imagent_core::PolicyError::Stopped)
        }
        fn update(
            &mut self,
            _: &[imagent_core::ScoreRow<'_>],
            _: f32,
            _: &mut dyn FnMut(&imagent_core::TokenScores) -> imagent_core::TokenLoss,
        ) -> Result<imagent_core::UpdateReport, imagent_core::PolicyError> {
            Err(imagent_core::PolicyError::Stopped)
        }
    }
    let mut policy = Look(Vec::new());
    let samples = [fake_sample("a", 1, "Q", ""), fake_sample("b", 1, "Q", "")];
    let groups = rollout(&mut policy, &(), &samples, &request(3, limits())).unwrap();
    assert!(groups.iter().flatten().all(|t| t.turns.is_empty() && t.end == EndReason::LengthLimit));
    let prompts = policy.0;
    assert!(
        Arc::ptr_eq(&prompts[0].prompt, &prompts[2].prompt) && !Arc::ptr_eq(&prompts[2].prompt, &prompts[3].prompt)
    );
    let keys: std::collections::HashSet<_> = prompts.iter().map(|prompt| prompt.key).collect();
    assert_eq!(keys.len(), 6);
}

proptest! {
    /// Whatever ids a policy samples (broken UTF-8, end tokens in the middle), they are kept as they are.
    #[test]
    fn any_ids_are_kept(
        turns in prop::collection::vec(
            (prop::collection::vec(prop_oneof![0u32..256, Just(END), 258u32..1000], 0..30), any::<bool>()), 1..4),
    ) {
        let sample = fake_sample("s", 1, "Q", "");
        let prompt = FakeEncoder.prompt(&PromptStyle::default().messages(&sample), &[], &sample.images).unwrap();
        let mut episode = Episode::start(sample, 0, &prompt, limits());
        let mut kept = Vec::new();
        for (ids, call) in turns {
            // Every second turn has a call at its end, so that the episode goes on.
            let call = if call { FakeEncoder.scripted_turn(SAY).unwrap() } else { Vec::new() };
            let ids = [ids, call].concat();
            kept.extend_from_slice(&ids);
            let turn = SampledTurn { logprobs: vec![-0.5; ids.len()], ids, stop: StopReason::EndOfTurn };
            if matches!(episode.on_turn(&turn, &Say {}, &FakeEncoder).unwrap(), Next::End) {
                break;
            }
        }
        let t = episode.finish();
        prop_assert_eq!(t.sampled().map(|i| t.ids[i]).collect::<Vec<_>>(), kept);
        prop_assert_eq!(t.ids.len(), t.logprobs.len());
    }
}
