//! Joins and leaves trajectories: prompts once per group, then one step at a time for all that are live. A trajectory whose turn
//! is over is parked until the environment has said how to go on; the others do not wait for it.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use imagent_core::{Next, OnTurn, PolicyError, PolicyPrompt, SampledTurn, Sampling, Segment, StopReason};
use rayon::prelude::*;

use super::cache::Cache;
use super::calls::{Answer, Calls};
use super::forward::{Run, forward};
use super::host::HostModel;
use super::sampler::draw;
use crate::qwen::positions::{GridSpan, Positions};

/// What the engine needs for a rollout.
pub(crate) struct Request<'a> {
    /// The weights.
    pub(crate) model: &'a HostModel<'a>,
    /// The rollouts.
    pub(crate) prompts: &'a [PolicyPrompt],
    /// How tokens are drawn.
    pub(crate) sampling: &'a Sampling,
    /// Tokens that are never drawn.
    pub(crate) never_sampled: &'a [usize],
    /// The policy's own tokens that end a turn.
    pub(crate) end_tokens: &'a [u32],
    /// Tokens to text, special ones included; for stop texts.
    pub(crate) text: &'a (dyn Fn(&[u32]) -> String + Sync),
    /// Rows of the new tokens of one pass while prompts are computed.
    pub(crate) prefill_rows: usize,
    /// Whether the caller wants to stop.
    pub(crate) stopped: &'a dyn Fn() -> bool,
}

/// How often a rollout that has nothing but tools to wait for looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What is not finite when a model has no distribution to draw from: its weights have diverged.
pub(super) const LOGITS: &str = "probability of a drawn token";

/// Image features of segments: `[tokens, hidden]` for each image.
pub(crate) type Features<'a> = dyn FnMut(&[&Segment]) -> Result<Vec<Vec<Arc<Vec<f32>>>>, PolicyError> + 'a;

/// A prompt that several rollouts share.
pub(super) struct Prompt {
    pub(super) cache: Cache,
    pub(super) positions: Positions,
    pub(super) logits: Vec<f32>,
}

/// One live trajectory.
struct Stream {
    index: usize,
    prompt: usize,
    own: Cache,
    positions: Positions,
    /// Tokens appended and not yet run, with their image features.
    pending: Segment,
    features: Vec<Arc<Vec<f32>>>,
    turn: SampledTurn,
    /// Tokens of the trajectory so far, the prompt included.
    len: usize,
    sampled: u64,
}

impl Stream {
    fn new(index: usize, prompt: usize, shared: &Prompt, request: &Request<'_>) -> Self {
        let mut stream = Self {
            index,
            prompt,
            own: Cache::new(request.model.config),
            positions: Positions { next: shared.positions.next, ..Positions::default() },
            pending: Segment::default(),
            features: Vec::new(),
            turn: empty_turn(),
            len: shared.cache.len(),
            sampled: 0,
        };
        stream.make_room(request);
        stream
    }

    /// Gets the memory of what is pending and of the turn that begins.
    fn make_room(&mut self, request: &Request<'_>) {
        let prompt = &request.prompts[self.index];
        let turn = prompt.max_new_tokens.min(prompt.max_tokens.saturating_sub(self.len));
        self.own.reserve(self.pending.ids.len() + turn);
    }

    /// Takes in an observation.
    fn observe(&mut self, segment: Segment, request: &Request<'_>) {
        let base = self.pending.ids.len();
        self.len += segment.ids.len();
        self.positions.extend(segment.ids.len(), &spans(&segment));
        self.pending.ids.extend_from_slice(&segment.ids);
        self.pending.images.extend(segment.images.into_iter().map(|mut image| {
            image.start += base;
            image
        }));
        self.make_room(request);
    }

    /// Where it is: tokens sampled, and its index. Of two failures, the one with the lower place comes first.
    fn place(&self) -> (u64, usize) {
        (self.sampled, self.index)
    }

