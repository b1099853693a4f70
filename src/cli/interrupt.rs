//! Ctrl-C: the first one ends the run in good order, the second one ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// From now on, a flag that Ctrl-C (or a request to terminate) sets.
pub(crate) fn watch() -> Result<Arc<AtomicBool>> {
    watch_saying("interrupted: finishing this step and keeping a checkpoint; once more to stop at once")
}

/// The same, with what is said then.
pub(crate) fn watch_saying(text: &'static str) -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let on_signal = move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
        use std::io::Write;
        // A terminal that is gone is no reason not to finish the step.
        let _ = writeln!(std::io::stderr(), "\n{text}");
    };
    ctrlc::set_handler(on_signal).context("cannot listen for Ctrl-C")?;
    Ok(flag)
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
