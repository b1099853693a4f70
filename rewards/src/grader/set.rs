//! Unordered sets of answers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::text::normal;

/// The items of a text, each in the normal form of an exact answer, each once; empty ones go.
pub(super) fn items(text: &str) -> BTreeSet<String> {
    let text = text.trim();
    let listed = json_items(text).unwrap_or_else(|| split(unbracketed(text)));
    listed.iter().map(|item| normal(item)).filter(|item| !item.is_empty()).collect()
}

/// A JSON list of texts and numbers.
fn json_items(text: &str) -> Option<Vec<String>> {
    let Value::Array(values) = serde_json::from_str(text).ok()? else { return None };
    let item = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    values.iter().map(item).collect()
}

/// The text within one pair of brackets that surrounds it.
fn unbracketed(text: &str) -> &str {
    const PAIRS: [(char, char); 3] = [('{', '}'), ('[', ']'), ('(', ')')];
    let inner = PAIRS.iter().find_map(|&(open, close)| text.strip_prefix(open)?.strip_suffix(close));
    inner.filter(|inner| !inner.contains(['{', '}', '[', ']', '(', ')'])).unwrap_or(text)
}

fn split(text: &str) -> Vec<String> {
    if text.contains([';', '\n']) {
        return text.split([';', '\n']).map(str::to_owned).collect();
    }
    let mut items = vec![Vec::new()];
    for word in text.split_whitespace() {
        let mut pieces = word.split(',');
        let first = pieces.next().unwrap_or_default();
        if first.eq_ignore_ascii_case("and") {
            items.push(Vec::new());
        } else if let Some(item) = items.last_mut() {
            item.push(first);
        }
        items.extend(pieces.map(|piece| vec![piece]));
    }
    items.into_iter().map(|words| words.join(" ")).collect()
}

/// F1 of a set against a set that is not empty: `2·|both| / (|one| + |other|)`.
pub(super) fn f1(gold: &BTreeSet<String>, answer: &BTreeSet<String>) -> f64 {
    2.0 * gold.intersection(answer).count() as f64 / (gold.len() + answer.len()) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn items_of_texts() {
        let same = [
            "red, green, blue",
            "blue,red ,  Green.",
            "Red and green, blue",
            "red, green, and blue",
            "{red, green, blue}",
            "[red, green, blue]",
            r#"["Red", "green", "blue", "red"]"#,
            "red; green; blue;",
            "red\ngreen\nblue\n",
            "'red', \"green\", `blue`",
        ];
        for text in same {
            assert_eq!(items(text).into_iter().collect::<Vec<_>>(), ["blue", "green", "red"], "{text}");
        }
        assert_eq!(items("[1, 2.5]"), items("2.5, 1"));
        assert_eq!(items("black and white; grey").len(), 2);
        assert_eq!(items("sand, andy").len(), 2);
        for text in ["", " , ,", "[]", "{}", "and", "\n;"] {
            assert!(items(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn shares() {
        let gold = items("a, b");
        let shares = ["b, a", "a", "a, b, c, d", "c", ""].map(|text| f1(&gold, &items(text)));
        assert_eq!(shares, [1.0, 2.0 / 3.0, 2.0 / 3.0, 0.0, 0.0]);
    }
}
