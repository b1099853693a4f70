//! Episodes with tools over a chat model: the same state machine as over a policy, with texts in place of tokens.
//!
//! What the server counts is kept as tokens of unknown id ([`UNKNOWN_TOKEN`]), so that limits, lengths and records mean the same;
//! where it does not count there are none. The view says how an image is sent, and at which size the model sees it: the `Shown` frame.

use std::sync::Arc;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::calls::{call_text, describe_tools};
use super::side_by_side::side_by_side;
use super::{
    ChatCall, ChatChoice, ChatError, ChatImage, ChatMessage, ChatModel, ChatPart, ChatReply, ChatRequest, Finish,
};
use crate::encoder::{EncodeError, Segment, SegmentImage};
use crate::episode::{Episode, RolloutRequest};
use crate::frame::Size;
use crate::message::{Content, Role};
use crate::policy::{Next, SampledTurn, StopReason};
use crate::sample::Sample;
use crate::seed::{Key, derive};
use crate::tool::{ToolSpec, Toolbox};
use crate::trajectory::{Origin, Trajectory, UNKNOWN_TOKEN};

/// How tools are told and called. Calls in either form are understood with both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStyle {
    /// In the text: the system message describes them, `<tool_call>` calls them, what they return is a user's message. Works with any
    /// server, and is what a model of this program was trained on.
    #[default]
    Text,
    /// In the API's fields: `tools`, `tool_calls`, and messages of the role `tool`, their images in a user's message after it.
    Api,
}

/// An image as it is sent, and the size at which the model is shown it.
pub type View<'a> = dyn Fn(&Arc<RgbImage>) -> Result<(Arc<RgbImage>, Size), EncodeError> + Sync + 'a;

/// Plays episodes by asking a chat model.
pub struct ChatAgent<'a> {
    /// Who is asked.
    pub model: &'a dyn ChatModel,
    /// How images are sent.
    pub view: &'a View<'a>,
    /// How tools are told and called.
    pub calls: CallStyle,
    /// Whether to ask for log-probabilities.
    pub logprobs: bool,
    /// Most episodes that are played at once; results do not depend on it, as far as the server's replies do not.
    pub at_once: usize,
}

/// What a turn is answered with.
struct Shown {
    text: String,
    images: Vec<Arc<ChatImage>>,
}

impl ChatAgent<'_> {
    /// Plays `group_size` episodes of each sample; trajectories come back grouped, in order.
    ///
    /// # Errors
    /// When the model cannot be asked or an image cannot be shown: that of the first episode which failed.
    pub fn rollout<T: Toolbox + ?Sized>(
        &self,
        toolbox: &T,
        samples: &[Arc<Sample>],
        request: &RolloutRequest,
    ) -> Result<Vec<Vec<Trajectory>>, ChatError> {
        if !request.sampling.stop_tokens.is_empty() {
            return Err(ChatError::Failed("sampling.stop_tokens: a served model is asked for text, use stop".into()));
        }
        let size = request.group_size.max(1);
        let all = samples.len() * request.group_size;
        let play = |i| self.play(toolbox, &samples[i / size], i % size, request);
        let mut played = side_by_side(all, self.at_once, play).into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
        Ok(samples.iter().map(|_| played.by_ref().take(request.group_size).collect()).collect())
    }

    /// One episode.
    fn play<T: Toolbox + ?Sized>(
        &self,
        toolbox: &T,
        sample: &Arc<Sample>,
        index: usize,
        request: &RolloutRequest,
    ) -> Result<Trajectory, ChatError> {
        let (images, segment) = self.see(&mut sample.images.iter())?;
        let mut episode = Episode::start(Arc::clone(sample), index, &segment, request.limits.clone());
        let specs = toolbox.specs();
        let mut messages = self.opening(sample, &specs, images, request);
        let key = Key::new(request.seed, request.round, &sample.id, index as u64);
        for turn in 0.. {
            let asked = self.question(&messages, &specs, request, episode.len(), derive(key.0, &[turn]));
            let mut choice = match asked.map(|question| self.model.ask(&question)) {
                None | Some(Err(ChatError::TooLong(_))) => cut_off(),
                Some(reply) => count(&mut episode, reply?, turn == 0)?,
            };
            choice.text = closed(choice.text, &request.sampling.stop);
            let (said, turn) = read(&choice, request.limits.max_tokens <= episode.len());
            let mut shown = None;
            let next = episode.on_text(&turn, said, toolbox, &mut |observation, _| {
                let (images, segment) = self.see(&mut observation.images.iter().map(|image| &image.pixels))?;
                shown = Some(Shown { text: observation.text.clone(), images });
                Ok(segment)
            })?;
            match (next, shown) {
                (Next::Observe(_), Some(shown)) => messages.extend(self.exchange(choice, shown)),
                _ => break,
            }
        }
        Ok(episode.finish())
    }

    /// Images as they are sent, and the segment that stands for them.
    fn see(
        &self,
        images: &mut dyn Iterator<Item = &Arc<RgbImage>>,
    ) -> Result<(Vec<Arc<ChatImage>>, Segment), EncodeError> {
        let (mut sent, mut segment) = (Vec::new(), Segment::default());
        for pixels in images {
            let (view, shown) = (self.view)(pixels)?;
            segment.images.push(SegmentImage { start: 0, rows: 0, columns: 0, pixels: Arc::clone(pixels), shown });
            sent.push(Arc::new(ChatImage::new(view)));
        }
        Ok((sent, segment))
    }

    /// The messages that ask a sample.
    fn opening(
        &self,
        sample: &Sample,
        specs: &[ToolSpec],
        images: Vec<Arc<ChatImage>>,
        request: &RolloutRequest,
    ) -> Vec<ChatMessage> {
        let mut images = images.into_iter();
        let mut messages: Vec<ChatMessage> = Vec::new();
        for message in request.prompt.messages(sample) {
            let part = |content| match content {
                Content::Text { text } => Some(ChatPart::Text(text)),
                Content::Image => images.next().map(ChatPart::Image),
            };
            messages.push(ChatMessage::new(message.role, message.content.into_iter().filter_map(part).collect()));
        }
        if self.calls == CallStyle::Text && !specs.is_empty() {
            let tools = describe_tools(specs);
            match messages.first_mut().filter(|message| message.role == Role::System) {
                Some(system) => system.parts.push(ChatPart::Text(tools)),
                None => {
                    messages.insert(0, ChatMessage::text(Role::System, format!("You are a helpful assistant.{tools}")));
                }
            }
        }
        messages
    }

    /// The question of a turn; `None` where no token is left.
    fn question(
        &self,
        messages: &[ChatMessage],
        specs: &[ToolSpec],
        request: &RolloutRequest,
        used: usize,
        seed: u64,
    ) -> Option<ChatRequest> {
        let (limits, sampling) = (&request.limits, &request.sampling);
        let room = limits.max_tokens.saturating_sub(used).min(limits.max_new_tokens);
        (room > 0).then(|| ChatRequest {
            tools: if self.calls == CallStyle::Api { specs.to_vec() } else { Vec::new() },
            max_tokens: Some(room),
            temperature: Some(sampling.temperature),
            top_p: (sampling.top_p < 1.0).then_some(sampling.top_p),
            top_k: (sampling.top_k > 0).then_some(sampling.top_k),
            min_p: (sampling.min_p > 0.0).then_some(sampling.min_p),
            stop: sampling.stop.clone(),
            seed: Some((seed >> 33) as u32),
            logprobs: self.logprobs.then_some(0),
            ..ChatRequest::new(messages.to_vec())
        })
    }

    /// The messages that a turn and what it was answered add to the conversation.
    fn exchange(&self, choice: ChatChoice, shown: Shown) -> Vec<ChatMessage> {
        let images: Vec<ChatPart> = shown.images.into_iter().map(ChatPart::Image).collect();
        if choice.calls.is_empty() || self.calls == CallStyle::Text {
            let said = ChatMessage::text(Role::Assistant, with_calls(choice.text, &choice.calls));
            let mut parts = vec![ChatPart::Text(format!("<tool_response>{}", shown.text))];
            parts.extend(images);
            parts.push(ChatPart::text("</tool_response>"));
            return vec![said, ChatMessage::new(Role::User, parts)];
        }
        let answer = |call: &ChatCall| ChatMessage {
            call_id: Some(call.id.clone()),
            ..ChatMessage::text(Role::Tool, shown.text.clone())
        };
        let answers: Vec<ChatMessage> = choice.calls.iter().map(answer).collect();
        let said = ChatMessage { calls: choice.calls, ..ChatMessage::text(Role::Assistant, choice.text) };
        let seen = (!images.is_empty()).then(|| ChatMessage::new(Role::User, images));
        [said].into_iter().chain(answers).chain(seen).collect()
    }
}

