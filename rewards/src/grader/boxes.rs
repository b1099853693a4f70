//! Boxes as models write them.

use imagent_core::{BBox, BoxFrame, Gold, ImageShelf, ImageSizes, Original, Sample};
use serde_json::Value;

/// A box as written, and the image that it says it is on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WrittenBox {
    /// The image, counted from 1, where the text names one.
    pub image: Option<usize>,
    /// `[x1, y1, x2, y2]`, in whatever frame the writer uses.
    pub corners: [f64; 4],
}

/// The one box of a text; `None` where it holds none, several, or anything besides.
pub fn written(text: &str) -> Option<WrittenBox> {
    let text = unfenced(text.trim());
    let text = text.strip_prefix("<|box_start|>").and_then(|rest| rest.strip_suffix("<|box_end|>")).unwrap_or(text);
    let found = serde_json::from_str(text).ok().map_or_else(|| pairs(text), |value| from_json(&value))?;
    let [x1, y1, x2, y2] = found.corners;
    (x1 < x2 && y1 < y2).then_some(found)
}

/// The text within a code fence.
fn unfenced(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    inner.map_or(text, |inner| inner.strip_prefix("json").unwrap_or(inner).trim())
}

/// `[x1, y1, x2, y2]`, an object with `bbox_2d`, or a list of one of these.
fn from_json(value: &Value) -> Option<WrittenBox> {
    match value {
        Value::Array(items) => match items.as_slice() {
            [one] => from_json(one),
            _ => Some(WrittenBox { image: None, corners: corners(value)? }),
        },
        Value::Object(fields) => {
            let image = match fields.get("image") {
                Some(image) => Some(usize::try_from(image.as_u64()?).ok()?),
                None => None,
            };
            Some(WrittenBox { image, corners: corners(fields.get("bbox_2d")?)? })
        }
        _ => None,
    }
}

fn corners(value: &Value) -> Option<[f64; 4]> {
    let numbers: Option<Vec<f64>> = value.as_array()?.iter().map(Value::as_f64).collect();
    numbers?.try_into().ok()
}

/// `(x1, y1), (x2, y2)`.
fn pairs(text: &str) -> Option<WrittenBox> {
    let (first, second) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(')')?;
    let second = second.trim_start().strip_prefix(',')?.trim_start().strip_prefix('(')?;
    let numbers: Option<Vec<f64>> = first.split(',').chain(second.split(',')).map(plain).collect();
    let halves = first.matches(',').count() == 1 && second.matches(',').count() == 1;
    Some(WrittenBox { image: None, corners: numbers.filter(|_| halves)?.try_into().ok()? })
}

/// A number in plain digits.
fn plain(text: &str) -> Option<f64> {
    let text = text.trim().replace('−', "-");
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| is_plain)
}

/// The gold boxes of a sample: the one that its answer is, else its gold regions.
pub(super) fn gold(sample: &Sample, frame: BoxFrame, shelf: &ImageShelf) -> Vec<Gold> {
    let Some(WrittenBox { image, corners }) = written(&sample.answer) else { return sample.gold.clone() };
    let image = image.unwrap_or(1);
    let bbox = sizes(shelf, image).map(|sizes| frame.read::<Original>(corners, &sizes));
    bbox.map(|bbox| Gold { image, bbox }).into_iter().collect()
}

/// The largest intersection over union of an answer with a gold box; 0 for an answer that is no box, or that names
/// another image than the gold box's.
pub(super) fn overlap(answer: &str, gold: &[Gold], frame: BoxFrame, shelf: &ImageShelf) -> f64 {
    let Some(answer) = written(answer) else { return 0.0 };
    let on_image = gold.iter().filter(|gold| answer.image.is_none_or(|image| image == gold.image));
    let iou = |gold: &Gold| {
        let bbox: BBox<Original> = frame.read(answer.corners, &sizes(shelf, gold.image)?);
        Some(bbox.iou(gold.bbox))
    };
    on_image.filter_map(iou).fold(0.0, f64::max)
}

fn sizes(shelf: &ImageShelf, image: usize) -> Option<ImageSizes> {
    shelf.get(image).map(|image| image.sizes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn boxes_as_written() {
        let same = [
            "[1, 2.5, 30, 40]",
            " [1,2.5,30,40]\n",
            "[[1, 2.5, 30, 40]]",
            r#"{"bbox_2d": [1, 2.5, 30, 40]}"#,
            r#"[{"bbox_2d": [1, 2.5, 30, 40], "label": "cat"}]"#,
            "```json\n[{\"bbox_2d\": [1, 2.5, 30, 40]}]\n```",
            "(1,2.5),(30,40)",
            "( 1 , 2.5 ) , ( 30, 40 )",
            "<|box_start|>(1,2.5),(30,40)<|box_end|>",
        ];
        for text in same {
            assert_eq!(written(text).unwrap().corners, [1.0, 2.5, 30.0, 40.0], "{text}");
        }
        assert_eq!(written(r#"{"image": 2, "bbox_2d": [0, 0, 1, 1]}"#).unwrap().image, Some(2));
        assert_eq!(written("(−1,-2),(3,4)").unwrap().corners, [-1.0, -2.0, 3.0, 4.0]);
        let not = [
            "",
            "[]",
            "1, 2, 3, 4",
            "[1, 2, 3]",
            "[1, 2, 3, 4, 5]",
            "[1, 2, 3, \"4\"]",
            "[3, 2, 1, 4]",
            "[1, 2, 1, 4]",
            "[[1, 2, 3, 4], [1, 2, 3, 4]]",
            r#"[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8]}]"#,
            r#"{"bbox": [1, 2, 3, 4]}"#,
            r#"{"image": "2", "bbox_2d": [1, 2, 3, 4]}"#,
            r#"{"image": -1, "bbox_2d": [1, 2, 3, 4]}"#,
            "[1, 2, 3, 4] or [5, 6, 7, 8]",
            "the box is [1, 2, 3, 4]",
            "[1, 2, 3, 4] px",
            "(1,2),(3,4),(5,6)",
            "(1,2,3,4)",
            "(1,2,3),(4)",
            "(1,2) (3,4)",
            "(nan,0),(1,1)",
            "(0,0),(inf,1)",
            "(1e1,0),(20,1)",
            "[0, 0, NaN, 1]",
            "[0, 0, 1e999, 1]",
            "(1,000,2),(3,4)",
        ];
        for text in not {
            assert_eq!(written(text), None, "{text}");
        }
    }
}
