//! Graders: whether an answer is the gold one. Deterministic, and reads the trajectory's answer only.

use imagent_core::{Sample, Trajectory};
use serde::{Deserialize, Serialize};

use crate::check;

/// Why a sample cannot be graded, whatever is answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GradeError {
    /// There is no gold answer.
    #[error("sample {id}: the gold answer is empty")]
    EmptyGold {
        /// The sample.
        id: String,
    },
    /// The gold answer is not of the grader's kind.
    #[error("sample {id}: the gold answer {gold:?} is not {expected}")]
    WrongGold {
        /// The sample.
        id: String,
        /// Its gold answer.
        gold: String,
        /// What the grader takes.
        expected: &'static str,
    },
}

/// How an answer is compared with the gold answer. Both are read in the same way.
///
/// ```
/// use imagent_rewards::Grader;
/// let choice: Grader = serde_json::from_str(r#"{"kind": "choice"}"#)?;
/// assert_eq!(choice.equal("B", "(B)"), Some(true));
/// assert_eq!(choice.equal("B", "b or C"), Some(false));
/// assert_eq!(choice.equal("seven", "A"), None);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Grader {
    /// Equal texts after these steps: lower case; whitespace trimmed and every run of it made one space; then, as
    /// often as it applies, one full stop at the end or one pair of surrounding quotes (`"…"`, `'…'`, `` `…` ``, `“…”`,
    /// `‘…’`) taken off, and whitespace trimmed again. The default.
    Exact {},
    /// Equal letters of a choice. After trimming whitespace, one capital letter from A to Z: alone (`B`), in
    /// parentheses (`(B)`), with a full stop (`B.`), or with a full stop, whitespace and any text (`B. a red car`).
    /// Nothing else is a letter: not `b`, `B)`, `B: a car`, `the answer is B`, `B or C`.
    Choice {},
    /// Numbers that differ by at most `tolerance`.
    ///
    /// After trimming whitespace: a sign (`+`, `-` or `−`) or none; digits, plainly or in groups of three by commas
    /// (`1,234,567`); a fraction (`.5`) or none, of which one without digits (`7.`) is none; an exponent (`e-3`) or
    /// none; a percent sign, after whitespace or not, that divides by 100, or none. Nothing else is a number, units
    /// included.
    Number {
        /// Largest absolute difference, not negative; default 1e-6.
        #[serde(default = "tolerance", deserialize_with = "check::not_negative")]
        tolerance: f64,
    },
}

fn tolerance() -> f64 {
    1e-6
}

impl Default for Grader {
    fn default() -> Self {
        Self::Exact {}
    }
}

impl Grader {
    /// Whether `answer` is `gold`; `None` where `gold` is empty or not of this kind.
    pub fn equal(&self, gold: &str, answer: &str) -> Option<bool> {
        match self {
            Self::Exact {} => Some(normal(gold)).filter(|gold| !gold.is_empty()).map(|gold| gold == normal(answer)),
            Self::Choice {} => letter(gold).map(|gold| letter(answer) == Some(gold)),
            Self::Number { tolerance } => {
                number(gold).map(|gold| number(answer).is_some_and(|answer| (answer - gold).abs() <= *tolerance))
            }
        }
    }

    /// 1 for the gold answer, 0 for another or none.
    ///
    /// # Errors
    /// When the sample has no gold answer of this kind.
    pub fn grade(&self, sample: &Sample, trajectory: &Trajectory) -> Result<f64, GradeError> {
        let answer = trajectory.answer.as_deref();
        match self.equal(&sample.answer, answer.unwrap_or_default()) {
            Some(equal) => Ok(f64::from(u8::from(equal && answer.is_some()))),
            None => Err(self.error(sample)),
        }
    }

    fn error(&self, sample: &Sample) -> GradeError {
        let id = sample.id.clone();
        let expected = match self {
            Self::Exact {} => return GradeError::EmptyGold { id },
            _ if sample.answer.trim().is_empty() => return GradeError::EmptyGold { id },
            Self::Choice {} => "a letter of a choice",
            Self::Number { .. } => "a number",
        };
        GradeError::WrongGold { id, gold: sample.answer.clone(), expected }
    }
}

/// The normal form of [`Grader::Exact`].
fn normal(text: &str) -> String {
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
fn letter(text: &str) -> Option<char> {
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

/// The value of [`Grader::Number`].
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let (text, unit) = match text.strip_suffix('%') {
        Some(text) => (text.trim_end(), 0.01),
        None => (text, 1.0),
    };
    let (negative, text) = match text.strip_prefix(['-', '−']) {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.map_or(Some(0), |e| e.parse().ok())?;
    let whole = ungrouped(whole)?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let value: f64 = format!("0{whole}.{fraction}0e{exponent}").parse().ok()?;
    (value.is_finite()).then_some(if negative { -value * unit } else { value * unit })
}

/// Digits without their thousands separators; `None` where these are misplaced or something else stands there.
fn ungrouped(whole: &str) -> Option<String> {
    let groups: Vec<&str> = whole.split(',').collect();
    let head = groups.first()?;
    let grouped = groups.len() == 1 || ((1..=3).contains(&head.len()) && groups[1..].iter().all(|g| g.len() == 3));
    let digits = groups.concat();
    (grouped && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
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

    #[test]
    fn numbers() {
        let cases = [
            ("7", 7.0),
            (" -7. ", -7.0),
            ("+.5", 0.5),
            ("−3", -3.0),
            ("1,234,567.25", 1_234_567.25),
            ("1234", 1234.0),
            ("12%", 0.12),
            ("12.5 %", 0.125),
            ("1e3", 1000.0),
            ("2.5E-1", 0.25),
            ("007", 7.0),
            ("1,000", 1000.0),
        ];
        for (text, value) in cases {
            assert_eq!(number(text), Some(value), "{text}");
        }
        let not = [
            "", "-", ".", "%", "1,23", "1234,567", ",123", "1,,000", "1.2.3", "1.5,000", "7 cm", "$7", "nan", "inf",
            "1e", "e5", "1e999", "--1", "1 000", "0x10", "7..", "٣",
        ];
        for text in not {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
