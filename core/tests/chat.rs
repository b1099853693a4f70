//! Episodes over a chat model: the same turns, tools, limits and ends as over a policy, in both forms of calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

mod common;

use std::sync::{Arc, Mutex};

use common::{show, tools};
use imagent_core::chat::{
    CallStyle, ChatAgent, ChatCall, ChatChoice, ChatError, ChatModel, ChatPart, ChatReply, ChatRequest, Finish,
    RuleChat, Usage, call_text, describe_tools, split_calls,
};
use imagent_core::testing::fake_sample;
use imagent_core::{
    EndReason, Limits, Origin, PromptStyle, Rgb, RgbImage, Role, RolloutRequest, Size, Trajectory, UNKNOWN_TOKEN,
};

const ANSWER: &str = "<answer> 7 </answer>";

type Asked = Arc<Mutex<Vec<ChatRequest>>>;

fn request(group_size: usize) -> RolloutRequest {
    RolloutRequest { prompt: PromptStyle::default(), ..common::request(group_size, Limits::default()) }
}

/// A model that says these turns, one a question, and what it was asked.
fn script(turns: Vec<ChatChoice>) -> (RuleChat, Asked) {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    let model = RuleChat::new(move |request| {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        let usage = Usage { prompt_tokens: 100 * seen.len(), completion_tokens: 10 };
        let choice = turns[(seen.len() - 1).min(turns.len() - 1)].clone();
        Ok(ChatReply { choices: vec![choice], usage: Some(usage), model: "script".to_owned() })
    });
    (model, asked)
}

fn say(turns: &[&str]) -> (RuleChat, Asked) {
    script(turns.iter().copied().map(ChatChoice::text).collect())
}

/// Twice as large as it is.
fn view(image: &Arc<RgbImage>) -> Result<(Arc<RgbImage>, Size), imagent_core::EncodeError> {
    let (width, height) = (2 * image.width(), 2 * image.height());
    Ok((Arc::new(RgbImage::new(width, height)), Size::new(width, height)))
}

fn play_with(model: &dyn ChatModel, calls: CallStyle, request: &RolloutRequest) -> Result<Trajectory, ChatError> {
    let agent = ChatAgent { model, view: &view, calls, logprobs: false, at_once: 2 };
    let groups = agent.rollout(&tools(), &[fake_sample("a", 2, "Which?", "7")], request)?;
    Ok(groups[0][0].clone())
}

fn play(model: &dyn ChatModel, calls: CallStyle) -> Trajectory {
    play_with(model, calls, &request(1)).unwrap()
}

fn text(request: &ChatRequest, message: usize) -> String {
    let part = |part: &ChatPart| match part {
        ChatPart::Text(text) => text.clone(),
        ChatPart::Image(image) => format!("[{}]", image.pixels().width()),
    };
    request.messages[message].parts.iter().map(part).collect()
}

#[test]
fn calls_in_the_text_are_carried_out_and_shown() {
    let call = show(56, 2);
    let (model, asked) = say(&[&call, ANSWER]);
    let t = play(&model, CallStyle::Text);
    assert_eq!((t.end, t.answer.as_deref(), t.shelf.len()), (EndReason::Answered, Some("7"), 4));
    assert_eq!(t.sampled_text().collect::<Vec<_>>(), [call.as_str(), ANSWER]);
    assert_eq!(t.shelf.get(3).unwrap().sizes.shown.width, 112, "the frame is the image as it was sent");
    let asked = asked.lock().unwrap();
    assert!(asked[0].tools.is_empty() && text(&asked[0], 0).contains("\"name\": \"show\""));
    assert_eq!(text(&asked[0], 1), "[112][112]Which?");
    assert_eq!(
        (text(&asked[1], 2), text(&asked[1], 3)),
        (call, "<tool_response>seen[112][112]</tool_response>".into())
    );
    assert_eq!(asked[1].messages[3].role, Role::User);
}

