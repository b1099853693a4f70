//! JSON in templates: messages as values that keep the order of their keys, and `tojson` as Python's `json.dumps` writes it.

use std::sync::Arc;

use imagent_core::chat::PythonFormatter;
use minijinja::value::{Enumerator, Kwargs, Object};
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{PrettyFormatter, Serializer};

/// A map that keeps its order: minijinja's own sorts its keys.
#[derive(Debug)]
struct Ordered(Vec<(Value, Value)>);

impl Object for Ordered {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(k, _)| k.clone()).collect())
    }
}

/// A list of JSON values as a template's value.
pub(super) fn list(values: &[Json]) -> Value {
    Value::from(values.iter().map(value).collect::<Vec<Value>>())
}

fn value(json: &Json) -> Value {
    match json {
        Json::Array(items) => list(items),
        Json::Object(map) => {
            Value::from_object(Ordered(map.iter().map(|(k, v)| (Value::from(k.as_str()), value(v))).collect()))
        }
        scalar => Value::from_serialize(scalar),
    }
}

/// The filter `tojson(indent=None)`: `json.dumps(value, ensure_ascii=False, indent=indent)`.
pub(super) fn tojson(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let _: Option<Value> = kwargs.get("ensure_ascii")?;
    let _: Option<Value> = kwargs.get("separators")?;
    kwargs.assert_all_used()?;
    let mut out = Vec::new();
    let done = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, PythonFormatter)),
        Some(n) => {
            let spaces = " ".repeat(n);
            let pretty = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, pretty))
        }
    };
    let bad = |e: String| Error::new(ErrorKind::BadSerialization, format!("tojson: {e}"));
    done.map_err(|e| bad(e.to_string()))?;
    String::from_utf8(out).map(Value::from_safe_string).map_err(|e| bad(e.to_string()))
}
