//! Multiple choice over several images: BLINK, MuirBench, Mantis-Eval, MMIU.

use imagent_core::conversation::MARK;
use serde_json::Value;

use super::Format;
use super::entry::{Answer, Entry};
use super::text::split_options;
use super::view::View;
use crate::error::DataError;

pub(super) const BLINK: Format = Format {
    name: "blink",
    about: "BLINK, the validation split (the answers of the test split are not published)",
    needs: "columns question, sub_task, image_1 … image_4, choices, answer",
    fits: |path, keys| {
        let name = path.rsplit('/').next().unwrap_or(path);
        !name.starts_with("test") && keys.has(&["question", "sub_task", "image_1", "choices", "answer"])
    },
    read: blink,
};

pub(super) const MUIRBENCH: Format = Format {
    name: "muirbench",
    about: "MuirBench",
    needs: "columns task, question, options, answer, image_list",
    fits: |_, keys| keys.has(&["task", "question", "options", "answer", "image_list"]),
    read: muirbench,
};

pub(super) const MANTIS: Format = Format {
    name: "mantis",
    about: "Mantis-Eval, multiple choice and short answers",
    needs: "columns question_type, question, images, options, answer",
    fits: |_, keys| keys.has(&["question_type", "question", "images", "options", "answer"]),
    read: mantis,
};

pub(super) const MMIU: Format = Format {
    name: "mmiu",
    about: "MMIU",
    needs: "columns task, question, options, output, input_image_path",
    fits: |_, keys| keys.has(&["task", "question", "options", "output", "input_image_path"]),
    read: mmiu,
};

/// Where markers stand for some of the images only, the others come first, as the datasets' own evaluators put them.
fn marked(question: &str, options: &[String], images: usize) -> String {
    let marks = |text: &str| text.matches(MARK).count();
    let there = marks(question) + options.iter().map(|option| marks(option)).sum::<usize>();
    let missing = if there == 0 { 0 } else { images.saturating_sub(there) };
    MARK.repeat(missing) + question
}

fn blink(view: &View<'_>) -> Result<Entry, DataError> {
    let mut pictures = Vec::new();
    for column in ["image_1", "image_2", "image_3", "image_4"] {
        pictures.extend(view.pictures(column)?);
    }
    let (question, choices) = (view.need("question")?, view.options("choices")?);
    let mut entry = view.choice(pictures, question, choices, &view.need("answer")?)?;
    entry.kind = view.need("sub_task")?;
    entry.meta = view.meta(&["idx", "prompt", "explanation"]);
    view.finish(entry)
}

fn muirbench(view: &View<'_>) -> Result<Entry, DataError> {
    let (pictures, options) = (view.pictures("image_list")?, view.options("options")?);
    let question = marked(&view.need("question")?, &options, pictures.len());
    let mut entry = view.choice(pictures, question, options, &view.need("answer")?)?;
    entry.kind = view.need("task")?;
    entry.meta = view.meta(&["idx", "image_relation", "image_type", "counterpart_idx"]);
    view.finish(entry)
}

fn mantis(view: &View<'_>) -> Result<Entry, DataError> {
    let (pictures, options, gold) = (view.pictures("images")?, view.options("options")?, view.need("answer")?);
    let question = marked(&view.need("question")?, &options, pictures.len());
    let mut entry = match view.need("question_type")?.as_str() {
        "multi-choice" => view.choice(pictures, question, options, &gold)?,
        _ => view.entry(pictures, question, Answer::Text(gold)),
    };
    entry.kind = view.text("category").unwrap_or(entry.kind);
    entry.meta = view.meta(&["id", "question_type", "data_source"]);
    view.finish(entry)
}

fn mmiu(view: &View<'_>) -> Result<Entry, DataError> {
    let options = match view.cell("options") {
        Some(Value::String(text)) => split_options(text).map(|(_, options)| options),
        _ => Some(view.options("options")?),
    };
    let options = options.ok_or_else(|| view.bad("`options` has no lettered options"))?;
    // The context ends with the options.
    let (written, context) = (view.text("options").unwrap_or_default(), view.text("context").unwrap_or_default());
    let context = context.strip_suffix(&written).filter(|_| !written.is_empty()).unwrap_or(&context).trim_end();
    let asked = [context, &view.need("question")?].map(str::trim).join("\n").trim().to_owned();
    let pictures = view.pictures("input_image_path")?;
    let mut entry = view.choice(pictures, asked, options, &view.need("output")?)?;
    entry.kind = view.need("task")?;
    entry.meta = view.meta(&["visual_input_component", "source"]);
    view.finish(entry)
}
