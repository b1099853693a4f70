//! The one thread that has the model, and the desk where questions wait for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use imagent_core::{Key, Sampling, Segment, StopReason};
use imagent_models::codec::Codec;
use imagent_models::policy::{Desk, Guest, Told};
use tokio::sync::mpsc::UnboundedSender;

use super::ServeOptions;
use crate::config::open_model_for_inference;
use crate::error::Error;

/// What one reply of a question is told.
#[derive(Debug)]
pub(super) enum Event {
    /// A token.
    Token(Told),
    /// Why it ended, or why it could not be.
    End(Result<StopReason, String>),
}

/// A question as the model takes it.
pub(super) struct Question {
    /// The prompt.
    pub(super) prompt: Arc<Segment>,
    /// How tokens are drawn.
    pub(super) sampling: Sampling,
    /// The randomness of each reply.
    pub(super) keys: Vec<Key>,
    /// Most tokens of a reply.
    pub(super) max_tokens: usize,
    /// How many of the likeliest tokens are told with each.
    pub(super) likeliest: usize,
    /// Where replies go: which one, and what.
    pub(super) events: UnboundedSender<(usize, Event)>,
    /// Which replies want no more.
    pub(super) enough: Arc<[AtomicBool]>,
}

/// Where questions are handed in.
#[derive(Clone)]
pub(super) struct Entrance(Sender<Question>);

impl Entrance {
    /// Hands a question in; false if nobody takes it any more.
    pub(super) fn hand_in(&self, question: Question) -> bool {
        self.0.send(question).is_ok()
    }
}

/// The thread.
pub(super) struct Room {
    pub(super) codec: Arc<Codec>,
    pub(super) context: usize,
    pub(super) entrance: Entrance,
    thread: JoinHandle<()>,
    idle: Arc<AtomicBool>,
}

impl Room {
    /// Opens the model in a thread of its own.
    pub(super) fn open(options: &ServeOptions) -> Result<Self, Error> {
        let (entrance, questions) = channel();
        let (opened, open) = channel();
        let idle = Arc::new(AtomicBool::new(true));
        let (resting, options) = (Arc::clone(&idle), options.clone());
        let work = move || {
            let model = match open_model_for_inference(&options.model, options.dtype) {
                Ok(model) => model,
                Err(error) => return drop(opened.send(Err(error))),
            };
            let codec = Arc::clone(model.policy.codec());
            let context = model.policy.model.config.text.max_position_embeddings;
            if opened.send(Ok((codec, context))).is_ok() {
                model.policy.serve(&mut Reception::new(questions, options.max_streams, resting));
            }
        };
        let io = |source| Error::Io { path: "a thread for the model".into(), source };
        let thread = std::thread::Builder::new().name("rollout".to_owned()).spawn(work).map_err(io)?;
        let ended = |_| Error::Policy(imagent_core::PolicyError::Stopped);
        let (codec, context) = open.recv().map_err(ended)??;
        Ok(Self { codec, context, entrance: Entrance(entrance), thread, idle })
    }

    /// Whether the thread has ended, which it does by itself only if it breaks off.
    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether the model has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.is_over() || self.idle.load(Ordering::Relaxed)
    }

    /// Waits for the end of who is still served.
    pub(super) fn close(self) -> Result<(), Error> {
        drop(self.entrance);
        let broken = |_| Error::Policy(imagent_core::PolicyError::Model("the model's thread broke off".to_owned()));
        self.thread.join().map_err(broken)
    }
}

/// The desk: questions in order of arrival, a limited number of replies at once.
struct Reception {
    questions: Receiver<Question>,
    waiting: VecDeque<(u64, Guest)>,
    lines: HashMap<u64, Line>,
    most: usize,
    live: usize,
    next: u64,
    /// Whether it waits for a question.
    idle: Arc<AtomicBool>,
}

/// Where the tokens of a guest go.
struct Line {
    reply: usize,
    events: UnboundedSender<(usize, Event)>,
    enough: Arc<[AtomicBool]>,
}

impl Line {
    fn wants_more(&self) -> bool {
        !self.events.is_closed() && !self.enough[self.reply].load(Ordering::Relaxed)
    }
}

impl Reception {
    fn new(questions: Receiver<Question>, most: usize, idle: Arc<AtomicBool>) -> Self {
        let (waiting, lines) = (VecDeque::new(), HashMap::new());
        Self { questions, waiting, lines, most, live: 0, next: 0, idle }
    }

    fn take(&mut self, question: Question) {
        for (reply, key) in question.keys.into_iter().enumerate() {
            let id = self.next;
            self.next += 1;
            let guest = Guest {
                id,
                prompt: Arc::clone(&question.prompt),
                key,
                sampling: question.sampling.clone(),
                max_new_tokens: question.max_tokens,
                likeliest: question.likeliest,
            };
            let (events, enough) = (question.events.clone(), Arc::clone(&question.enough));
            self.lines.insert(id, Line { reply, events, enough });
            self.waiting.push_back((id, guest));
        }
    }

    fn leave(&mut self, guest: u64) -> Option<Line> {
        self.live = self.live.saturating_sub(1);
        self.lines.remove(&guest)
    }
}

impl Desk for Reception {
    fn arrivals(&mut self, idle: bool) -> Option<Vec<Guest>> {
        loop {
            while let Ok(question) = self.questions.try_recv() {
                self.take(question);
            }
            if !idle || !self.waiting.is_empty() {
                break;
            }
            self.idle.store(true, Ordering::Relaxed);
            let question = self.questions.recv().ok()?;
            self.idle.store(false, Ordering::Relaxed);
            self.take(question);
        }
        let mut guests = Vec::new();
        while self.live < self.most {
            let Some((id, guest)) = self.waiting.pop_front() else { break };
            // Who has gone while waiting costs nothing.
            if self.lines.get(&id).is_some_and(Line::wants_more) {
                self.live += 1;
                guests.push(guest);
            } else {
                self.lines.remove(&id);
            }
        }
        Some(guests)
    }

    fn token(&mut self, guest: u64, token: Told) -> bool {
        let Some(line) = self.lines.get(&guest) else { return false };
        let heard = line.wants_more() && line.events.send((line.reply, Event::Token(token))).is_ok();
        if !heard {
            self.leave(guest);
        }
        heard
    }

    fn end(&mut self, guest: u64, stop: Result<StopReason, String>) {
        if let Some(line) = self.leave(guest) {
            // Who has gone needs no last word.
            let _ = line.events.send((line.reply, Event::End(stop)));
        }
    }
}
