//! A config as one document: the file's tables with `--set` values in them, and where each key was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::blame::{Fault, find_fault};
use super::error::{ConfigError, Place};
use super::overrides::Override;

/// A parsed document that knows where its keys were written.
#[derive(Clone, Debug, Default)]
pub struct Document {
    table: Table,
    file: Option<PathBuf>,
    lines: BTreeMap<Vec<String>, usize>,
    sets: Vec<Override>,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is not TOML.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let io = |source| ConfigError::Io { path: path.to_owned(), source };
        Self::parse(&std::fs::read_to_string(path).map_err(io)?, Some(path))
    }

    /// Parses a text; `file` is what errors call it.
    ///
    /// # Errors
    /// When it is not TOML.
    pub fn parse(text: &str, file: Option<&Path>) -> Result<Self, ConfigError> {
        let line_of = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        let broken = |error: &toml::de::Error| ConfigError::Syntax {
            place: place(file, error.span().map(|span| line_of(span.start))),
            // TOML's whole numbers have 64 bits, one of them the sign.
            problem: error.message().replace("u64 value was too large", "a whole number must be below 2^63"),
        };
        let table: Table = toml::from_str(text).map_err(|error| broken(&error))?;
        let spanned = DeTable::parse(text).map_err(|error| broken(&error))?;
        let mut lines = BTreeMap::new();
        note_table(spanned.get_ref(), &mut Vec::new(), &line_of, &mut lines);
        Ok(Self { table, file: file.map(Path::to_owned), lines, sets: Vec::new() })
    }

    /// Puts a `--set` value into the document. `defaults` stands in for a plug-in or a list of plug-ins that the file
    /// leaves out, so that single fields of it can be set.
    ///
    /// # Errors
    /// When the key leads nowhere.
    pub fn set(&mut self, text: &str, defaults: &Table) -> Result<(), ConfigError> {
        let refuse = |problem| ConfigError::Syntax { place: Place::Set(text.to_owned()), problem };
        let set = Override::parse(text).map_err(refuse)?;
        if let [first, _, ..] = set.path.as_slice()
            && !self.table.contains_key(first)
            && let Some(default) = defaults.get(first)
        {
            self.table.insert(first.clone(), default.clone());
        }
        set.apply(&mut self.table).map_err(refuse)?;
        self.sets.push(set);
        Ok(())
    }

    /// The tables as they are now.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Where a key was written; the nearest table around it where it was not.
    pub fn place(&self, key: &[String]) -> Place {
        let last = |covers: &dyn Fn(&Override) -> bool| self.sets.iter().rev().find(|set| covers(set));
        if let Some(set) = last(&|set| key.starts_with(&set.path)) {
            return Place::Set(set.text.clone());
        }
        let line = (1..=key.len()).rev().find_map(|length| self.lines.get(&key[..length]));
        match last(&|set| set.path.starts_with(key)).filter(|_| line.is_none()) {
            Some(set) => Place::Set(set.text.clone()),
            None => place(self.file.as_deref(), line.copied()),
        }
    }

    /// Reads the document as `T`.
    ///
    /// # Errors
    /// Names the first key that is unknown, of the wrong type or out of range.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let read = |value: Value| T::deserialize(value).map_err(|error| error.message().to_owned());
        read(Value::Table(self.table.clone())).map_err(|problem| {
            let check = |value| read(value).map(drop);
            self.refuse(find_fault(&self.table, &check, problem))
        })
    }

    /// An error at a key, given as `a.b.c`.
    pub fn value_error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        ConfigError::Value { place: self.place(&path), key: key.to_owned(), problem: problem.into() }
    }

    fn refuse(&self, fault: Fault) -> ConfigError {
        let (place, key) = (self.place(&fault.path), fault.path.join("."));
        match fault.unknown {
            Some((name, known)) => {
                let closest = closest(&name, &known);
                ConfigError::UnknownKey { place, key, closest, known }
            }
            None => ConfigError::Value { place, key, problem: fault.problem },
        }
    }
}

fn place(file: Option<&Path>, line: Option<usize>) -> Place {
    match (file, line) {
        (Some(file), Some(line)) => Place::Line(file.to_owned(), line),
        (Some(file), None) => Place::File(file.to_owned()),
        (None, _) => Place::Code,
    }
}

type Lines = BTreeMap<Vec<String>, usize>;

fn note_table(table: &DeTable<'_>, path: &mut Vec<String>, line_of: &dyn Fn(usize) -> usize, lines: &mut Lines) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        lines.insert(path.clone(), line_of(key.span().start));
        note_value(value, path, line_of, lines);
        path.pop();
    }
}

fn note_value(
    value: &Spanned<DeValue<'_>>,
    path: &mut Vec<String>,
    line_of: &dyn Fn(usize) -> usize,
    lines: &mut Lines,
) {
    match value.get_ref() {
        DeValue::Table(table) => note_table(table, path, line_of, lines),
        DeValue::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                path.push(index.to_string());
                lines.insert(path.clone(), line_of(item.span().start));
                note_value(item, path, line_of, lines);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The known name that `name` is probably a slip of: at most a third of its letters differ.
///
/// ```
/// let known = ["steps".to_owned(), "epochs".to_owned()];
/// assert_eq!(imagent::config::closest("stepz", &known).as_deref(), Some("steps"));
/// assert_eq!(imagent::config::closest("colour", &known), None);
/// ```
pub fn closest(name: &str, known: &[String]) -> Option<String> {
    let nearest = known.iter().map(|candidate| (distance(name, candidate), candidate)).min()?;
    let near = nearest.0 * 3 <= name.chars().count().max(3) + 2;
    let inside = known.iter().find(|candidate| candidate.contains(name) || name.contains(candidate.as_str()));
    if near { Some(nearest.1.clone()) } else { inside.cloned() }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
