//! Texts as they are compared: the normal form of an answer, and the letter of a choice.

/// The normal form of [`Grader::Exact`].
pub(super) fn normal(text: &str) -> String {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let joined = words.join(" ");
    let mut bare = joined.as_str();
    while let Some(less) = bare.strip_suffix('.').or_else(|| unquoted(bare)) {
        bare = less.trim();
    }
    bare.to_owned()
}

/// The text within one pair of quotes that surrounds it.
fn unquoted(text: &str) -> Option<&str> {
    const PAIRS: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];
    PAIRS.iter().find_map(|&(open, close)| text.strip_prefix(open)?.strip_suffix(close))
}

/// The letter of [`Grader::Choice`].
pub(super) fn letter(text: &str) -> Option<char> {
    let text = text.trim();
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let mut rest = inner.unwrap_or(text).chars();
    let letter = rest.next().filter(char::is_ascii_uppercase)?;
    let bare = match (inner, rest.next(), rest.next()) {
        (_, None, _) | (None, Some('.'), None) => true,
        (None, Some('.'), Some(space)) => space.is_whitespace(),
        _ => false,
    };
    bare.then_some(letter)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn normal_forms() {
        for text in ["Red Car", " red\n\tcar. ", "\"Red car.\"", "'red car'.", "“Red  Car”", "`red car`..."] {
            assert_eq!(normal(text), "red car", "{text}");
        }
        assert_eq!(normal("3.14"), "3.14");
        assert_eq!(normal("don't"), "don't");
        assert_eq!(normal("\""), "\"");
        assert_eq!(normal(" ' . ' "), "");
    }

    #[test]
    fn letters() {
        for text in ["B", "(B)", "B.", "B. a red car", " B \n", "B.\ttext"] {
            assert_eq!(letter(text), Some('B'), "{text}");
        }
        for text in
            ["", "b", "BC", "B)", "(B", "(B.)", "(B) text", "B: x", "B.x", "B or C", "the answer is B", "()", "É"]
        {
            assert_eq!(letter(text), None, "{text}");
        }
    }
}
