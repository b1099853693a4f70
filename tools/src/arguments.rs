//! Reads the arguments of a call: JSON that a model wrote, so anything may be wrong with it.

use imagent_core::{Arguments, ImageShelf, ShelfImage, ToolError};
use serde_json::Value;

/// Refuses arguments other than `known`.
pub(crate) fn only(arguments: &Arguments, known: &[&str]) -> Result<(), ToolError> {
    match arguments.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(ToolError::UnknownArgument(key.clone())),
        None => Ok(()),
    }
}

/// The argument `image`: a shelf index from 1, as an integer or as a float without a fraction.
pub(crate) fn image<'a>(arguments: &Arguments, shelf: &'a ImageShelf) -> Result<(usize, &'a ShelfImage), ToolError> {
    let value = arguments.get("image").ok_or(ToolError::MissingArgument("image"))?;
    let wrong = ToolError::WrongArgument { argument: "image", expected: "an integer" };
    let index = integer(value).ok_or(wrong)?;
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
    let value = arguments.get("bbox_2d").ok_or(ToolError::MissingArgument("bbox_2d"))?;
    let wrong = ToolError::WrongArgument { argument: "bbox_2d", expected: "four numbers [x1, y1, x2, y2]" };
    let numbers: Option<Vec<f64>> =
        value.as_array().and_then(|items| items.iter().map(|v| v.as_f64().filter(|f| f.is_finite())).collect());
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or(wrong)
}
