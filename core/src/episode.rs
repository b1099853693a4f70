//! The episode state machine, and the rollout that runs many of them over one policy.
//!
//! `prompt → sampled turn → tool call → observation → … → answer`. The machine decides what is appended; the
//! policy only samples.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::encoder::{EncodeError, Encoder, Segment};
use crate::image::ImageShelf;
use crate::message::{Content, Message, Role};
use crate::policy::{Next, Policy, PolicyError, PolicyPrompt, SampledTurn, Sampling, StopReason};
use crate::sample::Sample;
use crate::seed::Key;
use crate::tool::{Observation, ToolError, Toolbox};
use crate::trajectory::{EndReason, Origin, ToolOutcome, Trajectory, TurnRecord, UNKNOWN_TOKEN};
use crate::turn::{Action, ToolCall, parse_turn};

/// How far an episode may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most turns of an episode; a tool call in the last one ends it.
    pub max_turns: usize,
    /// Most tokens of one turn.
    pub max_new_tokens: usize,
    /// Most tokens of the whole trajectory, prompt and images included.
    pub max_tokens: usize,
    /// Most images on the shelf, the sample's own included.
    pub max_images: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_turns: 5, max_new_tokens: 1024, max_tokens: 16_384, max_images: 32 }
    }
}

/// How a sample becomes the messages of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptStyle {
    /// The system message; empty leaves it to the chat template.
    pub system: String,
    /// Text put after the question.
    pub suffix: String,
    /// Puts `Picture N: ` before each image.
    pub number_images: bool,
}

impl PromptStyle {
    /// The messages that ask `sample`: its images in order, then the question.
    pub fn messages(&self, sample: &Sample) -> Vec<Message> {
        self.messages_after(sample, 0)
    }

    /// The same where the first `shown` of the images were shown before the question.
    pub fn messages_after(&self, sample: &Sample, shown: usize) -> Vec<Message> {
        let mut content = Vec::new();
        for index in shown + 1..=sample.images.len() {
            if self.number_images {
                content.push(Content::text(format!("Picture {index}: ")));
            }
            content.push(Content::Image);
        }
        content.push(Content::text(format!("{}{}", sample.question, self.suffix)));
        let system = (!self.system.is_empty()).then(|| Message::text(Role::System, self.system.clone()));
        system.into_iter().chain([Message { role: Role::User, content }]).collect()
    }
}

/// The tokens that stand for an observation, after a turn that its end token did or did not end.
pub type Show<'a> = dyn FnMut(&Observation, bool) -> Result<Segment, EncodeError> + 'a;

/// One episode in progress.
#[derive(Debug)]
pub struct Episode {
    trajectory: Trajectory,
    limits: Limits,
}

impl Episode {
    /// Starts an episode on a prompt that holds the sample's images.
    pub fn start(sample: Arc<Sample>, index: usize, prompt: &Segment, limits: Limits) -> Self {
        let mut trajectory = Trajectory {
            sample,
            index,
            prompt_len: prompt.ids.len(),
            ids: Vec::new(),
            origins: Vec::new(),
            logprobs: Vec::new(),
            spans: Vec::new(),
            shelf: ImageShelf::new(),
            turns: Vec::new(),
            answer: None,
            end: EndReason::LengthLimit,
        };
        for image in &prompt.images {
            trajectory.shelf.push(Arc::clone(&image.pixels), image.shown, None);
        }
        trajectory.append(prompt, Origin::Prompt);
        Self { trajectory, limits }
    }

    /// Takes in a sampled turn, carries out what it asks for, and says how to go on.
    ///
    /// # Errors
    /// Only when an observation cannot be encoded at all; whatever the policy writes is data.
    pub fn on_turn<T: Toolbox + ?Sized>(
        &mut self,
        turn: &SampledTurn,
        toolbox: &T,
        encoder: &dyn Encoder,
    ) -> Result<Next, EncodeError> {
        let text = encoder.decode(&turn.ids);
        self.on_text(turn, text, toolbox, &mut |observation, ended| encoder.observation(observation, ended))
    }

    /// The same for a turn whose text is known; `show` says which tokens stand for an observation after a turn that its end
    /// token did or did not end.
    ///
    /// # Errors
    /// As [`Self::on_turn`].
    pub fn on_text<T: Toolbox + ?Sized>(
        &mut self,
        turn: &SampledTurn,
        text: String,
        toolbox: &T,
        show: &mut Show<'_>,
    ) -> Result<Next, EncodeError> {
        let start = self.trajectory.ids.len();
        self.trajectory.append_ids(&turn.ids, Origin::Sampled, Some(&turn.logprobs));
        let action = parse_turn(&text);
        self.trajectory.turns.push(TurnRecord { tokens: start..self.trajectory.ids.len(), text, tool: None });
        if turn.stop == StopReason::Length {
            return Ok(self.end(EndReason::LengthLimit));
        }
        let ended = turn.stop == StopReason::EndOfTurn;
        match action {
            Action::Answer(answer) => {
                self.trajectory.answer = Some(answer);
                Ok(self.end(EndReason::Answered))
            }
            Action::Nothing => Ok(self.end(EndReason::NoAnswer)),
            Action::Malformed => Ok(self.end(EndReason::Malformed)),
            Action::Call(call) => {
                let result = self.carry_out(&call, toolbox);
                self.observe(Some(call), result, ended, show)
            }
            Action::BadCall(error) => self.observe(None, Err(error), ended, show),
        }
    }

