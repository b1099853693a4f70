//! Numbers as people write them, and when two are equal.

/// The value of [`Grader::Number`].
pub(super) fn number(text: &str) -> Option<f64> {
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

/// Whether two numbers are equal up to an absolute and a relative tolerance, as Python's `math.isclose`.
pub(super) fn close(a: f64, b: f64, tolerance: f64, relative: f64) -> bool {
    (a - b).abs() <= tolerance.max(relative * a.abs().max(b.abs()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

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

    #[test]
    fn what_is_close() {
        assert!(close(100.0, 105.0, 0.0, 0.05) && close(105.0, 100.0, 0.0, 0.05) && !close(100.0, 106.0, 0.0, 0.05));
        assert!(close(0.0, 1e-6, 1e-6, 0.0) && !close(0.0, 1e-6, 0.0, 0.5) && close(-2.0, -2.0, 0.0, 0.0));
        assert!(!close(-100.0, 100.0, 0.0, 0.5));
    }
}
