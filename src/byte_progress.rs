//! Progress of much data on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Lines are no closer together than this.
const PAUSE: Duration = Duration::from_secs(10);

/// Bytes done of bytes to do; told from any thread.
#[derive(Debug)]
pub struct ByteProgress(Shown);

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines { what: String, total: u64, state: Mutex<(u64, Instant)> },
    Nothing,
}

impl ByteProgress {
    /// A bar, or lines where standard error is no terminal. `what` is being done to `total` bytes.
    pub fn new(what: &str, total: u64) -> Self {
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total);
            let template = "{msg}  {bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
            // The template is a constant that parses.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            return Self(Shown::Bar(bar));
        }
        Self(Shown::Lines { what: what.to_owned(), total, state: Mutex::new((0, Instant::now())) })
    }

    /// Says nothing.
    pub fn quiet() -> Self {
        Self(Shown::Nothing)
    }

    /// So many bytes more.
    pub fn add(&self, bytes: u64) {
        match &self.0 {
            Shown::Bar(bar) => bar.inc(bytes),
            Shown::Nothing => {}
            Shown::Lines { what, total, state } => {
                // A thread that failed has told its error elsewhere.
                let Ok(mut state) = state.lock() else { return };
                state.0 += bytes;
                if state.1.elapsed() >= PAUSE && state.0 < *total {
                    state.1 = Instant::now();
                    line(&format!("{what}  {} of {}", amount(state.0), amount(*total)));
                }
            }
        }
    }

    /// It is done, or given up; a bar goes away.
    pub fn finish(&self) {
        if let Shown::Bar(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }

    /// A line of its own.
    pub fn say(&self, text: &str) {
        match &self.0 {
            Shown::Bar(bar) => bar.println(text),
            Shown::Lines { .. } => line(text),
            Shown::Nothing => {}
        }
    }
}

/// A line on standard error.
pub(crate) fn line(text: &str) {
    // A reader that has gone away must not end the work.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A number of bytes as people read it, in powers of ten.
///
/// ```
/// assert_eq!(imagent::byte_progress::amount(7_509_245_952), "7.51 GB");
/// assert_eq!(imagent::byte_progress::amount(12), "12 B");
/// ```
pub fn amount(bytes: u64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, size)| bytes as f64 >= *size) {
        Some((unit, size)) => {
            let value = bytes as f64 / size;
            let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
            format!("{value:.digits$} {unit}")
        }
        None => format!("{bytes} B"),
    }
}
