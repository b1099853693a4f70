//! Metrics as people read them: their order, their labels, and which of them are fractions.

use crate::plot::number;
use crate::report::EvalTable;

/// The order of tables; what is not here follows, by name.
const ORDER: [&str; 20] = [
    "accuracy",
    "reward/mean",
    "reward/std",
    "tool_rate",
    "tool_rate_needed",
    "calls",
    "turns",
    "zoom/hit",
    "zoom/right_image",
    "zoom/reading",
    "response_tokens/mean",
    "end/answered",
    "end/no_answer",
    "end/turn_limit",
    "end/length_limit",
    "end/malformed",
    "end/image_limit",
    "samples",
    "n",
    "skipped",
];

/// All names of the tables, in the report's order.
pub(crate) fn in_order<'a>(tables: impl Iterator<Item = &'a EvalTable>) -> Vec<String> {
    let mut names: Vec<String> = tables.flat_map(|table| table.keys().cloned()).collect();
    names.sort_by_key(|name| (rank(name), name.clone()));
    names.dedup();
    names
}

fn rank(name: &str) -> usize {
    match ORDER.iter().position(|known| *known == name) {
        Some(0) => 0,
        Some(position) => position + 1,
        None if name.starts_with("accuracy/") => 1,
        None => ORDER.len() + 1,
    }
}

/// Whether a metric is a fraction from 0 to 1, to be written as a percentage.
pub(crate) fn is_fraction(name: &str) -> bool {
    matches!(name, "accuracy" | "format")
        || name.starts_with("tool_rate")
        || ["accuracy/", "end/", "zoom/"].iter().any(|prefix| name.starts_with(prefix))
        || (name.ends_with("_rate") && name != "update/learning_rate")
        || name.ends_with("_fraction")
}

/// Whether more is better (`Some(true)`), worse, or neither.
pub(crate) fn more_is_better(name: &str) -> Option<bool> {
    match name {
        "accuracy" | "reward/mean" | "end/answered" => Some(true),
        "zoom/hit" | "zoom/right_image" | "zoom/reading" => Some(true),
        _ if name.starts_with("accuracy/") => Some(true),
        _ if name.starts_with("end/") => Some(false),
        _ => None,
    }
}

/// `end/no_answer` as `End: no answer`, `update/entropy` as `Entropy`, `reward/mean` as `Reward`.
pub(crate) fn label(name: &str) -> String {
    let short = name.strip_prefix("update/").unwrap_or(name);
    let short = short.strip_suffix("/mean").unwrap_or(short);
    let words = short.replace('_', " ").replacen('/', ": ", 1);
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A value with its unit; `–` when there is none.
pub(crate) fn value_text(name: &str, value: Option<&f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if is_fraction(name) && value.is_finite() => format!("{:.1} %", value * 100.0),
        Some(value) if value.fract() == 0.0 && value.abs() < 1e9 && matches!(name, "n" | "samples" | "skipped") => {
            format!("{value:.0}")
        }
        Some(value) => number(*value),
    }
}

/// What has changed, with its sign; fractions in percentage points.
pub(crate) fn change_text(name: &str, before: Option<&f64>, after: Option<&f64>) -> String {
    let (Some(before), Some(after)) = (before, after) else { return "–".to_owned() };
    let change = after - before;
    if !change.is_finite() {
        return "–".to_owned();
    }
    let sign = if change > 0.0 { "+" } else { "" };
    if is_fraction(name) { format!("{sign}{:.1} points", change * 100.0) } else { format!("{sign}{}", number(change)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_and_labelled() {
        let table: EvalTable = ["zzz", "reward/mean", "accuracy/read", "end/answered", "accuracy"]
            .map(|name| (name.to_owned(), 0.0))
            .into();
        assert_eq!(
            in_order([&table, &table].into_iter()),
            ["accuracy", "accuracy/read", "reward/mean", "end/answered", "zzz"]
        );
        assert_eq!(label("end/no_answer"), "End: no answer");
        assert_eq!(label(""), "");
    }

    #[test]
    fn fractions_are_percentages() {
        assert_eq!(value_text("accuracy/read", Some(&0.5)), "50.0 %");
        assert_eq!(value_text("update/kl", Some(&0.5)), "0.5000");
        assert_eq!(value_text("update/learning_rate", Some(&1e-6)), "1.00e-6");
        assert_eq!(change_text("accuracy", Some(&0.5), Some(&0.25)), "-25.0 points");
        assert_eq!(change_text("accuracy", Some(&0.5), Some(&f64::NAN)), "–");
    }
}
