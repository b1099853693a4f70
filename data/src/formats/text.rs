//! What formats write into texts: markers of images, options, names of images, boxes.

use imagent_core::conversation::MARK;

/// Takes the image markers out of texts that follow each other. Those at the very start go, as images come before the question;
/// the n-th of all, elsewhere, becomes `image n`.
///
/// # Errors
/// When there are markers, but not one for each image.
pub(crate) fn unmark(texts: &mut [&mut String], images: usize) -> Result<(), String> {
    let marks: usize = texts.iter().map(|text| text.matches(MARK).count()).sum();
    if marks != 0 && marks != images {
        return Err(format!("{marks} `{MARK}` for {images} images"));
    }
    let mut number = 0;
    for (nth, text) in texts.iter_mut().enumerate() {
        let mut rest = text.as_str();
        while nth == 0 && rest.trim_start().starts_with(MARK) {
            rest = &rest.trim_start()[MARK.len()..];
            number += 1;
        }
        let mut parts = rest.split(MARK);
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            number += 1;
            plain.push_str(&format!("image {number}{part}"));
        }
        **text = plain.trim().to_owned();
    }
    Ok(())
}

/// How options are written: what stands before and after the letter, and whether only at the start of a line.
const STYLES: [(&str, &str, bool); 4] = [("(", ")", false), ("", ".", true), ("", ")", true), ("", ":", false)];

/// A text's question and its options, where it ends in lettered ones: `(A) … (B) …`, `A. …`, `A) …` or `A: …`. What follows the
/// line of the last option is an instruction, and left out.
pub(crate) fn split_options(text: &str) -> Option<(String, Vec<String>)> {
    STYLES.iter().find_map(|&style| {
        let places = best_places(text, style)?;
        let &(first, _) = places.first()?;
        let ends = places.iter().skip(1).map(|&(start, _)| start);
        let last = places.last().map_or(text.len(), |&(_, end)| {
            let end = end + text[end..].len() - text[end..].trim_start().len();
            text[end..].find('\n').map_or(text.len(), |length| end + length)
        });
        let options = places.iter().zip(ends.chain([last]));
        let options = options.map(|(&(_, start), end)| text[start..end].trim().to_owned()).collect();
        Some((text[..first].trim().trim_end_matches("Options:").trim().to_owned(), options))
    })
}

/// Where letters stand: each marker's start and end.
type Places = Vec<(usize, usize)>;

/// The run of letters from A on that are the options': the longest with a line each, else the longest. Others are the question's, as
/// in `the points (A) and (B)`, or an option's, as in `neither (A) nor (B)`.
fn best_places(text: &str, style: (&str, &str, bool)) -> Option<Places> {
    let begins_line = |&(start, _): &(usize, usize)| text[..start].trim_end_matches([' ', '\t']).ends_with('\n');
    let mut best: Option<((bool, usize), Places)> = None;
    let mut from = 0;
    while let Some(&(start, _)) = places(text, style, from).first() {
        let found = places(text, style, start);
        from = start + 1;
        let worth = (found.iter().all(begins_line), found.len());
        if found.len() > 1 && best.as_ref().is_none_or(|(most, _)| worth > *most) {
            best = Some((worth, found));
        }
    }
    best.map(|(_, found)| found)
}

/// Where the letters of options stand, from A on, not before `from`: the marker's start and end.
fn places(text: &str, (before, after, at_line_start): (&str, &str, bool), from: usize) -> Places {
    let mut found = Places::new();
    let begin = from;
    for letter in 'A'..='Z' {
        let marker = format!("{before}{letter}{after}");
        let from = found.last().map_or(begin, |&(_, end)| end);
        let fits = |at: &usize| {
            let (left, right) = (&text[..*at], &text[at + marker.len()..]);
            let starts = match left.chars().next_back() {
                None => true,
                Some(c) if at_line_start => c == '\n',
                Some(c) => c.is_whitespace() || !before.is_empty(),
            };
            starts && right.chars().next().is_none_or(char::is_whitespace)
        };
        let next = text[from..].match_indices(&marker).map(|(at, _)| from + at).find(fits);
        let Some(at) = next else { break };
        found.push((at, at + marker.len()));
    }
    found
}

/// An option without its own letter, where it has the one that is due.
pub(crate) fn without_letter(option: &str, nth: usize) -> String {
    let Some(letter) = ('A'..='Z').nth(nth) else { return option.trim().to_owned() };
    let text = option.trim();
    let stripped = STYLES.iter().find_map(|(before, after, _)| {
        let rest = text.strip_prefix(&format!("{before}{letter}{after}"))?;
        rest.starts_with(char::is_whitespace).then(|| rest.trim())
    });
    stripped.filter(|rest| !rest.is_empty()).unwrap_or(text).to_owned()
}

/// The letter of an answer: `B`, `(B)`, `B.`, `B:` or `B. text`.
pub(crate) fn letter(text: &str) -> Option<char> {
    let text = text.trim();
    let inner = text.strip_prefix('(').unwrap_or(text);
    let letter = inner.chars().next().filter(char::is_ascii_uppercase)?;
    let rest = &inner[1..];
    let ends = rest.is_empty() || [")", ".", ":"].iter().any(|end| rest.starts_with(end));
    (ends && (rest.len() < 2 || rest[1..].starts_with(char::is_whitespace))).then_some(letter)
}

/// Which option a letter from A on stands for, counted from 0.
pub(crate) fn to_position(letter: char) -> usize {
    (letter as usize).saturating_sub('A' as usize)
}

