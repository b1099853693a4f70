//! Where the time and the memory of a run go, by the parts that are named as `tracing` spans.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use imagent_models::memory::Counting;
use tracing::span::Id;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Parts that take less of the whole than this are told together.
const SMALL: f64 = 0.005;

/// Names of spans from the outermost in.
type Path = Vec<&'static str>;

/// What a part took.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    calls: usize,
    time: Duration,
    /// Most bytes in use meanwhile.
    most: usize,
    /// Most bytes in use above those in use when it began.
    more: usize,
}

/// A listener to the spans of the thread that started it.
///
/// Memory is told where [`Counting`] is the program's allocator, as it is in `imagent`'s.
#[derive(Clone, Debug)]
pub struct Profile {
    parts: Arc<Mutex<BTreeMap<Path, Part>>>,
    thread: ThreadId,
}

/// A span that is open.
struct Open {
    since: Instant,
    before: usize,
    outer: usize,
}

/// Why nothing can be listened to.
#[derive(Debug, thiserror::Error)]
#[error("this process has a listener to its spans already")]
pub struct ListenerError(#[from] tracing::subscriber::SetGlobalDefaultError);

impl Profile {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the process has a listener already.
    pub fn start() -> Result<Self, ListenerError> {
        let profile = Self { parts: Arc::default(), thread: std::thread::current().id() };
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(profile.clone()))?;
        Ok(profile)
    }

    /// A row for each part that took 0.5 % of the whole or more, parts of parts below it; times are sums over all calls.
    pub fn table(&self) -> String {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let whole: Duration = children(&parts, &[]).map(|(_, part)| part.time).sum();
        let header = ["seconds", "share", "calls", "peak MiB", "+ MiB"];
        let mut out = format!(
            "{:<36}{:>10}{:>9}{:>9}{:>10}{:>9}\n",
            "part", header[0], header[1], header[2], header[3], header[4]
        );
        rows(&mut out, &parts, &[], whole);
        out
    }
}

/// Parts directly under a path.
fn children<'a>(parts: &'a BTreeMap<Path, Part>, path: &'a [&str]) -> impl Iterator<Item = (&'a Path, &'a Part)> {
    parts.iter().filter(move |(name, _)| name.len() == path.len() + 1 && name.starts_with(path))
}

fn rows(out: &mut String, parts: &BTreeMap<Path, Part>, path: &[&'static str], whole: Duration) {
    let share = |time: Duration| time.as_secs_f64() / whole.as_secs_f64().max(1e-9);
    let mut inner: Vec<(&Path, &Part)> = children(parts, path).collect();
    inner.sort_by_key(|(_, part)| std::cmp::Reverse(part.time));
    let indent = "  ".repeat(path.len());
    let mut small = Part::default();
    for (name, part) in &inner {
        if share(part.time) < SMALL {
            small.time += part.time;
            small.calls += part.calls;
            continue;
        }
        let (name, last) = (name.as_slice(), name.last().copied().unwrap_or_default());
        row(out, &format!("{indent}{last}"), part, share(part.time));
        rows(out, parts, name, whole);
    }
    let Some(all) = parts.get(path) else { return };
    // What none of the parts accounts for stands with the small ones.
    small.time += all.time.saturating_sub(inner.iter().map(|(_, part)| part.time).sum());
    if !inner.is_empty() && share(small.time) >= SMALL {
        let _ = writeln!(
            out,
            "{:<36}{:>10.3}{:>8.1}%",
            format!("{indent}other"),
            small.time.as_secs_f64(),
            100.0 * share(small.time)
        );
    }
}

fn row(out: &mut String, name: &str, part: &Part, share: f64) {
    let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    // A `String` takes whatever is written to it.
    let _ = writeln!(
        out,
        "{name:<36}{:>10.3}{:>8.1}%{:>9}{:>10.1}{:>9.1}",
        part.time.as_secs_f64(),
        100.0 * share,
        part.calls,
        mebibytes(part.most),
        mebibytes(part.more)
    );
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Profile {
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if std::thread::current().id() != self.thread {
            return;
        }
        if let Some(span) = context.span(id) {
            let open = Open { since: Instant::now(), before: Counting::in_use(), outer: Counting::watch() };
            span.extensions_mut().insert(open);
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let most = Counting::most(open.outer);
        let path: Path = span.scope().from_root().map(|span| span.name()).collect();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.entry(path).or_default();
        part.calls += 1;
        part.time += open.since.elapsed();
        part.most = part.most.max(most);
        part.more = part.more.max(most.saturating_sub(open.before));
    }
}
