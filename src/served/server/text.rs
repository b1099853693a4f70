//! Tokens to the text of a reply, piece by piece: a letter may take several tokens, a stop text is cut off before anybody sees
//! its beginning, and calls are held back whole.

/// Most tokens that wait for the rest of a letter.
const MOST_OPEN: usize = 8;
const CALL: &str = "<tool_call>";

/// The text of a reply as it grows.
#[derive(Debug)]
pub(super) struct ReplyText {
    stops: Vec<String>,
    /// Whether calls are taken out of the text at the end.
    calls: bool,
    open: Vec<u32>,
    text: String,
    /// Bytes of `text` that were handed out.
    told: usize,
    stopped: bool,
}

impl ReplyText {
    pub(super) fn new(stops: Vec<String>, calls: bool) -> Self {
        Self { stops, calls, open: Vec::new(), text: String::new(), told: 0, stopped: false }
    }

    /// Takes a token in; whether a stop text is complete.
    pub(super) fn push(&mut self, id: u32, decode: &dyn Fn(&[u32]) -> String) -> bool {
        self.open.push(id);
        let piece = decode(&self.open);
        if !piece.ends_with('\u{fffd}') || self.open.len() >= MOST_OPEN {
            self.open.clear();
            self.append(&piece);
        }
        self.stopped
    }

    /// The last token was taken in.
    pub(super) fn end(&mut self, decode: &dyn Fn(&[u32]) -> String) {
        if !self.open.is_empty() && !self.stopped {
            let piece = decode(&std::mem::take(&mut self.open));
            self.append(&piece);
        }
    }

    fn append(&mut self, piece: &str) {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = floor(&self.text, self.text.len().saturating_sub(longest));
        self.text.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| self.text[from..].find(stop.as_str())).min();
        if let Some(at) = found {
            self.text.truncate(from + at);
            self.stopped = true;
        }
    }

    /// What can be handed out now and was not yet: nothing that may be the beginning of a stop text or of a call, unless
    /// this is the `last` of it.
    pub(super) fn news(&mut self, last: bool) -> &str {
        let mut end = self.text.len();
        if !last && !self.stopped {
            let hold = |word: &str| {
                let rest = &self.text[self.told..];
                (1..word.len().min(rest.len() + 1))
                    .rev()
                    .find(|&n| word.is_char_boundary(n) && rest.ends_with(&word[..n]))
            };
            let held = self.stops.iter().filter_map(|stop| hold(stop)).max().unwrap_or(0);
            end -= if self.calls { held.max(hold(CALL).unwrap_or(0)) } else { held };
        }
        if self.calls
            && let Some(at) = self.text.find(CALL)
        {
            // With the blank lines before it, as the text without its calls has them.
            end = end.min(self.text[..at].trim_end_matches('\n').len());
        } else if self.calls && !last {
            // They may be those before a call whose beginning is held back.
            end = self.text[..end].trim_end_matches('\n').len();
        }
        let from = self.told.min(end);
        self.told = self.told.max(end);
        &self.text[from..end]
    }

    /// What `kept`, the whole text without its calls, has beyond what was handed out.
    pub(super) fn rest<'a>(&self, kept: &'a str) -> &'a str {
        kept.get(self.told..).unwrap_or_default()
    }

    /// The whole text.
    pub(super) fn whole(&self) -> &str {
        &self.text
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token is a byte.
    fn decode(ids: &[u32]) -> String {
        String::from_utf8_lossy(&ids.iter().map(|&id| id as u8).collect::<Vec<_>>()).into_owned()
    }

    /// The pieces that are handed out, and the whole.
    fn run(text: &str, stops: &[&str], calls: bool) -> (Vec<String>, String, bool) {
        let mut reply = ReplyText::new(stops.iter().map(|&stop| stop.to_owned()).collect(), calls);
        let mut pieces = Vec::new();
        let mut stopped = false;
        for byte in text.bytes() {
            stopped = reply.push(u32::from(byte), &decode);
            pieces.push(reply.news(false).to_owned());
            if stopped {
                break;
            }
        }
        reply.end(&decode);
        pieces.push(reply.news(true).to_owned());
        pieces.retain(|piece| !piece.is_empty());
        (pieces, reply.whole().to_owned(), stopped)
    }

    #[test]
    fn letters_of_several_bytes_come_whole() {
        let (pieces, whole, _) = run("aé日🙂", &[], false);
        assert_eq!((pieces, whole.as_str()), (vec!["a".into(), "é".into(), "日".into(), "🙂".into()], "aé日🙂"));
        let mut broken = ReplyText::new(Vec::new(), false);
        broken.push(0xe6, &decode);
        broken.end(&decode);
        assert_eq!(broken.whole(), "\u{fffd}");
    }

    #[test]
    fn nothing_of_a_stop_text_is_seen() {
        for (text, stops, seen) in [
            ("one two three", vec![" t"], "one"),
            ("aab", vec!["ab"], "a"),
            ("ababac", vec!["abac"], "ab"),
            ("x日本y", vec!["日本"], "x"),
            ("abc", vec!["z", "bc", "c"], "a"),
            ("ab", vec!["abc"], "ab"),
        ] {
            let (pieces, whole, _) = run(text, &stops, false);
            assert_eq!((pieces.concat().as_str(), whole.as_str()), (seen, seen), "{text}");
        }
        assert!(run("stop here", &["here"], false).2 && !run("stop", &["here"], false).2);
    }

    #[test]
    fn calls_are_held_back() {
        let text = "Look.\n\n<tool_call>\n{\"name\": \"a\"}\n</tool_call>";
        let (pieces, whole, _) = run(text, &[], true);
        assert_eq!((pieces.concat().as_str(), whole.as_str()), ("Look.", text));
        let (pieces, ..) = run("a <tool_\n\nb", &[], true);
        assert_eq!(pieces.concat(), "a <tool_\n\nb");
    }
}