    /// Takes in a drawn token.
    fn push(&mut self, id: u32, logprob: f32) {
        self.turn.ids.push(id);
        self.turn.logprobs.push(logprob);
        self.sampled += 1;
        self.len += 1;
        self.positions.extend(1, &[]);
        self.pending.ids.push(id);
    }

    /// Whether the turn is over, and why.
    fn stop(&self, request: &Request<'_>) -> Option<StopReason> {
        let prompt = &request.prompts[self.index];
        if self.turn.ids.last().is_some_and(|last| request.end_tokens.contains(last)) {
            Some(StopReason::EndOfTurn)
        } else if self.is_stopped(request) {
            Some(StopReason::Stopped)
        } else if self.turn.ids.len() >= prompt.max_new_tokens || self.len >= prompt.max_tokens {
            Some(StopReason::Length)
        } else {
            None
        }
    }

    /// Whether the last token of the turn is a stop, or completes a text that is one.
    fn is_stopped(&self, request: &Request<'_>) -> bool {
        let Some(last) = self.turn.ids.last() else { return false };
        let Sampling { stop, stop_tokens, .. } = request.sampling;
        let Some(longest) = stop.iter().map(String::len).max() else { return stop_tokens.contains(last) };
        // A token is a byte at least, so an end of as many tokens holds a text that the last of them completes.
        let text = (request.text)(&self.turn.ids[self.turn.ids.len().saturating_sub(longest)..]);
        stop_tokens.contains(last) || stop.iter().any(|stop| text.contains(stop.as_str()))
    }
}

fn empty_turn() -> SampledTurn {
    SampledTurn { ids: Vec::new(), logprobs: Vec::new(), stop: StopReason::Length }
}

fn spans(segment: &Segment) -> Vec<GridSpan> {
    let span =
        |image: &imagent_core::SegmentImage| GridSpan { start: image.start, rows: image.rows, columns: image.columns };
    segment.images.iter().map(span).collect()
}

/// Runs all rollouts to their end.
///
/// Of several failures, the one told is that of the earliest token, and of the first rollout among those of one token: which one
/// it is does not depend on how long tools take.
pub(crate) fn run(request: &Request<'_>, features: &mut Features<'_>, on_turn: &OnTurn<'_>) -> Result<(), PolicyError> {
    let (mut prompts, of) = prefill(request, features)?;
    let mut streams: Vec<Stream> =
        (0..request.prompts.len()).map(|i| Stream::new(i, of[i], &prompts[of[i]], request)).collect();
    // A prompt that leaves no room for a token gets an empty turn, and that is its end.
    for stream in &streams {
        if stream.stop(request).is_some() {
            on_turn(stream.index, empty_turn())?;
        }
    }
    streams.retain(|stream| stream.stop(request).is_none());
    let first: Vec<Vec<f32>> = streams.iter().map(|stream| prompts[stream.prompt].logits.clone()).collect();
    prompts.iter_mut().for_each(|prompt| prompt.logits = Vec::new());
    thread::scope(|scope| {
        let calls = Calls::new(scope, on_turn);
        let streams =
            Streams { live: streams, parked: BTreeMap::new(), calls, failure: None, last_step: Duration::ZERO };
        streams.run(request, &prompts, first.concat(), features)
    })
}

/// Why a rollout failed, and where: tokens sampled by then, and its index.
struct Failure {
    at: (u64, usize),
    why: Fault,
}

enum Fault {
    Error(PolicyError),
    Panic(Box<dyn Any + Send>),
}

/// The streams that are not over.
struct Streams<'scope, 'env> {
    /// Those that are decoded, by index.
    live: Vec<Stream>,
    /// Those whose turn is being answered, by index.
    parked: BTreeMap<usize, Stream>,
    calls: Calls<'scope, 'env>,
    failure: Option<Failure>,
    /// What the last step took.
    last_step: Duration,
}

