//! Texts as they are compared: the normal form of an answer.

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
pub(super) fn unquoted(text: &str) -> Option<&str> {
    const PAIRS: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];
    PAIRS.iter().find_map(|&(open, close)| text.strip_prefix(open)?.strip_suffix(close))
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
}
