//! What served models replied. Every reply is on the disk before anything is made of it, and is read from there when the same item
//! comes again: whenever a pipeline ends, no question is asked twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use imagent_core::chat::{ChatError, ChatModel, ChatReply, ChatRequest};
use serde::{Deserialize, Serialize};

use super::keep::{append, reopen};
use crate::error::Error;

/// The file.
pub const REPLIES: &str = "replies.jsonl";

/// What served models were asked, and what that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Requests that were answered.
    pub requests: usize,
    /// Tokens of what was asked, images included, where the server tells.
    pub prompt_tokens: usize,
    /// Tokens of what was replied, where the server tells.
    pub completion_tokens: usize,
    /// Seconds until the replies came, added up, whatever was under way at once.
    pub seconds: f64,
}

/// Names a request: the role, the item, and how many requests about the item came before it.
type Key = (String, String, usize);

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Entry {
    role: String,
    id: String,
    request: usize,
    seconds: f64,
    reply: ChatReply,
}

/// The replies of a pipeline.
pub(super) struct Journal {
    path: PathBuf,
    replies: Mutex<BTreeMap<Key, (f64, ChatReply)>>,
}

impl Journal {
    /// The journal of a folder, with what it holds already.
    ///
    /// # Errors
    /// Names the line that is wrong.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(REPLIES);
        let entries: Vec<Entry> = reopen(&path)?;
        let replies = entries.into_iter().map(|entry| {
            let Entry { role, id, request, seconds, reply } = entry;
            ((role, id, request), (seconds, reply))
        });
        Ok(Self { path, replies: Mutex::new(replies.collect()) })
    }

    /// What a role took so far.
    pub(super) fn cost(&self, role: &str) -> Cost {
        let mut cost = Cost::default();
        for (_, (seconds, reply)) in self.replies().iter().filter(|((of, ..), _)| of == role) {
            let usage = reply.usage.unwrap_or_default();
            cost.requests += 1;
            cost.prompt_tokens += usage.prompt_tokens;
            cost.completion_tokens += usage.completion_tokens;
            cost.seconds += seconds;
        }
        cost
    }

    fn replies(&self) -> MutexGuard<'_, BTreeMap<Key, (f64, ChatReply)>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, (role, id, request): Key, seconds: f64, reply: ChatReply) -> Result<(), Error> {
        let mut replies = self.replies();
        let entry = Entry { role, id, request, seconds, reply };
        append(&self.path, &entry)?;
        let Entry { role, id, reply, .. } = entry;
        replies.insert((role, id, request), (seconds, reply));
        Ok(())
    }
}

/// A model that is asked about one item, one request after the other.
pub(super) struct Recorded<'a> {
    model: &'a dyn ChatModel,
    journal: &'a Journal,
    role: &'static str,
    id: &'a str,
    asked: AtomicUsize,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(model: &'a dyn ChatModel, journal: &'a Journal, role: &'static str, id: &'a str) -> Self {
        Self { model, journal, role, id, asked: AtomicUsize::new(0) }
    }
}

impl ChatModel for Recorded<'_> {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn ask(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let key = (self.role.to_owned(), self.id.to_owned(), self.asked.fetch_add(1, Ordering::Relaxed));
        if let Some((_, reply)) = self.journal.replies().get(&key) {
            return Ok(reply.clone());
        }
        let start = Instant::now();
        let reply = self.model.ask(request)?;
        let seconds = (start.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        self.journal.add(key, seconds, reply.clone()).map_err(|error| ChatError::Failed(error.to_string()))?;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use imagent_core::Role;
    use imagent_core::chat::{ChatChoice, ChatMessage, Finish, RuleChat, Usage};

    use super::*;

    #[test]
    fn what_was_replied_is_not_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let count = AtomicUsize::new(0);
        let model = RuleChat::new(move |_| {
            let choice = ChatChoice {
                reasoning: Some("why".into()),
                finish: Finish::Other("content_filter".into()),
                ..ChatChoice::text(count.fetch_add(1, Ordering::Relaxed).to_string())
            };
            let usage = Some(Usage { prompt_tokens: 7, completion_tokens: 2 });
            Ok(ChatReply { choices: vec![choice], usage, model: "m".into() })
        });
        let asked = ChatRequest::new(vec![ChatMessage::text(Role::User, "How many?")]);
        let replies = |journal: &Journal, role, id| {
            let model = Recorded::new(&model, journal, role, id);
            [0; 2].map(|_| model.ask(&asked).unwrap().choices[0].clone())
        };
        let journal = Journal::open(dir.path()).unwrap();
        let first = replies(&journal, "writer", "a");
        assert_eq!([&*first[0].text, &*first[1].text], ["0", "1"]);
        assert_eq!(replies(&journal, "writer", "b")[0].text, "2");
        // Cut off within a line: that reply is asked for again, the others are there to the letter.
        let path = dir.path().join(REPLIES);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(replies(&journal, "writer", "a"), first);
        let again = replies(&journal, "writer", "b");
        assert_eq!([&*again[0].text, &*again[1].text], ["2", "4"]);
        assert_eq!(replies(&journal, "verifier", "a")[0].text, "5");
        let cost = journal.cost("writer");
        assert_eq!((cost.requests, cost.prompt_tokens, cost.completion_tokens), (4, 28, 8));
        assert_eq!(journal.cost("grouper"), Cost::default());
    }
}
