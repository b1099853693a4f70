//! Finished turns are answered on threads of their own: a tool that computes, or waits for a server, holds up nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder, Scope};
use std::time::Instant;

use imagent_core::{Next, OnTurn, PolicyError, SampledTurn};

/// Most turns that are answered at once.
const THREADS: usize = 16;

/// A turn of a rollout.
type Turn = (usize, SampledTurn);

/// What became of a rollout's turn; `Err` is the payload of a panic.
pub(crate) type Answer = (usize, thread::Result<Result<Next, PolicyError>>);

/// Turns handed out, and their answers as they come. What has not begun when this is dropped never does.
pub(crate) struct Calls<'scope, 'env: 'scope> {
    scope: &'scope Scope<'scope, 'env>,
    on_turn: &'env OnTurn<'env>,
    turns: Sender<Turn>,
    queue: Arc<Mutex<Receiver<Turn>>>,
    answers: Sender<Answer>,
    answered: Receiver<Answer>,
    over: Arc<AtomicBool>,
    threads: usize,
    /// Turns that are handed out and not answered.
    open: usize,
}

impl<'scope, 'env> Calls<'scope, 'env> {
    /// Nothing handed out yet; threads start as they are needed.
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, on_turn: &'env OnTurn<'env>) -> Self {
        let ((turns, queue), (answers, answered)) = (channel(), channel());
        let (queue, over) = (Arc::new(Mutex::new(queue)), Arc::default());
        Self { scope, on_turn, turns, queue, answers, answered, over, threads: 0, open: 0 }
    }

    /// Has a finished turn of rollout `index` answered.
    ///
    /// # Errors
    /// When the system gives no thread at all.
    pub(crate) fn hand_out(&mut self, index: usize, turn: SampledTurn) -> Result<(), PolicyError> {
        self.open += 1;
        if self.threads < self.open.min(THREADS) {
            match self.start() {
                Ok(()) => self.threads += 1,
                Err(error) if self.threads == 0 => {
                    return Err(PolicyError::Model(format!("cannot start a thread for tools: {error}")));
                }
                // Those that run do the work.
                Err(_) => {}
            }
        }
        // The other end is held here too, so that this cannot fail.
        let _ = self.turns.send((index, turn));
        Ok(())
    }

    fn start(&self) -> std::io::Result<()> {
        let (queue, answers) = (Arc::clone(&self.queue), self.answers.clone());
        let (over, on_turn) = (Arc::clone(&self.over), self.on_turn);
        let work = move || {
            loop {
                let turn = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((index, turn)) = turn else { return };
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // A panic belongs to the thread that asked for the rollout.
                let answer = catch_unwind(AssertUnwindSafe(|| on_turn(index, turn)));
                if answers.send((index, answer)).is_err() {
                    return;
                }
            }
        };
        Builder::new().name("tool".to_owned()).spawn_scoped(self.scope, work).map(drop)
    }

    /// The next answer, if it is there by `until`.
    pub(crate) fn next(&mut self, until: Instant) -> Option<Answer> {
        let now = self.answered.try_recv().ok();
        let wait = || self.answered.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        let answer = now.or_else(wait);
        self.open -= usize::from(answer.is_some());
        answer
    }
}

impl Drop for Calls<'_, '_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