#[test]
fn calls_of_the_api_are_answered_by_their_ids() {
    let call = ChatCall { id: "c1".into(), name: "show".into(), arguments: r#"{"side": 56, "count": 1}"#.into() };
    let turn = ChatChoice { calls: vec![call.clone()], finish: Finish::Calls, ..ChatChoice::text("I look.") };
    let (model, asked) = script(vec![turn, ChatChoice::text(ANSWER)]);
    let t = play(&model, CallStyle::Api);
    assert_eq!((t.end, t.calls(), t.used_tool()), (EndReason::Answered, 1, true));
    assert_eq!(t.turns[0].text, format!("I look.\n{}", call_text(&call)));
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].tools.len(), 2);
    let [.., said, tool, seen] = asked[1].messages.as_slice() else { panic!("{asked:?}") };
    assert_eq!((said.calls.as_slice(), said.role), ([call].as_slice(), Role::Assistant));
    assert_eq!((tool.role, tool.call_id.as_deref()), (Role::Tool, Some("c1")));
    assert!(seen.role == Role::User && matches!(seen.parts.as_slice(), [ChatPart::Image(_)]));
}

#[test]
fn two_calls_are_one_error_and_both_are_answered() {
    let call = |id: &str| ChatCall { id: id.into(), name: "say".into(), arguments: "{}".into() };
    let turn = ChatChoice { calls: vec![call("a"), call("b")], ..ChatChoice::text("") };
    let (model, _) = script(vec![turn, ChatChoice::text(ANSWER)]);
    let t = play(&model, CallStyle::Api);
    assert_eq!(t.turns[0].tool.as_ref().unwrap().error.as_deref(), Some("several_calls"));
    assert_eq!(t.end, EndReason::Answered);
}

#[test]
fn tokens_are_those_that_the_server_counts() {
    let (model, asked) = say(&[&show(56, 1), ANSWER]);
    let t = play(&model, CallStyle::Text);
    // 100 before the first turn of 10; 200 before the second, so 90 are the observation's.
    assert_eq!((t.prompt_len, t.ids.len(), t.sampled_len()), (100, 210, 20));
    assert_eq!(t.origins.iter().filter(|origin| **origin == Origin::Observation).count(), 90);
    assert!(t.ids.iter().all(|&id| id == UNKNOWN_TOKEN) && t.logprobs.len() == 210);
    assert_eq!(t.turns[1].tokens, 200..210);
    let asked = asked.lock().unwrap();
    assert!(asked[0].seed.is_some() && asked[0].seed != asked[1].seed, "each turn has a seed of its own");
}

#[test]
fn limits_end_an_episode() {
    let limited = |limits: Limits, turns: &[&str]| {
        let (model, asked) = say(turns);
        let t = play_with(&model, CallStyle::Text, &RolloutRequest { limits, ..request(1) }).unwrap();
        (t.end, t.turns.len(), asked.lock().unwrap().iter().map(|asked| asked.max_tokens).collect::<Vec<_>>())
    };
    let base = Limits { max_new_tokens: 50, ..Limits::default() };
    let call = show(56, 1);
    let two = Limits { max_turns: 2, ..base.clone() };
    assert_eq!(limited(two, &[&call]), (EndReason::TurnLimit, 2, vec![Some(50), Some(50)]));
    let images = Limits { max_images: 2, ..base.clone() };
    assert_eq!(limited(images, &[&call]).0, EndReason::ImageLimit);
    // After 100 + 10 tokens 40 are left, and the observation takes them.
    let tokens = Limits { max_tokens: 150, ..base };
    assert_eq!(limited(tokens, &[&call, ANSWER]), (EndReason::LengthLimit, 2, vec![Some(50), Some(40)]));
}

#[test]
fn a_cut_turn_and_a_full_conversation_end_by_length() {
    let (model, _) = script(vec![ChatChoice { finish: Finish::Length, ..ChatChoice::text(ANSWER) }]);
    assert_eq!(play(&model, CallStyle::Text).end, EndReason::LengthLimit);
    let full = RuleChat::new(|_| Err(ChatError::TooLong("too long".into())));
    let t = play(&full, CallStyle::Text);
    assert_eq!((t.end, t.turns.len()), (EndReason::LengthLimit, 1));
    let broken = RuleChat::new(|_| Err(ChatError::Failed("down".into())));
    let error = play_with(&broken, CallStyle::Text, &request(1)).unwrap_err();
    assert_eq!(error.to_string(), "down");
}

