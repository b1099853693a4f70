//! HR-Bench: tsv or parquet, with the image as base64. Each question comes four times, its options turned round.

use super::Format;
use super::entry::Entry;
use super::view::View;
use crate::error::DataError;

pub(super) const FORMAT: Format = Format {
    name: "hrbench",
    about: "HR-Bench, tsv or parquet, each question with its options in four orders (meta.cycle_category)",
    needs: "columns index, question, answer, category, A, B, C, D, cycle_category, image",
    fits: |_, keys| keys.has(&["question", "answer", "category", "A", "B", "C", "D", "cycle_category", "image"]),
    read,
};

fn read(view: &View<'_>) -> Result<Entry, DataError> {
    let options = ["A", "B", "C", "D"].map(|letter| view.need(letter)).into_iter().collect::<Result<_, _>>()?;
    let mut entry = view.choice(view.pictures("image")?, view.need("question")?, options, &view.need("answer")?)?;
    entry.kind = view.need("category")?;
    entry.meta = view.meta(&["index", "cycle_category"]);
    view.finish(entry)
}
