//! Questions as the benchmarks' authors put them. Options come without their letters.

use imagent_core::BoxFrame;
use imagent_data::formats::Entry;

const LETTER: &str = "Answer with the option's letter from the given choices directly.";

/// The options, a line each, their letters between `before` and `after`.
fn listed(entry: &Entry, before: &str, after: &str) -> String {
    let lines = ('A'..='Z').zip(&entry.options).map(|(letter, option)| format!("{before}{letter}{after}{option}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The key of a row's `meta` that holds the whole question as published.
pub(super) const PROMPT: &str = "prompt";

/// The question that was published with the row, whole.
fn published(entry: &Entry) -> Option<String> {
    Some(entry.meta.get(PROMPT)?.as_str()?.to_owned())
}

pub(super) fn vstar(entry: &Entry) -> String {
    published(entry).unwrap_or_else(|| format!("{}\n{}\n{LETTER}", entry.question, listed(entry, "(", ") ")))
}

pub(super) fn hrbench(entry: &Entry) -> String {
    let options = listed(entry, "", ". ");
    format!(
        "Question: {}\nOptions:\n{options}\nPlease select the correct answer from the options above. \n",
        entry.question
    )
}

pub(super) fn mme_realworld(entry: &Entry) -> String {
    let options = listed(entry, "(", ") ");
    format!(
        "{} The choices are listed below:\n{options}\nSelect the best answer to the above multiple-choice question based on the \
         image. Respond with only the letter (A, B, C, D, or E) of the correct option.\nThe best answer is: ",
        entry.question
    )
}

/// The second mark opens again where it should close: so the authors ask.
pub(super) fn mig(entry: &Entry) -> String {
    format!("{}Format:<|box_start|>(x1,y1),(x2,y2)<|box_start|>. Don't generate addtional words.", entry.question)
}

/// Not the authors': asks for the image besides.
pub(super) fn image_and_box(entry: &Entry, frame: BoxFrame) -> String {
    let form = r#"{"image": number, "bbox_2d": [x1, y1, x2, y2]}"#;
    format!(
        "{}\nAnswer with nothing but {form}: the number of the image and the box {}.",
        entry.question,
        frame.describe()
    )
}

pub(super) fn blink(entry: &Entry) -> String {
    published(entry).unwrap_or_else(|| entry.prompt())
}

pub(super) fn muirbench(entry: &Entry) -> String {
    let options = listed(entry, "(", ") ");
    let hint = "Hint: Please provide the correct option letter, such as A, B, C, D, directly.";
    format!("Question: {}\nChoices:\n{options}\n{hint}\nAnswer:", entry.question)
}

pub(super) fn mantis(entry: &Entry) -> String {
    if entry.options.is_empty() {
        let tail = "You can first give your analysis, and then give your final answer as \"Final Answer:\"";
        return format!(
            "Given the images, answer the following short answer vqa question:\nQ: {}\n{tail}",
            entry.question
        );
    }
    let options = ('A'..='Z').zip(&entry.options).map(|(letter, option)| format!("\n ({letter}) {option}"));
    format!("{}{}\n{LETTER}", entry.question, options.collect::<String>())
}

pub(super) fn mmiu(entry: &Entry) -> String {
    format!("{}\n{}\nPlease answer the option directly like A,B,C,D...", entry.question, listed(entry, "", ": "))
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::*;

    #[test]
    fn questions_are_put_as_their_authors_put_them() {
        let plain = entry("x");
        let listed = "(A) red\n(B) blue\n(C) grey\n(D) pink";
        assert_eq!(vstar(&plain), format!("Which?\n{listed}\n{LETTER}"));
        assert_eq!(
            hrbench(&plain),
            "Question: Which?\nOptions:\nA. red\nB. blue\nC. grey\nD. pink\nPlease select the correct answer from the options above. \n"
        );
        assert!(mme_realworld(&plain).starts_with(&format!("Which? The choices are listed below:\n{listed}\nSelect")));
        assert!(mme_realworld(&plain).ends_with("correct option.\nThe best answer is: "));
        assert!(muirbench(&plain).starts_with(&format!("Question: Which?\nChoices:\n{listed}\nHint: Please")));
        assert_eq!(mantis(&plain), format!("Which?\n {}\n{LETTER}", listed.replace('\n', "\n ")));
        assert!(mmiu(&plain).starts_with("Which?\nA: red\nB: blue\nC: grey\nD: pink\nPlease answer"));
        let short = Entry { options: Vec::new(), ..plain.clone() };
        assert!(mantis(&short).ends_with(
            "Q: Which?\nYou can first give your analysis, and then give your final answer as \"Final Answer:\""
        ));
        assert!(mig(&short).starts_with("Which?Format:<|box_start|>(x1,y1),(x2,y2)<|box_start|>."));
        assert!(image_and_box(&short, BoxFrame::Shown).ends_with("the box in pixels of the image as shown."));
        let mut printed = plain;
        printed.meta.insert(PROMPT.into(), "As printed".into());
        assert_eq!([blink(&printed), vstar(&printed)], ["As printed"; 2]);
    }
}
