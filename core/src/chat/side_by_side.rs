//! Work that waits for somebody else, several pieces at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Does the pieces `0..count`, at most `at_once` of them at a time; results in order. After a failure no other piece is begun: those
/// that were not come after it, and have no result.
pub fn side_by_side<T: Send, E: Send>(
    count: usize,
    at_once: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Vec<Result<T, E>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done: Mutex<Vec<Option<Result<T, E>>>> = Mutex::new((0..count).map(|_| None).collect());
    let run = || {
        while !failed.load(Ordering::Relaxed) {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= count {
                return;
            }
            let result = work(piece);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            done.lock().unwrap_or_else(PoisonError::into_inner)[piece] = Some(result);
        }
    };
    std::thread::scope(|scope| (0..at_once.clamp(1, count.max(1))).for_each(|_| drop(scope.spawn(run))));
    // Pieces are taken in order, so one that was not begun comes after what failed.
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}