/// A turn that has no room.
fn cut_off() -> ChatChoice {
    ChatChoice { finish: Finish::Length, ..ChatChoice::text("") }
}

/// Takes the only choice out of a reply, and counts in the episode what came before it.
fn count(episode: &mut Episode, reply: ChatReply, first: bool) -> Result<ChatChoice, ChatError> {
    let origin = if first { Origin::Prompt } else { Origin::Observation };
    let before = reply.usage.map_or(0, |usage| usage.prompt_tokens);
    episode.count(before.saturating_sub(episode.len()), origin);
    let mut choices = reply.choices.into_iter();
    let none = || ChatError::Failed("the model replied without a choice".to_owned());
    let mut choice = choices.next().ok_or_else(none)?;
    if choice.tokens.is_none() {
        let counted = reply.usage.map_or(0, |usage| usage.completion_tokens);
        let unknown = super::ChatToken { text: String::new(), logprob: 0.0, top: Vec::new() };
        choice.tokens = Some(vec![unknown; counted]);
    }
    Ok(choice)
}

/// A choice as the text and the tokens of a turn; one in a conversation that is `full` was cut off, whatever the server says.
fn read(choice: &ChatChoice, full: bool) -> (String, SampledTurn) {
    let thought = choice.reasoning.as_ref().filter(|thought| !thought.trim().is_empty());
    let thought = thought.map(|thought| format!("<think>{thought}</think>\n")).unwrap_or_default();
    let text = with_calls(format!("{thought}{}", choice.text), &choice.calls);
    let tokens = choice.tokens.as_deref().unwrap_or_default();
    let length = choice.finish == Finish::Length || full;
    let turn = SampledTurn {
        ids: vec![UNKNOWN_TOKEN; tokens.len()],
        logprobs: tokens.iter().map(|token| token.logprob).collect(),
        stop: if length { StopReason::Length } else { StopReason::EndOfTurn },
    };
    (text, turn)
}

/// The text of a turn, its calls in it.
fn with_calls(mut text: String, calls: &[ChatCall]) -> String {
    for call in calls {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&call_text(call));
    }
    text
}

/// A server cuts the stop text off; one that closes an open tag belongs to the turn.
fn closed(mut text: String, stops: &[String]) -> String {
    let spoken = text.rsplit_once("</think>").map_or(text.as_str(), |(_, after)| after);
    let closes = |stop: &&String| {
        let open = stop.replacen("</", "<", 1);
        stop.starts_with("</") && spoken.matches(&open).count() > spoken.matches(stop.as_str()).count()
    };
    let stop = stops.iter().find(closes).cloned().unwrap_or_default();
    text.push_str(&stop);
    text
}
