//! Ctrl-C, or a request to terminate: what is half made is removed, and the program ends. A command that watches for it is told instead,
//! the first time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use imagent_core::draft;
use imagent_models::signals::{end_by_interrupt, with_hangups_as_they_were};

/// The flag of the command that watches, and what is said when it is set.
static WATCH: OnceLock<(Arc<AtomicBool>, &str)> = OnceLock::new();
/// Set once the end has begun.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Listens from now on.
pub(crate) fn listen() -> Result<()> {
    with_hangups_as_they_were(|| ctrlc::set_handler(on_signal)).context("cannot listen for Ctrl-C")
}

/// From now on, a flag that Ctrl-C (or a request to terminate) sets.
pub(crate) fn watch() -> Arc<AtomicBool> {
    watch_saying("interrupted: finishing this step and keeping a checkpoint; once more to stop at once")
}

/// The same, with what is said then.
pub(crate) fn watch_saying(text: &'static str) -> Arc<AtomicBool> {
    Arc::clone(&WATCH.get_or_init(|| (Arc::default(), text)).0)
}

/// Does not return once the end has begun: errors of then are of files that were removed.
pub(crate) fn wait_if_ending() {
    while ENDING.load(Ordering::Relaxed) {
        std::thread::park();
    }
}

fn on_signal() {
    if let Some((flag, text)) = WATCH.get()
        && !flag.swap(true, Ordering::Relaxed)
    {
        use std::io::Write;
        // A terminal that is gone is no reason not to finish the step.
        let _ = writeln!(std::io::stderr(), "\n{text}");
        return;
    }
    ENDING.store(true, Ordering::Relaxed);
    draft::remove_all();
    if WATCH.get().is_none() {
        end_by_interrupt();
    }
    std::process::exit(1);
}

/// Sets the flag when standard input closes.
pub(crate) fn watch_input(flag: &Arc<AtomicBool>) {
    let flag = Arc::clone(flag);
    std::thread::spawn(move || {
        // Whatever comes is passed over; an error ends it as well as the end does.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        flag.store(true, Ordering::Relaxed);
    });
}
