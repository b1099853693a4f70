//! The option that an answer names: its letter, or its text where the options are known.

use super::text::{normal, unquoted};

/// What stands before a letter in prose.
const CUES: [&str; 2] = ["answer is", "answer:"];
/// What may follow a letter at the head of an answer.
const MARKS: [char; 3] = ['.', ')', ':'];

/// The letter that an answer names by the rules of [`Grader::Choice`](super::Grader::Choice); `None` where it names none
/// or several.
pub(super) fn chosen(text: &str, options: &[&str]) -> Option<char> {
    let text = bare(text);
    let letter = match head(text) {
        Some((letter, rest)) => agrees(letter, rest, options).then_some(letter),
        None => by_text(text, options).or_else(|| in_prose(text)),
    };
    letter.filter(|&letter| is_option(letter, options))
}

/// The letter of a gold answer, which is taken at its word: whatever stands behind the letter is the option's text.
pub(super) fn gold(text: &str, options: &[&str]) -> Option<char> {
    let text = bare(text);
    let letter = head(text).map(|(letter, _)| letter).filter(|&letter| is_option(letter, options));
    letter.or_else(|| by_text(text, options))
}

/// Whether a letter is that of an option, as far as the options are known.
fn is_option(letter: char, options: &[&str]) -> bool {
    options.is_empty() || (letter as usize - 'A' as usize) < options.len()
}

/// The text without whitespace, quotes, `**` and full stops around it.
fn bare(text: &str) -> &str {
    let mut text = text.trim();
    let bold = |text| str::strip_prefix(text, "**").and_then(|rest| rest.strip_suffix("**"));
    while let Some(less) = text.strip_suffix('.').or_else(|| unquoted(text)).or_else(|| bold(text)) {
        text = less.trim();
    }
    text
}

/// A letter as an answer begins with it (`B`, `(B)`, `B.`, `B)`, `B:`, small or capital), and the text behind it.
fn head(text: &str) -> Option<(char, &str)> {
    let (letter, rest) = match text.strip_prefix('(') {
        Some(inside) => {
            let (letter, rest) = first(inside)?;
            (letter, rest.strip_prefix(')')?)
        }
        None => {
            let (letter, rest) = first(text)?;
            (letter, if rest.is_empty() { rest } else { rest.strip_prefix(MARKS)? })
        }
    };
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some((letter, rest.trim()))
}

/// The letter that a text begins with, as a capital, and what follows.
fn first(text: &str) -> Option<(char, &str)> {
    let letter = text.chars().next().filter(char::is_ascii_alphabetic)?;
    Some((letter.to_ascii_uppercase(), &text[1..]))
}

/// Whether what stands behind a letter names no other one.
fn agrees(letter: char, rest: &str, options: &[&str]) -> bool {
    match by_text(rest, options) {
        Some(other) => other == letter,
        None => head(rest).is_none_or(|(other, _)| other == letter) && named(rest).all(|other| other == letter),
    }
}

/// The letter of the one option that has this text. An option may be written with its letter, `(A) a car`.
fn by_text(text: &str, options: &[&str]) -> Option<char> {
    let wanted = normal(text);
    let is = |(letter, option): &(char, &&str)| {
        let own = head(option.trim()).filter(|(own, rest)| own == letter && !rest.is_empty());
        !wanted.is_empty() && (normal(option) == wanted || own.is_some_and(|(_, rest)| normal(rest) == wanted))
    };
    let mut found = ('A'..='Z').zip(options).filter(is);
    let (letter, _) = found.next()?;
    found.next().is_none().then_some(letter)
}

/// The letter behind the words `answer is` or `answer:`, where the text names no other.
fn in_prose(text: &str) -> Option<char> {
    let lower = text.to_ascii_lowercase();
    let behind = |cue: &'static str| lower.match_indices(cue).map(move |(at, cue)| at + cue.len());
    let mut stated = CUES.into_iter().flat_map(behind).filter_map(|at| stated(&text[at..]));
    let letter = stated.next()?;
    (stated.all(|other| other == letter) && named(text).all(|other| other == letter)).then_some(letter)
}

/// The letter that a text begins with, in parentheses or ended by punctuation.
fn stated(text: &str) -> Option<char> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ':' || c == '*');
    if let Some(inside) = text.strip_prefix('(') {
        return first(inside).filter(|(_, rest)| rest.starts_with(')')).map(|(letter, _)| letter);
    }
    let (letter, rest) = first(text)?;
    let ends = rest.chars().next().is_none_or(|c| ".,;:!?)*\n".contains(c));
    ends.then_some(letter)
}

