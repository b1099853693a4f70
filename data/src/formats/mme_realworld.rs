//! MME-RealWorld: JSON with image files; JSON or parquet with base64.

use super::Format;
use super::entry::Entry;
use super::view::View;
use crate::error::DataError;

const FILES: &str = "Answer choices";
const CELLS: &str = "multi-choice options";

pub(super) const FORMAT: Format = Format {
    name: "mme_realworld",
    about: "MME-RealWorld: JSON with image files, or JSON and parquet with base64",
    needs: "columns Question_id, Image, Text, Answer choices, Ground truth; or question, multi-choice options, answer and an image",
    fits: |_, keys| {
        keys.has(&["Image", "Text", FILES, "Ground truth"])
            || keys.has(&["question", CELLS, "answer"]) && (keys.has(&["image"]) || keys.has(&["bytes"]))
    },
    read,
};

fn read(view: &View<'_>) -> Result<Entry, DataError> {
    let files = view.cell(FILES).is_some();
    let (image, question, choices, gold) = match files {
        true => ("Image", "Text", FILES, "Ground truth"),
        false if view.cell("bytes").is_some() => ("bytes", "question", CELLS, "answer"),
        false => ("image", "question", CELLS, "answer"),
    };
    let mut entry =
        view.choice(view.pictures(image)?, view.need(question)?, view.options(choices)?, &view.need(gold)?)?;
    let kind = if files { view.text("Subtask") } else { view.text("category") };
    entry.kind = kind.unwrap_or(entry.kind);
    entry.meta = view.meta(&["Question_id", "Question Type", "Task", "Subtask", "Category", "Dataset"]);
    entry.meta.extend(view.meta(&["index", "category", "l2-category"]));
    view.finish(entry)
}
