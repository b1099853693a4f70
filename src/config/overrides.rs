//! One `--set a.b=value`: read, and put into a document.

use toml::{Table, Value};

/// A value given on the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// As given.
    pub text: String,
    /// The key's parts; a number is the position in a list.
    pub path: Vec<String>,
    /// The value.
    pub value: Value,
}

impl Override {
    /// Reads `a.b=value`. The value is TOML; what is no TOML is taken as a string, so that quotes can be left out.
    ///
    /// ```
    /// use imagent::config::Override;
    /// assert_eq!(Override::parse("train.steps=3")?.value, toml::Value::Integer(3));
    /// assert_eq!(Override::parse("model.path=runs/a")?.value, toml::Value::String("runs/a".into()));
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    /// Says what is wrong: no `=`, an empty key, a list or table that breaks off.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("it must read key=value")?;
        let path: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
        if path.iter().any(String::is_empty) {
            return Err("a part of the key is empty".to_owned());
        }
        let value = read_value(value.trim())?;
        Ok(Self { text: text.to_owned(), path, value })
    }

    /// Puts the value into `table`; missing tables on the way are made.
    ///
    /// A new `type` makes a new plug-in: the other fields of the old one go. `key.N` one past the end of a list appends.
    ///
    /// # Errors
    /// Says which part of the key leads nowhere.
    pub fn apply(&self, table: &mut Table) -> Result<(), String> {
        let Some((last, parents)) = self.path.split_last() else { return Ok(()) };
        let mut root = Value::Table(std::mem::take(table));
        let put = parents.iter().try_fold(&mut root, |at, part| step(at, part)).and_then(|at| self.put(at, last));
        if let Value::Table(changed) = root {
            *table = changed;
        }
        put
    }

    fn put(&self, at: &mut Value, last: &str) -> Result<(), String> {
        if last == "type"
            && let Value::Table(plugin) = &mut *at
            && plugin.get("type") != Some(&self.value)
        {
            plugin.clear();
        }
        *step(at, last)? = self.value.clone();
        Ok(())
    }
}

fn read_value(text: &str) -> Result<Value, String> {
    let document = toml::from_str::<Table>(&format!("x = {text}"));
    match document.map(|mut table| table.remove("x")) {
        Ok(Some(value)) => Ok(value),
        Err(error) if text.starts_with(['[', '{', '"', '\'']) => Err(format!("not a TOML value: {}", error.message())),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// The place called `part` within `at`, made if need be.
fn step<'a>(at: &'a mut Value, part: &str) -> Result<&'a mut Value, String> {
    match at {
        Value::Table(table) => Ok(table.entry(part).or_insert_with(|| Value::Table(Table::new()))),
        Value::Array(list) => {
            let length = list.len();
            let index = part.parse().ok().filter(|&index: &usize| index <= length);
            let index = index.ok_or_else(|| format!("`{part}` is no position of a list of {length}"))?;
            if index == length {
                list.push(Value::Table(Table::new()));
            }
            Ok(&mut list[index])
        }
        other => Err(format!("`{part}` lies below a {}, not a table", other.type_str())),
    }
}
