//! Samples of the next step made ready on other threads while this one computes. No result depends on it: what is not ready in
//! time is made when it is asked for, and that is also where an error is told.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, Builder};

use imagent_core::{Encoder, SampleSource};

use crate::sampler::SampleCursor;

/// Most threads that decode ahead.
const THREADS: usize = 4;

/// Positions of samples that will soon be asked for.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// `None` when the run is over.
    wanted: Mutex<Option<VecDeque<usize>>>,
    changed: Condvar,
}

impl Ahead {
    /// Makes the samples of the first of these steps ready from now on, in order, and nothing that was wanted before.
    pub(crate) fn want(&self, cursor: &SampleCursor, mut steps: Range<usize>) {
        let positions = steps.next().map(|step| cursor.positions(step));
        self.set(Some(positions.unwrap_or_default().into()));
    }

    fn set(&self, wanted: Option<VecDeque<usize>>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        self.changed.notify_all();
    }

    /// Waits for a position; `None` when the run is over.
    fn next(&self) -> Option<usize> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(position) = wanted.as_mut()?.pop_front() {
                return Some(position);
            }
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Ends the threads, however the work ends.
struct Over<'a>(&'a Ahead);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// Runs `work` with threads beside it that make ready what it wants: half of the machine's, one at least.
pub(crate) fn beside<R>(source: &dyn SampleSource, encoder: &dyn Encoder, work: impl FnOnce(&Ahead) -> R) -> R {
    let ahead = Ahead { wanted: Mutex::new(Some(VecDeque::new())), changed: Condvar::new() };
    let prepare = || {
        while let Some(position) = ahead.next() {
            // A panic comes again where the sample is asked for.
            let _ = catch_unwind(AssertUnwindSafe(|| encoder.prepare(&source.prefetch(position))));
        }
    };
    let threads = (thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, THREADS);
    thread::scope(|scope| {
        let _over = Over(&ahead);
        for _ in 0..threads {
            // Without a thread nothing is ready in time.
            let _ = Builder::new().name("ahead".to_owned()).spawn_scoped(scope, prepare);
        }
        work(&ahead)
    })
}
