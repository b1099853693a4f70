//! Tool calls as text in a turn (`<tool_call>`), as Qwen2.5's template writes them, and back to the API's form.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::ChatCall;
use crate::tool::ToolSpec;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// JSON as Python's `json.dumps` writes it, which is what models were taught on.
///
/// ```
/// let value = serde_json::json!({"a": [1, 2e-7], "b": null});
/// assert_eq!(imagent_core::chat::python_json(&value), r#"{"a": [1, 2e-07], "b": null}"#);
/// ```
pub fn python_json(value: &Value) -> String {
    let mut out = Vec::new();
    match value.serialize(&mut Serializer::with_formatter(&mut out, PythonFormatter)) {
        Ok(()) => String::from_utf8(out).unwrap_or_default(),
        // A value in memory is always written.
        Err(_) => value.to_string(),
    }
}

/// Separators `", "` and `": "`, and floats as Python's `repr`.
#[derive(Clone, Copy, Debug)]
pub struct PythonFormatter;

impl Formatter for PythonFormatter {
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
            return CompactFormatter.write_f64(writer, value);
        }
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
        write!(writer, "{mantissa}e{sign}{digits:0>2}")
    }
}

/// What the system message says of tools, in Qwen2.5's words; empty without tools. It begins with a blank line.
pub fn describe_tools(tools: &[ToolSpec]) -> String {
    if tools.is_empty() {
        return String::new();
    }
    let line = |tool: &ToolSpec| {
        let function = serde_json::json!({"type": "function", "function": tool});
        format!("\n{}", python_json(&function))
    };
    let tools: String = tools.iter().map(line).collect();
    format!(
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
         You are provided with function signatures within <tools></tools> XML tags:\n<tools>{tools}\n</tools>\n\n\
         For each function call, return a json object with function name and arguments within <tool_call></tool_call> \
         XML tags:\n<tool_call>\n{{\"name\": <function-name>, \"arguments\": <args-json-object>}}\n</tool_call>"
    )
}

/// A call as the text of a turn.
pub fn call_text(call: &ChatCall) -> String {
    let name = Value::from(call.name.as_str());
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.trim() };
    format!("{OPEN}\n{{\"name\": {name}, \"arguments\": {arguments}}}\n{CLOSE}")
}

/// The text of a turn without its calls, and the calls; `id` names each. A turn in which any call cannot be read, or whose tags
/// do not pair up, is returned whole and without calls. What stands before the last `</think>` is not looked at.
pub fn split_calls(text: &str, id: &mut dyn FnMut() -> String) -> (String, Vec<ChatCall>) {
    let whole = || (text.to_owned(), Vec::new());
    let (thought, mut rest) = match text.rfind("</think>") {
        Some(at) => text.split_at(at + "</think>".len()),
        None => ("", text),
    };
    let (mut kept, mut calls) = (thought.to_owned(), Vec::new());
    while let Some((before, after)) = rest.split_once(OPEN) {
        let Some((inside, tail)) = after.split_once(CLOSE) else { return whole() };
        let Some((name, arguments)) = read_call(inside) else { return whole() };
        calls.push(ChatCall { id: id(), name, arguments });
        kept.push_str(before.trim_end_matches('\n'));
        rest = tail;
    }
    if calls.is_empty() || rest.contains(CLOSE) {
        return whole();
    }
    kept.push_str(rest.trim_end_matches('\n'));
    (kept, calls)
}

fn read_call(text: &str) -> Option<(String, String)> {
    let Ok(Value::Object(mut call)) = serde_json::from_str(text.trim()) else { return None };
    let Some(Value::String(name)) = call.remove("name") else { return None };
    let arguments = call.remove("arguments").unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    (call.is_empty() && arguments.is_object()).then(|| (name, python_json(&arguments)))
}