impl Streams<'_, '_> {
    fn run(
        mut self,
        request: &Request<'_>,
        prompts: &[Prompt],
        mut logits: Vec<f32>,
        features: &mut Features<'_>,
    ) -> Result<(), PolicyError> {
        while !(self.live.is_empty() && self.parked.is_empty()) {
            if (request.stopped)() {
                return Err(PolicyError::Stopped);
            }
            draw_all(request, &mut self.live, &mut logits)?;
            let handed = self.hand_out(request)?;
            self.take_in(request, handed)?;
            attach_images(&mut self.live, features)?;
            let since = Instant::now();
            logits = step(request, prompts, &mut self.live);
            self.last_step = since.elapsed();
        }
        match self.failure {
            None => Ok(()),
            Some(Failure { why: Fault::Error(error), .. }) => Err(error),
            Some(Failure { why: Fault::Panic(payload), .. }) => std::panic::resume_unwind(payload),
        }
    }

    /// Parks the streams whose turn is over and has them answered; how many.
    fn hand_out(&mut self, request: &Request<'_>) -> Result<usize, PolicyError> {
        timed!("turns");
        self.forget_later();
        let before = self.live.len();
        for mut stream in std::mem::take(&mut self.live) {
            match stream.stop(request) {
                None => self.live.push(stream),
                Some(stop) => {
                    let turn = std::mem::replace(&mut stream.turn, empty_turn());
                    self.calls.hand_out(stream.index, SampledTurn { stop, ..turn })?;
                    self.parked.insert(stream.index, stream);
                }
            }
        }
        Ok(before - self.live.len())
    }

    /// Takes in the answers that are there. Waits for others where nothing can be decoded without them; else, after `handed`
    /// turns were handed out, for as much of a step's time as they are of the batch, which is what leaving them out would
    /// cost.
    fn take_in(&mut self, request: &Request<'_>, handed: usize) -> Result<(), PolicyError> {
        timed!("tools");
        let share = handed as f64 / (handed + self.live.len()).max(1) as f64;
        let until = Instant::now() + self.last_step.mul_f64(share);
        while !self.parked.is_empty() {
            let idle = self.live.is_empty();
            match self.calls.next(if idle { Instant::now() + LOOK } else { until }) {
                Some(answer) => self.answered(answer, request),
                None if !idle => break,
                None if (request.stopped)() => return Err(PolicyError::Stopped),
                None => {}
            }
        }
        Ok(())
    }

    fn answered(&mut self, (index, said): Answer, request: &Request<'_>) {
        let Some(mut stream) = self.parked.remove(&index) else { return };
        let why = match said {
            Ok(Ok(Next::End)) => return,
            Ok(Ok(Next::Observe(segment))) => {
                stream.observe(segment, request);
                let place = self.live.partition_point(|other| other.index < index);
                return self.live.insert(place, stream);
            }
            Ok(Err(error)) => Fault::Error(error),
            Err(payload) => Fault::Panic(payload),
        };
        self.failure = Some(Failure { at: stream.place(), why });
        self.forget_later();
    }

    /// Keeps the streams that may still fail before the failure there is, if there is one.
    fn forget_later(&mut self) {
        if let Some(Failure { at, .. }) = self.failure {
            self.live.retain(|stream| stream.place() < at);
            self.parked.retain(|_, stream| stream.place() < at);
        }
    }
}

/// Draws the next token of each stream from its row of logits.
fn draw_all(request: &Request<'_>, streams: &mut [Stream], logits: &mut [f32]) -> Result<(), PolicyError> {
    timed!("draw");
    let next = |(stream, row): (&mut Stream, &mut [f32])| {
        let key = request.prompts[stream.index].key;
        let drawn = draw(row, request.never_sampled, request.sampling, key, stream.sampled);
        stream.push(drawn.id, drawn.logprob);
        if drawn.logprob.is_finite() { Ok(()) } else { Err(PolicyError::NotFinite { what: LOGITS }) }
    };
    streams.par_iter_mut().zip(logits.par_chunks_mut(request.model.config.vocab_size)).try_for_each(next)
}