    /// The record; of an episode cut off from outside, what there is of it.
    pub fn finish(self) -> Trajectory {
        self.trajectory
    }

    /// Tokens so far.
    pub(crate) fn len(&self) -> usize {
        self.trajectory.ids.len()
    }

    /// Counts tokens whose ids somebody else has.
    pub(crate) fn count(&mut self, tokens: usize, origin: Origin) {
        self.trajectory.append_ids(&vec![UNKNOWN_TOKEN; tokens], origin, None);
        if origin == Origin::Prompt {
            self.trajectory.prompt_len = self.trajectory.ids.len();
        }
    }

    fn end(&mut self, reason: EndReason) -> Next {
        self.trajectory.end = reason;
        Next::End
    }

    fn is_last_turn(&self) -> bool {
        self.trajectory.turns.len() >= self.limits.max_turns
    }

    fn carry_out<T: Toolbox + ?Sized>(&self, call: &ToolCall, toolbox: &T) -> Result<Observation, ToolError> {
        if self.is_last_turn() {
            return Ok(Observation::default());
        }
        let unknown = || Err(ToolError::UnknownTool(call.name.clone()));
        toolbox.call(&call.name, &call.arguments, &self.trajectory.shelf).unwrap_or_else(unknown)
    }

    fn observe(
        &mut self,
        call: Option<ToolCall>,
        result: Result<Observation, ToolError>,
        ended: bool,
        show: &mut Show<'_>,
    ) -> Result<Next, EncodeError> {
        let error = result.as_ref().err().map(|error| error.name().to_owned());
        let observation = result.unwrap_or_else(|error| error.to_observation());
        let outcome = ToolOutcome { call, error, text: observation.text.clone(), images: Vec::new() };
        if let Some(turn) = self.trajectory.turns.last_mut() {
            turn.tool = Some(outcome);
        }
        if self.is_last_turn() {
            return Ok(self.end(EndReason::TurnLimit));
        }
        if self.trajectory.shelf.len() + observation.images.len() > self.limits.max_images {
            return Ok(self.end(EndReason::ImageLimit));
        }
        let segment = show(&observation, ended)?;
        if self.trajectory.ids.len() + segment.ids.len() >= self.limits.max_tokens {
            return Ok(self.end(EndReason::LengthLimit));
        }
        self.append_observation(&observation, &segment);
        Ok(Next::Observe(segment))
    }

    fn append_observation(&mut self, observation: &Observation, segment: &Segment) {
        let shelf = &mut self.trajectory.shelf;
        let images: Vec<usize> = (observation.images.iter().zip(&segment.images))
            .map(|(image, shown)| shelf.observe(Arc::clone(&image.pixels), shown.shown, image.origin))
            .collect();
        if let Some(tool) = self.trajectory.turns.last_mut().and_then(|turn| turn.tool.as_mut()) {
            tool.images = images;
        }
        self.trajectory.append(segment, Origin::Observation);
    }
}

/// What a rollout needs besides the policy, the tools and the samples.
#[derive(Clone, Debug)]
pub struct RolloutRequest {
    /// Rollouts of each sample.
    pub group_size: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// How far each episode may go.
    pub limits: Limits,
    /// How samples become prompts.
    pub prompt: PromptStyle,
    /// The run's seed.
    pub seed: u64,
    /// Which round of the run this is, so that a sample seen again is sampled anew.
    pub round: u64,
}

/// Runs `group_size` episodes of each sample; trajectories come back grouped, in order. Tools are called on threads of the
/// policy's choice, for several episodes at once.
///
/// # Errors
/// When a prompt or an observation cannot be encoded, or the model fails.
pub fn rollout<P, T>(
    policy: &mut P,
    toolbox: &T,
    samples: &[Arc<Sample>],
    request: &RolloutRequest,
) -> Result<Vec<Vec<Trajectory>>, PolicyError>
where
    P: Policy + ?Sized,
    T: Toolbox + ?Sized,
{
    let encoder = policy.encoder();
    let specs = toolbox.specs();
    let mut prompts = Vec::new();
    let mut episodes = Vec::new();
    for sample in samples {
        let prompt = encoder.prompt(&request.prompt.messages(sample), &specs, &sample.images);
        let prompt = Arc::new(prompt.map_err(|source| PolicyError::Prompt { id: sample.id.clone(), source })?);
        for index in 0..request.group_size {
            let episode = Episode::start(Arc::clone(sample), index, &prompt, request.limits.clone());
            episodes.push(Mutex::new(episode));
            prompts.push(PolicyPrompt {
                prompt: Arc::clone(&prompt),
                key: Key::new(request.seed, request.round, &sample.id, index as u64),
                max_new_tokens: request.limits.max_new_tokens,
                max_tokens: request.limits.max_tokens,
            });
        }
    }
    policy.rollout(&prompts, &request.sampling, &|i, turn| {
        let mut episode = episodes[i].lock().unwrap_or_else(PoisonError::into_inner);
        let next = episode.on_turn(&turn, toolbox, encoder.as_ref())?;
        if let Next::Observe(segment) = &next {
            encoder.prepare(&segment.images.iter().map(|image| Arc::clone(&image.pixels)).collect::<Vec<_>>());
        }
        Ok(next)
    })?;
    let finished = |episode: Mutex<Episode>| episode.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
    let mut trajectories = episodes.into_iter().map(finished);
    Ok(samples.iter().map(|_| trajectories.by_ref().take(request.group_size).collect()).collect())
}