#[test]
fn a_stop_text_that_closes_a_tag_belongs_to_the_turn() {
    let (model, _) = say(&["<answer>7"]);
    let mut request = request(1);
    request.sampling.stop = vec!["</tool_call>".into(), "</answer>".into()];
    let t = play_with(&model, CallStyle::Text, &request).unwrap();
    assert_eq!((t.end, t.turns[0].text.as_str()), (EndReason::Answered, "<answer>7</answer>"));
    request.sampling.stop_tokens = vec![3];
    assert!(play_with(&model, CallStyle::Text, &request).unwrap_err().to_string().contains("stop_tokens"));
}

#[test]
fn thought_that_the_server_took_out_is_kept_and_not_sent_back() {
    let first = ChatChoice { reasoning: Some("hm".into()), ..ChatChoice::text(show(56, 1)) };
    let (model, asked) = script(vec![first, ChatChoice::text(ANSWER)]);
    let t = play(&model, CallStyle::Text);
    assert!(t.turns[0].text.starts_with("<think>hm</think>\n<tool_call>"));
    assert!(!text(&asked.lock().unwrap()[1], 2).contains("think"));
}

#[test]
fn results_do_not_depend_on_how_many_are_asked_at_once() {
    let model = RuleChat::new(|request| {
        let text =
            if request.messages.len() == 2 { show(28, 1) } else { format!("<answer>{:?}</answer>", request.seed) };
        Ok(ChatReply::text(text))
    });
    let samples: Vec<_> = (0..5).map(|i| fake_sample(&format!("s{i}"), 1, "?", "7")).collect();
    let answers = |at_once| {
        let agent = ChatAgent { model: &model, view: &view, calls: CallStyle::Text, logprobs: false, at_once };
        let groups = agent.rollout(&tools(), &samples, &request(3)).unwrap();
        let answers = groups.iter().flatten().map(|t| (t.sample.id.clone(), t.index, t.answer.clone()));
        answers.collect::<Vec<_>>()
    };
    let one = answers(1);
    assert_eq!((one.len(), one == answers(7)), (15, true));
    let distinct: std::collections::BTreeSet<_> = one.iter().map(|(_, _, answer)| answer).collect();
    assert_eq!(distinct.len(), 15, "every episode has randomness of its own");
}

#[test]
fn calls_come_out_of_a_text_and_go_back() {
    let mut count = 0;
    let mut id = || {
        count += 1;
        format!("c{count}")
    };
    let text = "<think><tool_call>no</tool_call></think>Look.\n<tool_call>\n{\"name\": \"zoom\", \"arguments\": {\"a\": [1, 2]}}\n</tool_call>";
    let (kept, calls) = split_calls(text, &mut id);
    assert_eq!(kept, "<think><tool_call>no</tool_call></think>Look.");
    assert_eq!(calls, [ChatCall { id: "c1".into(), name: "zoom".into(), arguments: r#"{"a": [1, 2]}"#.into() }]);
    assert_eq!(format!("{kept}\n{}", call_text(&calls[0])), text);
    for whole in
        ["no call", "<tool_call>{}</tool_call>", "<tool_call>{\"name\": \"a\"}", "</tool_call>", "<tool_call>x"]
    {
        assert_eq!(split_calls(whole, &mut id), (whole.to_owned(), Vec::new()));
    }
    assert_eq!(describe_tools(&[]), "");
}

#[test]
fn an_image_is_sent_as_a_png_of_its_pixels() {
    let pixels = Arc::new(RgbImage::from_pixel(3, 2, Rgb([1, 2, 3])));
    let ChatPart::Image(image) = ChatPart::image(Arc::clone(&pixels)) else { panic!() };
    let decoded = imagent_core::picture::decode(image.png().unwrap()).unwrap();
    assert_eq!(decoded, *pixels);
    let ChatPart::Image(empty) = ChatPart::image(Arc::new(RgbImage::new(0, 0))) else { panic!() };
    assert!(empty.png().is_err());
}
