//! JSON in templates: messages as values that keep the order of their keys, and `tojson` as Python's `json.dumps` writes it.

use std::io::{self, Write};
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object};
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

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
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Python(CompactFormatter))),
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

/// Separators `", "` and `": "`, and floats as Python's `repr`.
struct Python(CompactFormatter);

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if value == 0.0 || (1e-4..1e16).contains(&size) {
            return self.0.write_f64(writer, value);
        }
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
        write!(writer, "{mantissa}e{sign}{digits:0>2}")
    }
}
