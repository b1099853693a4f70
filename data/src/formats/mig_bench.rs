//! MIG-Bench: questions on several images whose answer is a box, in fractions of the image that the text names.

use imagent_core::BoxFrame;
use serde_json::Value;

use super::Format;
use super::entry::{Answer, Entry, Region};
use super::text::image_named;
use super::view::View;
use crate::error::DataError;

pub(super) const FORMAT: Format = Format {
    name: "mig_bench",
    about: "MIG-Bench, JSON with boxes in fractions of the image",
    needs: "columns task, images, question, answer, need_format",
    fits: |_, keys| keys.has(&["task", "images", "question", "answer", "need_format"]),
    read,
};

fn read(view: &View<'_>) -> Result<Entry, DataError> {
    let (task, question) = (view.need("task")?, view.need("question")?);
    let edges: Option<Vec<f64>> = view.list("answer").into_iter().map(Value::as_f64).collect();
    let corners = edges.and_then(|edges| edges.try_into().ok());
    let corners: [f64; 4] = corners.ok_or_else(|| view.bad("`answer` is not [x1, y1, x2, y2]"))?;
    let named = || image_named(&question).or_else(|| image_named(&view.text("additional_info")?));
    // The regions of `region` follow the image that they are cut from.
    let image = if task == "region" { Some(1) } else { named() };
    let answer = Answer::Box(Region { image, corners, frame: BoxFrame::Unit });
    let mut entry = view.entry(view.pictures("images")?, question, answer);
    entry.kind = task;
    entry.meta = view.meta(&["additional_info", "need_format"]);
    let mut entry = view.finish(entry)?;
    // The authors' prompt goes on right after the question, with the blank that most of them end in.
    let published = view.cell("question").and_then(Value::as_str).unwrap_or_default();
    entry.question.push_str(&published[published.trim_end().len()..]);
    Ok(entry)
}