const ORDINALS: [&str; 12] = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
];

/// The number of the image that a text names last: `the 4th image`, `the second image`, `Image-2`, `image 3`.
pub(crate) fn image_named(text: &str) -> Option<usize> {
    let lower = text.to_lowercase();
    let named = |(at, word): (usize, &str)| {
        let (before, after) = (&lower[..at], &lower[at + word.len()..]);
        if before.ends_with(char::is_alphanumeric) {
            return None;
        }
        let words =
            |text: &str| text.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty()).map(str::to_owned);
        let last = before.rsplit(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty());
        // A number behind a comma or a colon is not the image's: `In the first image, 2 dogs`.
        let close = after.trim_start_matches([' ', '-', '#', '_']);
        let number = words(close).filter(|word| close.starts_with(word.as_str())).and_then(|word| word.parse().ok());
        last.and_then(ordinal).or(number)
    };
    let found: Vec<(usize, &str)> = lower.match_indices("image").collect();
    found.into_iter().rev().find_map(named).filter(|&number: &usize| number > 0)
}

fn ordinal(word: &str) -> Option<usize> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if ["st", "nd", "rd", "th"].contains(&&word[digits.len()..]) {
        return digits.parse().ok();
    }
    ORDINALS.iter().position(|ordinal| *ordinal == word).map(|nth| nth + 1)
}

/// The only box of a text, in thousandths: `<|box_start|>(x1,y1),(x2,y2)<|box_end|>`. `None` where there is none, or several.
pub(crate) fn only_box(text: &str) -> Option<[f64; 4]> {
    let (_, rest) = text.split_once("<|box_start|>")?;
    let (inside, rest) = rest.split_once("<|box_end|>")?;
    if rest.contains("<|box_start|>") {
        return None;
    }
    let numbers = inside.split(['(', ')', ',']).map(str::trim).filter(|part| !part.is_empty());
    let numbers: Vec<f64> = numbers.map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn markers_at_the_start_go_and_others_get_numbers() {
        let mut texts = ["<image>\n<image> Is <image> like <image>?".to_owned(), "as <image>".to_owned()];
        let [a, b] = &mut texts;
        unmark(&mut [a, b], 5).unwrap();
        assert_eq!(texts, ["Is image 3 like image 4?", "as image 5"]);
        let mut plain = " What? ".to_owned();
        unmark(&mut [&mut plain], 3).unwrap();
        assert_eq!(plain, "What?");
        assert!(unmark(&mut [&mut "<image> a".to_owned()], 2).unwrap_err().contains("1 `<image>` for 2 images"));
    }

    #[test]
    fn options_are_told_from_the_question() {
        let wanted = Some(("Which?".to_owned(), vec!["red".to_owned(), "dark blue".to_owned()]));
        for text in [
            "Which? (A) red (B) dark blue\nAnswer with the option's letter.",
            "Which?\nA. red\nB. dark blue\nAnswer",
            "Which?\nOptions:\nA. red\nB. dark blue",
            "Which?\nA) red\nB) dark blue",
            "Which? A: red B: dark blue",
        ] {
            assert_eq!(split_options(text), wanted, "{text}");
        }
        let text = "How far are the points (A) and (B) ?\nChoices:\n(A) 5 cm\n(B) 7 cm";
        let wanted = ("How far are the points (A) and (B) ?\nChoices:".to_owned(), vec!["5 cm".into(), "7 cm".into()]);
        assert_eq!(split_options(text), Some(wanted));
        let both = split_options("Which? (A) red (B) blue (C) neither (A) nor (B)").unwrap();
        assert_eq!(both.1, ["red", "blue", "neither (A) nor (B)"]);
        assert_eq!(split_options("Is (A) red?"), None);
        assert_eq!(split_options("Vitamin A. Or vitamin B. ?"), None);
        assert_eq!(without_letter("(B) red", 1), "red");
        assert_eq!(without_letter("(B) red", 0), "(B) red");
        assert_eq!(without_letter("A.M. or P.M.", 0), "A.M. or P.M.");
    }

    #[test]
    fn letters_names_and_boxes() {
        let letters = ["B", "(B)", "B.", " B: x", "B. red car"].map(letter);
        assert_eq!(letters, [Some('B'); 5]);
        assert_eq!(["b", "Blue", "", "(blue)", "B.c"].map(letter), [None; 5]);
        let named = [
            ("Recognize and locate this object in the 4th image. ", Some(4)),
            ("For the object in the first image marked red, locate it in the 12th image.", Some(12)),
            ("Find it in Image-2. Find it and locate it in the second image. ", Some(2)),
            ("locate the 2th region picture in the source image", None),
            ("In the first image, 2 dogs are seen.", Some(1)),
            ("The first image: 2 dogs", Some(1)),
            ("in image: 2 dogs, in images 3 and 4", None),
            ("in image 3, the 2nd dog", Some(3)),
            ("compare these two images", None),
        ];
        named.iter().for_each(|(text, number)| assert_eq!(image_named(text), *number, "{text}"));
        assert_eq!(only_box("a <|box_start|>(1,2),(30, 400)<|box_end|>."), Some([1.0, 2.0, 30.0, 400.0]));
        assert_eq!(only_box("<|box_start|>(1,2),(3,4)<|box_end|><|box_start|>(1,2),(3,4)<|box_end|>"), None);
        assert_eq!(only_box("<|box_start|>(1,2),(3)<|box_end|>"), None);
    }
}
