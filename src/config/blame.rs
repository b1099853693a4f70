//! Finds the key that a refused document owes its refusal to.
//!
//! Errors of plug-ins come through buffers that lose the key and its line. But every setting has a default, so a table
//! with a single key is a document too: the key that is refused alone is the culprit.

use toml::{Table, Value};

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The key's parts from the root.
    pub(super) path: Vec<String>,
    /// The reader's message, in a user's words.
    pub(super) problem: String,
    /// For a key or a `type` that does not exist: its name, and those that do.
    pub(super) unknown: Option<(String, Vec<String>)>,
}

/// Follows the refusal down from the root.
pub(super) fn find_fault(table: &Table, check: &dyn Fn(Value) -> Result<(), String>, problem: String) -> Fault {
    let mut path = Vec::new();
    let problem = descend(&Value::Table(table.clone()), check, problem, &mut path);
    let mut unknown = None;
    if let Some((name, known)) = unknown_field(&problem) {
        if path.last() != Some(&name) {
            path.push(name.clone());
        }
        unknown = Some((name, known));
    }
    Fault { path, problem: plain(&problem), unknown }
}

fn descend(
    value: &Value,
    check: &dyn Fn(Value) -> Result<(), String>,
    problem: String,
    path: &mut Vec<String>,
) -> String {
    if unknown_field(&problem).is_some_and(|(name, _)| path.last() == Some(&name)) {
        return problem;
    }
    // What is missing is missed in the table that is refused for it when empty.
    let is_missing = |problem: &str| problem.starts_with("missing field");
    if is_missing(&problem) && value.is_table() && check(Value::Table(tags(value))).err().as_ref() == Some(&problem) {
        return problem;
    }
    let parts = parts(value);
    let mut refused: Vec<_> =
        parts.iter().filter_map(|part| Some((part, check((part.wrap)(part.inner.clone())).err()?))).collect();
    refused.retain(|(_, said)| !is_missing(said) || is_missing(&problem));
    refused.sort_by_key(|(_, said)| *said != problem);
    let Some((part, said)) = refused.into_iter().next() else { return problem };
    path.push(part.key.clone());
    descend(part.inner, &|value| check((part.wrap)(value)), said, path)
}

/// A part of a value, and how to make a value that has this part only.
struct Part<'a> {
    key: String,
    inner: &'a Value,
    wrap: Box<dyn Fn(Value) -> Value>,
}

/// Keys that say what the other keys of a table are.
const TAGS: [&str; 2] = ["type", "kind"];

fn parts(value: &Value) -> Vec<Part<'_>> {
    match value {
        Value::Table(table) => {
            let tags = tags(value);
            let part = |(key, inner): (&String, _)| {
                let (name, tags) = (key.clone(), tags.clone());
                let wrap = move |inner| Value::Table(tags.clone().into_iter().chain([(name.clone(), inner)]).collect());
                Part { key: key.clone(), inner, wrap: Box::new(wrap) }
            };
            let mut parts: Vec<_> = table.iter().map(part).collect();
            // A plug-in that does not exist is to blame before its fields are.
            parts.sort_by_key(|part| !TAGS.contains(&part.key.as_str()));
            parts
        }
        Value::Array(list) => {
            let part = |(index, inner): (usize, _)| Part {
                key: index.to_string(),
                inner,
                wrap: Box::new(|inner| Value::Array(vec![inner])),
            };
            list.iter().enumerate().map(part).collect()
        }
        _ => Vec::new(),
    }
}

/// The tags of a table, alone.
fn tags(value: &Value) -> Table {
    let all = value.as_table().into_iter().flatten();
    let tags = all.filter(|(key, _)| TAGS.contains(&key.as_str()));
    tags.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The name and the known names of serde's ``unknown field `x`, expected …``.
fn unknown_field(problem: &str) -> Option<(String, Vec<String>)> {
    let mut names = problem.strip_prefix("unknown field `")?.split('`').step_by(2).map(str::to_owned);
    let name = names.next()?;
    Some((name, names.collect()))
}

/// A reader's message without names of Rust types.
fn plain(problem: &str) -> String {
    let words = [
        ("expected usize", "expected a whole number of at least 0"),
        ("expected u64", "expected a whole number of at least 0"),
        ("expected u32", "expected a whole number of at least 0"),
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected f32", "expected a number"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected a table"),
        ("dyn Tool", "a table with a `type`"),
        ("dyn Reward", "a table with a `type`"),
        ("dyn Mask", "a table with a `type`"),
        ("dyn PolicyOptimizer", "a table with a `type`"),
    ];
    let mut text = words.iter().fold(problem.to_owned(), |text, (from, to)| text.replace(from, to));
    for kind in ["struct ", "internally tagged enum "] {
        let Some((before, name)) = text.split_once(&format!("expected {kind}")) else { continue };
        let rest = name.find(|c: char| !c.is_alphanumeric() && c != '_').map_or("", |end| &name[end..]);
        text = format!("{before}expected a table{rest}");
    }
    if let Some((name, known)) = text.strip_prefix("unknown variant `").and_then(|rest| rest.split_once('`')) {
        let known: Vec<String> = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let hint = super::raw::closest(name, &known).map(|closest| format!("; did you mean `{closest}`?"));
        text = format!("unknown value `{name}`{}", hint.unwrap_or_else(|| format!("; known are {}", known.join(", "))));
    }
    text
}
