//! Reads the arguments of a call: JSON that a model wrote, so anything may be wrong with it. And their schemas.

use imagent_core::{Arguments, BoxFrame, ImageShelf, ShelfImage, ToolError, ToolSpec};
use serde_json::{Value, json};

/// A tool's spec; `required` are names of properties.
pub(crate) fn spec(name: &str, description: &str, properties: Value, required: Value) -> ToolSpec {
    let parameters = json!({"type": "object", "properties": properties, "required": required});
    ToolSpec { name: name.to_owned(), description: description.to_owned(), parameters }
}

/// The schema of [`image`].
pub(crate) fn image_schema() -> Value {
    json!({"type": "integer", "minimum": 1, "description": "Number of the image, counted from 1."})
}

/// The schema of [`bbox_2d`].
pub(crate) fn bbox_schema(frame: BoxFrame) -> Value {
    let description = format!("The region as [x1, y1, x2, y2], {}.", frame.describe());
    json!({"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4, "description": description})
}

/// Refuses arguments other than `known`.
pub(crate) fn only(arguments: &Arguments, known: &[&str]) -> Result<(), ToolError> {
    match arguments.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(ToolError::UnknownArgument(key.clone())),
        None => Ok(()),
    }
}

fn required<'a>(arguments: &'a Arguments, name: &'static str) -> Result<&'a Value, ToolError> {
    arguments.get(name).ok_or(ToolError::MissingArgument(name))
}

/// The argument `image`: a shelf index from 1, as an integer or as a float without a fraction.
pub(crate) fn image<'a>(arguments: &Arguments, shelf: &'a ImageShelf) -> Result<(usize, &'a ShelfImage), ToolError> {
    image_named("image", arguments, shelf)
}

/// The same under another name.
pub(crate) fn image_named<'a>(
    name: &'static str,
    arguments: &Arguments,
    shelf: &'a ImageShelf,
) -> Result<(usize, &'a ShelfImage), ToolError> {
    let wrong = ToolError::WrongArgument { argument: name, expected: "an integer" };
    let index = integer(required(arguments, name)?).ok_or(wrong)?;
    let found = usize::try_from(index).ok().and_then(|i| shelf.get(i).map(|image| (i, image)));
    found.ok_or(ToolError::NoImage { index, count: shelf.len() })
}

/// A whole number; beyond `i64` the nearest one that fits.
fn integer(value: &Value) -> Option<i64> {
    let whole = |f: &f64| f.is_finite() && f.fract() == 0.0;
    value.as_i64().or_else(|| value.as_f64().filter(whole).map(|f| f as i64))
}

/// The argument `bbox_2d`: four finite numbers.
pub(crate) fn bbox_2d(arguments: &Arguments) -> Result<[f64; 4], ToolError> {
    bbox_named("bbox_2d", arguments)
}

/// The same under another name.
pub(crate) fn bbox_named(name: &'static str, arguments: &Arguments) -> Result<[f64; 4], ToolError> {
    let wrong = ToolError::WrongArgument { argument: name, expected: "four numbers [x1, y1, x2, y2]" };
    let numbers: Option<Vec<f64>> =
        required(arguments, name)?.as_array().and_then(|items| items.iter().map(finite).collect());
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or(wrong)
}

fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

/// A finite number.
pub(crate) fn number(name: &'static str, arguments: &Arguments) -> Result<f64, ToolError> {
    finite(required(arguments, name)?).ok_or(ToolError::WrongArgument { argument: name, expected: "a number" })
}

/// One of some words; `expected` lists them for the error.
pub(crate) fn word<T: Copy>(
    name: &'static str,
    arguments: &Arguments,
    words: &[(&str, T)],
    expected: &'static str,
) -> Result<T, ToolError> {
    let given = required(arguments, name)?.as_str();
    let found = words.iter().find(|(word, _)| Some(*word) == given).map(|(_, meaning)| *meaning);
    found.ok_or(ToolError::WrongArgument { argument: name, expected })
}
