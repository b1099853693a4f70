//! Tables for a terminal: plain text, columns aligned, no colour.

use crate::report::EvalTable;
use crate::report::names::{change_text, in_order, value_text};

/// Columns under a header: the first to the left, the others to the right. A row may be short.
///
/// ```
/// let text = imagent_analysis::table(&["arm", "accuracy"], &[vec!["plain".into(), "0.5".into()]]);
/// assert_eq!(text, "arm    accuracy\n-----  --------\nplain       0.5\n");
/// ```
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| cell(row, column)).chain([cell(&header, column)]);
        cells.map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(widest).collect();
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    let line = |row: &[String]| {
        let cells: Vec<String> =
            widths.iter().enumerate().map(|(i, &width)| pad(&cell(row, i), width, i > 0)).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    [&header, &rule].into_iter().chain(rows).map(|row| line(row)).collect()
}

fn pad(text: &str, width: usize, right: bool) -> String {
    let space = " ".repeat(width.saturating_sub(text.chars().count()));
    if right { format!("{space}{text}") } else { format!("{text}{space}") }
}

/// A table of two evaluations, or of one when the other is missing; metrics in the report's order.
pub fn before_after(before: Option<&EvalTable>, after: Option<&EvalTable>) -> String {
    let names = in_order([before, after].into_iter().flatten());
    let (Some(before), Some(after)) = (before, after) else {
        let Some(only) = before.or(after) else { return String::new() };
        let rows: Vec<_> = names.iter().map(|name| vec![name.clone(), value_text(name, only.get(name))]).collect();
        return table(&["metric", "value"], &rows);
    };
    let row = |name: &String| {
        let (b, a) = (before.get(name), after.get(name));
        vec![name.clone(), value_text(name, b), value_text(name, a), change_text(name, b, a)]
    };
    table(&["metric", "before", "after", "change"], &names.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let text =
            table(&["a", "b", "c"], &[vec!["größe".into(), "1".into()], vec!["x".into(), "22".into(), "z".into()]]);
        assert_eq!(text, "a       b  c\n-----  --  -\ngröße   1\nx      22  z\n");
    }

    #[test]
    fn before_and_after_stand_side_by_side() {
        let before: EvalTable = [("accuracy".to_owned(), 0.25), ("calls".to_owned(), 0.5)].into();
        let after: EvalTable = [("accuracy".to_owned(), 0.8125), ("zzz".to_owned(), 3.0)].into();
        let text = before_after(Some(&before), Some(&after));
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[2], "accuracy 25.0 % 81.2 % +56.2 points");
        assert_eq!(lines[3], "calls 0.5000 – –");
        assert_eq!(lines[4], "zzz – 3.000 –");
        assert_eq!(before_after(None, None), "");
        assert!(before_after(None, Some(&after)).starts_with("metric"));
    }
}
