//! V*Bench: an annotation beside each image, or the list of questions with shuffled options.

use imagent_core::BoxFrame;
use serde_json::Value;

use super::entry::{Entry, Region};
use super::text::split_options;
use super::view::View;
use super::{Format, Keys};
use crate::error::DataError;

/// `direct_attributes/NAME.json` and `relative_position/NAME.json`, each beside its image. Options stand as published: the first
/// one is always right, so shuffle them or positions are measured.
pub(super) const ANNOTATIONS: Format = Format {
    name: "vstar",
    about: "V*Bench, an annotation beside each image; the first option is always the right one",
    needs: "files in direct_attributes/ and relative_position/ with bbox, question, options, target_object",
    fits: |path, keys| {
        let scored = ["direct_attributes", "relative_position"].iter().any(|folder| kind(path) == Some(folder));
        scored && keys.has(&["bbox", "question", "options", "target_object"])
    },
    read: annotation,
};

/// `test_questions.jsonl`, or the same columns in parquet.
pub(super) const QUESTIONS: Format = Format {
    name: "vstar_questions",
    about: "V*Bench, test_questions.jsonl: options are shuffled, there are no boxes",
    needs: "columns image, text, category, label",
    fits: |_, keys: &Keys| keys.has(&["image", "text", "category", "label"]),
    read: question,
};

/// The folder that the file stands in.
fn kind(path: &str) -> Option<&str> {
    path.rsplit('/').nth(1)
}

fn annotation(view: &View<'_>) -> Result<Entry, DataError> {
    let options = view.options("options")?;
    let named = ["jpg", "JPG", "jpeg", "png"].iter().map(|ending| format!("{}.{ending}", view.stem));
    let found = named.clone().find_map(|name| view.file(&name).ok());
    let picture = found.map_or_else(|| view.file(&format!("{}.jpg", view.stem)), Ok)?;
    let mut entry = view.choice(vec![picture], view.need("question")?, options, "A")?;
    entry.id = view.stem.to_owned();
    entry.kind = kind(view.stem).unwrap_or("question").to_owned();
    for bbox in view.list("bbox") {
        let numbers: Option<Vec<f64>> = bbox.as_array().and_then(|edges| edges.iter().map(Value::as_f64).collect());
        let Some([x, y, width, height]) = numbers.as_deref() else {
            return Err(view.bad(format!("{bbox} is not [x, y, width, height]")));
        };
        let corners = [*x, *y, x + width, y + height];
        entry.gold.push(Region { image: Some(1), corners, frame: BoxFrame::Original });
    }
    entry.meta = view.meta(&["target_object"]);
    view.finish(entry)
}

fn question(view: &View<'_>) -> Result<Entry, DataError> {
    let text = view.need("text")?;
    let (question, options) = split_options(&text).ok_or_else(|| view.bad("`text` has no lettered options"))?;
    let mut entry = view.choice(view.pictures("image")?, question, options, &view.need("label")?)?;
    entry.kind = view.need("category")?;
    entry.meta = view.meta(&["question_id"]);
    entry.meta.insert("prompt".into(), text.into());
    view.finish(entry)
}
