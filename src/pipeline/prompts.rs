//! What roles are told: texts in which `{…}` stands for what changes from item to item.

use std::path::Path;

use super::wrong;
use crate::error::Error;

/// A role's placeholders.
struct Known {
    role: &'static str,
    /// Every text must have these.
    needed: &'static [&'static str],
    /// A text may have these as well.
    more: &'static [&'static str],
    /// The text that comes with the program.
    default: &'static str,
}

const KNOWN: [Known; 4] = [
    Known {
        role: "grouper",
        needed: &[],
        more: &["count", "fewest", "most"],
        default: include_str!("../../configs/pipeline/prompts/grouper.txt"),
    },
    Known {
        role: "writer",
        needed: &[],
        more: &["count"],
        default: include_str!("../../configs/pipeline/prompts/writer.txt"),
    },
    Known {
        role: "answerer",
        needed: &["question"],
        more: &["count"],
        default: include_str!("../../configs/pipeline/prompts/answerer.txt"),
    },
    Known {
        role: "verifier",
        needed: &["question", "answer"],
        more: &["count", "votes"],
        default: include_str!("../../configs/pipeline/prompts/verifier.txt"),
    },
];

/// A role's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt(String);

impl Prompt {
    /// Reads the text of a role; `file` is empty for that which comes with the program.
    ///
    /// # Errors
    /// Names the file and the placeholder that is wrong.
    pub(super) fn read(role: &str, file: &str) -> Result<Self, Error> {
        let Some(known) = KNOWN.iter().find(|known| known.role == role) else {
            return Err(wrong(Path::new(file), format!("there is no role {role:?}")));
        };
        if file.is_empty() {
            return Ok(Self(known.default.to_owned()));
        }
        let path = Path::new(file);
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| wrong(path, format!("the prompt of the {role} cannot be read: {error}")))?;
        known.check(&text).map_err(|problem| wrong(path, problem))?;
        Ok(Self(text))
    }

    /// The text as written.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The text with values in place of placeholders; what is put in is not looked at again.
    pub(super) fn fill(&self, values: &[(&str, &str)]) -> String {
        let (mut out, mut end) = (String::new(), 0);
        for (at, name) in placeholders(&self.0) {
            let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else { continue };
            out.push_str(&self.0[end..at]);
            out.push_str(value);
            end = at + name.len() + 2;
        }
        out + &self.0[end..]
    }
}

impl Known {
    fn check(&self, text: &str) -> Result<(), String> {
        let found: Vec<(usize, &str)> = placeholders(text).collect();
        let known: Vec<&str> = self.needed.iter().chain(self.more).copied().collect();
        let strange = found.iter().find(|(_, name)| !known.contains(name));
        if let Some((at, name)) = strange {
            let line = text[..*at].matches('\n').count() + 1;
            let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
            return Err(format!(
                "line {line}: {{{name}}} is no placeholder of the {}; known: {}",
                self.role,
                known.join(", ")
            ));
        }
        match self.needed.iter().find(|&&needed| found.iter().all(|(_, name)| *name != needed)) {
            Some(missing) => Err(format!("the prompt of the {} must say {{{missing}}}", self.role)),
            None => Ok(()),
        }
    }
}

/// Where placeholders stand, and their names: a word in braces. Braces around anything else are JSON.
fn placeholders(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('{').filter_map(|(at, _)| {
        let (name, _) = text[at + 1..].split_once('}')?;
        let word = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        word.then_some((at, name))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn values_are_put_in_once() {
        let prompt = Prompt("{a} and {\"b\": 1} and {b}{".to_owned());
        assert_eq!(prompt.fill(&[("a", "{b}"), ("b", "2")]), "{b} and {\"b\": 1} and 2{");
    }

    #[test]
    fn the_texts_of_the_program_pass_their_own_check() {
        for known in &KNOWN {
            known.check(known.default).unwrap();
        }
    }

    #[test]
    fn placeholders_that_are_strange_or_missing_are_named() {
        let check = |at: usize, text| KNOWN[at].check(text).unwrap_err();
        let problem = check(1, "Look.\nAt {images}, {count}.");
        assert_eq!(problem, "line 2: {images} is no placeholder of the writer; known: {count}");
        assert_eq!(check(3, "{question} {\"a\": {}}"), "the prompt of the verifier must say {answer}");
    }
}