/// Letters that a text names somewhere: capitals that are a word of their own, and any in parentheses. `A` and `I` before a
/// word in small letters are no names.
fn named(text: &str) -> impl Iterator<Item = char> {
    let part_of_word = |c: char| c.is_alphanumeric() || "'’-_".contains(c);
    text.char_indices().filter(|(_, c)| c.is_ascii_alphabetic()).filter_map(move |(at, letter)| {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let alone = !before.ends_with(part_of_word) && !after.starts_with(part_of_word);
        let enclosed = before.ends_with('(') && after.starts_with(')');
        let article = matches!(letter, 'A' | 'I')
            && after.strip_prefix(' ').is_some_and(|rest| rest.starts_with(char::is_lowercase));
        (enclosed || alone && letter.is_ascii_uppercase() && !article).then(|| letter.to_ascii_uppercase())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const OPTIONS: [&str; 4] = ["a red car", "Plan B", "(C) the bus", "vitamin C"];

    #[test]
    fn letters_without_options() {
        let b = [
            "B",
            "b",
            "(B)",
            "(b)",
            "B.",
            "B)",
            "B:",
            " b \n",
            "(B).",
            "\"B\"",
            "**B**",
            "**B.**",
            "B. a red car",
            "B) a red car",
            "B: a red car",
            "(B) a red car",
            "b. a red car",
            "B.\ttext",
            "B. (B)",
            "B. I see a car",
            "B: A car",
            "B. the B side",
            "The answer is B",
            "the ANSWER is: (b).",
            "Answer: B",
            "Final answer: **B**",
            "I think the correct answer is B, as a car is there.",
            "A car is red. So the answer is B.",
            "The answer is B. The answer is (B)",
            "the answer is (B) because it is red",
        ];
        for text in b {
            assert_eq!(chosen(text, &[]), Some('B'), "{text}");
        }
        let none = [
            "",
            ".",
            "()",
            "(B",
            "(B.)",
            "[B]",
            "BC",
            "B.x",
            "B-",
            "É",
            "Β",
            "-B",
            "7",
            "B or C",
            "B, C",
            "B/C",
            "B C",
            "B. C",
            "B. c",
            "(B) (C)",
            "B) C)",
            "B. or C.",
            "B: not (c)",
            "a red car",
            "B because",
            "option B",
            "it is B",
            "the answer is B or C",
            "the answer is B, not C",
            "the answer is B. No, the answer is C",
            "A. The answer is B",
            "the answer is a car",
            "the answer is A car",
            "the answer is B because",
            "the answer is",
            "answer: cab",
            "between (B) and (C) the answer is B",
        ];
        for text in none {
            assert_eq!(chosen(text, &[]), None, "{text}");
        }
    }

    #[test]
    fn letters_and_texts_with_options() {
        let cases = [
            ("a", 'A'),
            ("a red car", 'A'),
            ("A Red  Car.", 'A'),
            ("'a red car'", 'A'),
            ("A. a red car", 'A'),
            ("plan b", 'B'),
            ("(B) Plan B", 'B'),
            ("b: plan b", 'B'),
            ("The bus", 'C'),
            ("(C) the bus", 'C'),
            ("C. the bus.", 'C'),
            ("C. a big bus", 'C'),
            ("D. vitamin C", 'D'),
            ("vitamin C", 'D'),
            ("the answer is d.", 'D'),
        ];
        for (text, letter) in cases {
            assert_eq!(chosen(text, &OPTIONS), Some(letter), "{text}");
        }
        for text in
            ["E", "(E)", "the answer is E", "A. Plan B", "B. a red car", "C. vitamin C", "a red", "car", "bus", ""]
        {
            assert_eq!(chosen(text, &OPTIONS), None, "{text}");
        }
        assert_eq!(chosen("red", &["red", "Red."]), None, "two options have this text");
        assert_eq!(chosen("", &["", "x"]), None);
        assert_eq!(chosen("B", &["B", "A"]), Some('B'), "a letter is read before a text");
    }

    #[test]
    fn gold_answers() {
        for (text, letter) in [("b", 'B'), ("(B)", 'B'), ("B. vitamin C", 'B'), ("B) A or C", 'B')] {
            assert_eq!(gold(text, &[]), Some(letter), "{text}");
        }
        assert_eq!(gold("a red car", &OPTIONS), Some('A'));
        assert_eq!(gold("D. anything", &OPTIONS), Some('D'));
        for text in ["E", "seven", ""] {
            assert_eq!(gold(text, &OPTIONS), None, "{text}");
        }
        for text in ["a red car", "the answer is B", "seven", "7", ""] {
            assert_eq!(gold(text, &[]), None, "{text}");
        }
    }
}