/// Computes each distinct prompt once; returns them and which one each rollout has.
fn prefill(request: &Request<'_>, features: &mut Features<'_>) -> Result<(Vec<Prompt>, Vec<usize>), PolicyError> {
    timed!("prefill");
    let mut distinct: Vec<&Arc<Segment>> = Vec::new();
    let mut known = HashMap::new();
    let mut of = Vec::with_capacity(request.prompts.len());
    for prompt in request.prompts {
        let next = distinct.len();
        let index = *known.entry(Arc::as_ptr(&prompt.prompt)).or_insert(next);
        if index == next {
            distinct.push(&prompt.prompt);
        }
        of.push(index);
    }
    let mut prompts = Vec::with_capacity(distinct.len());
    let mut start = 0;
    while start < distinct.len() {
        let mut rows = 0;
        let fits = |prompt: &&&Arc<Segment>| {
            rows += prompt.ids.len();
            rows <= request.prefill_rows
        };
        let count = distinct[start..].iter().take_while(fits).count().max(1);
        let chunk: Vec<&Segment> = distinct[start..start + count].iter().map(|prompt| prompt.as_ref()).collect();
        prompts.extend(prefill_chunk(request.model, &chunk, features)?);
        start += count;
    }
    Ok((prompts, of))
}

/// Computes some prompts in one pass.
pub(super) fn prefill_chunk(
    model: &HostModel<'_>,
    segments: &[&Segment],
    features: &mut Features<'_>,
) -> Result<Vec<Prompt>, PolicyError> {
    let images = features(segments)?;
    let mut prompts: Vec<Prompt> = (segments.iter())
        .map(|segment| {
            let mut positions = Positions::default();
            positions.extend(segment.ids.len(), &spans(segment));
            let mut cache = Cache::new(model.config);
            cache.reserve(segment.ids.len());
            Prompt { cache, positions, logits: Vec::new() }
        })
        .collect();
    let d = model.config.hidden_size;
    let mut runs: Vec<Run<'_>> = (prompts.iter_mut().zip(segments).zip(&images))
        .map(|((prompt, segment), images)| Run {
            ids: &segment.ids,
            features: feature_rows(segment, images, d),
            positions: &prompt.positions,
            first_position: 0,
            prefix: None,
            own: &mut prompt.cache,
        })
        .collect();
    let logits = forward(model, &mut runs);
    for (prompt, row) in prompts.iter_mut().zip(logits.chunks(model.config.vocab_size)) {
        prompt.logits = row.to_vec();
    }
    Ok(prompts)
}

fn feature_rows<'a>(segment: &Segment, images: &'a [Arc<Vec<f32>>], d: usize) -> Vec<(usize, &'a [f32])> {
    let rows = segment.images.iter().zip(images);
    rows.flat_map(|(image, features)| image.range().zip(features.chunks(d))).collect()
}

/// Gives the streams that took in images the features of these.
fn attach_images(live: &mut [Stream], features: &mut Features<'_>) -> Result<(), PolicyError> {
    let with_images: Vec<usize> = (0..live.len()).filter(|&i| !live[i].pending.images.is_empty()).collect();
    if with_images.is_empty() {
        return Ok(());
    }
    timed!("observations");
    let segments: Vec<&Segment> = with_images.iter().map(|&i| &live[i].pending).collect();
    for (i, images) in with_images.iter().copied().zip(features(&segments)?) {
        live[i].features = images;
    }
    Ok(())
}

/// Runs the pending tokens of all live streams; returns the logits of each.
fn step(request: &Request<'_>, prompts: &[Prompt], streams: &mut [Stream]) -> Vec<f32> {
    timed!("decode");
    if streams.is_empty() {
        return Vec::new();
    }
    let d = request.model.config.hidden_size;
    let mut runs: Vec<Run<'_>> = (streams.iter_mut())
        .map(|stream| Run {
            first_position: stream.positions.len() - stream.pending.ids.len(),
            ids: &stream.pending.ids,
            features: feature_rows(&stream.pending, &stream.features, d),
            positions: &stream.positions,
            prefix: Some(&prompts[stream.prompt].cache),
            own: &mut stream.own,
        })
        .collect();
    let logits = forward(request.model, &mut runs);
    for stream in streams {
        stream.pending = Segment::default();
        stream.features = Vec::new();
    }
    logits
}
