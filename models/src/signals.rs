//! What a program does with Unix's signals that no crate of ours does without `unsafe`. Elsewhere these do nothing.

/// Runs `install`, which may set handlers of signals, and has hangups ignored after it if they were before: `nohup` asks for that.
pub fn with_hangups_as_they_were<T>(install: impl FnOnce() -> T) -> T {
    // SAFETY: no handler is set, only the action that ignores.
    #[cfg(unix)]
    let before = unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    let installed = install();
    #[cfg(unix)]
    if before == libc::SIG_IGN {
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
    installed
}

/// Ends the process as Ctrl-C does where nobody listens for it, so that a shell's loop ends as well.
pub fn end_by_interrupt() {
    // SAFETY: the default action is no handler of ours, and any thread may raise a signal.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::raise(libc::SIGINT);
    }
}
