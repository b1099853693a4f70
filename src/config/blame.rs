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

fn descend(value: &Value, check: &dyn Fn(Value) -> Result<(), String>, problem: String, path: &mut Vec<String>) -> String {
    if unknown_field(&problem).is_some_and(|(name, _)| path.last() == Some(&name)) {
        return problem;
    }
    for (part, inner, wrap) in parts(value) {
        if let Err(problem) = check(wrap(inner.clone())) {
            path.push(part);
            return descend(inner, &|value| check(wrap(value)), problem, path);
        }
    }
    problem
}

type Wrap = Box<dyn Fn(Value) -> Value>;

/// Each part of a value, and how to make a value that has this part only.
fn parts(value: &Value) -> Vec<(String, &Value, Wrap)> {
    match value {
        Value::Table(table) => {
            let tag = table.get("type").cloned();
            let part = |(key, inner)| {
                let (name, tag): (String, _) = (Clone::clone(key), tag.clone());
                let wrap: Wrap = Box::new(move |inner| {
                    let tag = tag.clone().map(|tag| ("type".to_owned(), tag));
                    Value::Table(tag.into_iter().chain([(name.clone(), inner)]).collect())
                });
                (Clone::clone(key), inner, wrap)
            };
            let mut parts: Vec<_> = table.iter().map(part).collect();
            // A plug-in that does not exist is to blame before its fields are.
            parts.sort_by_key(|(key, _, _)| key != "type");
            parts
        }
        Value::Array(list) => {
            let wrap = || -> Wrap { Box::new(|inner| Value::Array(vec![inner])) };
            list.iter().enumerate().map(|(index, inner)| (index.to_string(), inner, wrap())).collect()
        }
        _ => Vec::new(),
    }
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
        ("internally tagged enum", "a table with a `type`"),
    ];
    let mut text = words.iter().fold(problem.to_owned(), |text, (from, to)| text.replace(from, to));
    if let Some((before, name)) = text.split_once("expected struct ") {
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
