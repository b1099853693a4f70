//! Replies that no rule decides, put to a judge model where the benchmark's own protocol has one. What it says is kept, so that it
//! is asked once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use imagent_analysis::record::SharedLines;
use imagent_core::Role;
use imagent_core::chat::{ChatError, ChatMessage, ChatModel, ChatRequest, side_by_side};
use imagent_data::formats::{Answer, Entry};
use serde::{Deserialize, Serialize};

use super::official::{self, Reading};
use super::score::{spoken, with_letters};
use crate::error::Error;

/// Most tokens of what a judge says.
const MAX_TOKENS: usize = 512;
/// Replies that are put to the judge before what it said is written down, for each question under way.
const AHEAD: usize = 4;

/// What a reply is judged on: with equal keys the judge is not asked again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Case {
    /// The judge.
    pub judge: String,
    /// The question with its options.
    pub question: String,
    /// The gold answer; the judge is not told.
    pub gold: String,
    /// The reply.
    pub answer: String,
}

/// A line of the file in which verdicts are kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    case: Case,
    /// What the judge said.
    verdict: String,
}

/// A judge model, and what it has said before.
pub struct Judge<'a> {
    model: &'a dyn ChatModel,
    at_once: usize,
    file: SharedLines,
    verdicts: BTreeMap<Case, String>,
}

impl std::fmt::Debug for Judge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("model", &self.model.name()).field("file", &self.file).finish_non_exhaustive()
    }
}

impl<'a> Judge<'a> {
    /// A judge whose verdicts are kept in `file`; at most `at_once` questions are under way.
    pub fn new(model: &'a dyn ChatModel, at_once: usize, file: &Path) -> Self {
        Self { model, at_once: at_once.max(1), file: SharedLines::new(file), verdicts: BTreeMap::new() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.model.name()
    }

    /// What a reply to an entry is judged on.
    pub fn case(&self, entry: &Entry, reply: &str) -> Case {
        let gold = match &entry.answer {
            Answer::Choice(letter) => letter.to_string(),
            Answer::Text(text) => text.clone(),
            Answer::Box(region) => format!("{:?}", region.corners),
        };
        let question = [std::slice::from_ref(&entry.question), &with_letters(entry)].concat().join("\n");
        Case { judge: self.name().to_owned(), question, gold, answer: reply.to_owned() }
    }

    /// Asks about all cases on which the file has no verdict, and keeps what is said. Several runs may share the file.
    ///
    /// # Errors
    /// When the judge cannot be asked, or the file cannot be read or written; what was said until then stays.
    pub fn hear(&mut self, cases: impl IntoIterator<Item = Case>) -> Result<(), Error> {
        self.exchange(Vec::new())?;
        let mut open: BTreeSet<Case> = cases.into_iter().collect();
        loop {
            // Another run may have asked meanwhile.
            open.retain(|case| !self.verdicts.contains_key(case));
            let part: Vec<Case> = open.iter().take(AHEAD * self.at_once).cloned().collect();
            if part.is_empty() {
                return Ok(());
            }
            let said = side_by_side(part.len(), self.at_once, |at| ask(self.model, &part[at]));
            let (mut heard, mut failed) = (Vec::new(), None);
            for (case, said) in part.into_iter().zip(said) {
                match said {
                    Ok(verdict) => heard.push(Kept { case, verdict }),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            self.exchange(heard)?;
            failed.map_or(Ok(()), Err)?;
        }
    }

    /// Reads what other runs have heard, and writes down what this one did. Of two verdicts the one that is kept counts.
    fn exchange(&mut self, mut heard: Vec<Kept>) -> Result<(), Error> {
        let verdicts = &mut self.verdicts;
        self.file.exchange(|kept: Vec<Kept>| {
            verdicts.extend(kept.into_iter().map(|kept| (kept.case, kept.verdict)));
            heard.retain(|kept| !verdicts.contains_key(&kept.case));
            verdicts.extend(heard.iter().map(|kept| (kept.case.clone(), kept.verdict.clone())));
            heard
        })?;
        Ok(())
    }

    /// The option that the judge found in a reply; `Nothing` where it found none, `Judge` where it said neither or was not asked.
    pub fn verdict(&self, case: &Case, options: &[String]) -> Reading {
        self.verdicts.get(case).map_or(Reading::Judge, |verdict| official::hrbench(spoken(verdict), options))
    }
}

fn ask(model: &dyn ChatModel, case: &Case) -> Result<String, ChatError> {
    let Case { question, answer, .. } = case;
    let text = format!(
        "Somebody was asked a question with options. Say which option the reply chooses. Do not answer the question yourself, and \
         do not mind whether the reply is right.\n\nQuestion and options:\n{question}\n\nReply:\n{answer}\n\nWrite the capital letter \
         of the chosen option and nothing else; write Z if the reply refuses, chooses none of them, or chooses several."
    );
    let request = ChatRequest {
        max_tokens: Some(MAX_TOKENS),
        temperature: Some(0.0),
        seed: Some(0),
        ..ChatRequest::new(vec![ChatMessage::text(Role::User, text)])
    };
    let reply = model.ask(&request)?;
    let none = || ChatError::Failed("the judge replied without a choice".to_owned());
    Ok(reply.choices.into_iter().next().ok_or_else(none)?.text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use imagent_core::chat::{ChatPart, ChatReply, RuleChat};

    use super::super::tests::entry;
    use super::*;

    /// Says B where the reply is `blue`, Z where it is `none`, and something else otherwise.
    fn rule() -> RuleChat {
        RuleChat::new(|request| {
            let [ChatPart::Text(text)] = &request.messages[0].parts[..] else { panic!("one text") };
            assert!(text.contains("A. red\nB. blue\nC. grey") && !text.contains("gold"), "{text}");
            let verdict = match text {
                text if text.contains("Reply:\nblue\n") => "<think>A?</think>(B)",
                text if text.contains("Reply:\nnone\n") => "Z",
                text if text.contains("Reply:\nfail\n") => return Err(ChatError::Failed("out of order".into())),
                _ => "who knows",
            };
            Ok(ChatReply::text(verdict))
        })
    }

    #[test]
    fn a_verdict_is_kept_and_asked_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let (file, model, entry) = (dir.path().join("judged.jsonl"), rule(), entry("x"));
        let replies = ["blue", "none", "what", "blue"];
        let verdicts =
            |judge: &Judge<'_>| replies.map(|reply| judge.verdict(&judge.case(&entry, reply), &entry.options));
        let wanted = [Reading::Letter('B'), Reading::Nothing, Reading::Judge, Reading::Letter('B')];
        let mut judge = Judge::new(&model, 2, &file);
        judge.hear(replies.map(|reply| judge.case(&entry, reply))).unwrap();
        assert_eq!((verdicts(&judge), model.asked()), (wanted.clone(), 3));
        let kept = std::fs::read_to_string(&file).unwrap();
        // A line that a stop cut short is asked for again.
        std::fs::write(&file, &kept[..kept.len() - 5]).unwrap();
        let mut again = Judge::new(&model, 1, &file);
        again.hear(replies.map(|reply| again.case(&entry, reply))).unwrap();
        assert_eq!((verdicts(&again), model.asked()), (wanted, 4));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), kept);
    }

    #[test]
    fn runs_that_share_a_file_agree() {
        let dir = tempfile::tempdir().unwrap();
        let (file, model, entry) = (dir.path().join("judged.jsonl"), rule(), entry("x"));
        let mut judge = Judge::new(&model, 1, &file);
        let case = judge.case(&entry, "blue");
        // While this run waits for its verdict, another asks the same and has another one.
        let meanwhile = RuleChat::new({
            let (file, case) = (file.clone(), case.clone());
            move |_| {
                Judge::new(&rule(), 1, &file).hear([case.clone()]).unwrap();
                Ok(ChatReply::text("A"))
            }
        });
        let mut first = Judge::new(&meanwhile, 1, &file);
        first.hear([case.clone()]).unwrap();
        judge.hear([case.clone()]).unwrap();
        let found = [&first, &judge].map(|judge| judge.verdict(&case, &entry.options));
        assert_eq!((found, model.asked()), ([Reading::Letter('B'), Reading::Letter('B')], 0));
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
    }

    #[test]
    fn what_was_said_before_a_failure_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (file, model, entry) = (dir.path().join("judged.jsonl"), rule(), entry("x"));
        let mut judge = Judge::new(&model, 1, &file);
        judge.hear([judge.case(&entry, "blue")]).unwrap();
        let case = judge.case(&entry, "fail");
        assert_eq!(judge.hear([case.clone()]).unwrap_err().to_string(), "out of order");
        assert_eq!(judge.verdict(&case, &entry.options), Reading::Judge);
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
        let other = Case { gold: "B".into(), ..judge.case(&entry, "blue") };
        assert_eq!(judge.verdict(&other, &entry.options), Reading::Judge, "another gold answer, another case");
    }
}
