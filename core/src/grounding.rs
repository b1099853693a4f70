//! Boxes in answers: how models write them, which boxes are gold, and how far an answer agrees with them.

use serde_json::Value;

use crate::frame::{BBox, BoxFrame, ImageSizes, Original};
use crate::image::ImageShelf;
use crate::sample::{Gold, Sample};
use crate::trajectory::Trajectory;

/// A box as written, and the image that it says it is on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WrittenBox {
    /// The image, counted from 1, where one is named.
    pub image: Option<usize>,
    /// `[x1, y1, x2, y2]` with `x1 < x2` and `y1 < y2`, in whatever frame the writer uses.
    pub corners: [f64; 4],
}

impl WrittenBox {
    /// The one box of a text; `None` where it holds none, several, or anything besides. A box is `[x1, y1, x2, y2]`,
    /// `{"bbox_2d": [x1, y1, x2, y2]}` with any other fields, a list of one of these, or `(x1, y1), (x2, y2)`; a code fence or
    /// Qwen2-VL's box marks around it do not count. A field `image` that is no count makes it no box.
    ///
    /// ```
    /// use imagent_core::WrittenBox;
    /// let found = WrittenBox::read(r#"{"image": 2, "bbox_2d": [1, 2, 30, 40]}"#);
    /// assert_eq!(found, Some(WrittenBox { image: Some(2), corners: [1.0, 2.0, 30.0, 40.0] }));
    /// assert_eq!(WrittenBox::read("the box is [1, 2, 30, 40]"), None);
    /// ```
    pub fn read(text: &str) -> Option<Self> {
        let text = unfenced(text.trim());
        let text = text.strip_prefix("<|box_start|>").and_then(|rest| rest.strip_suffix("<|box_end|>")).unwrap_or(text);
        let found = serde_json::from_str(text).ok().map_or_else(|| pairs(text), |value| from_json(&value))?;
        let [x1, y1, x2, y2] = found.corners;
        (x1 < x2 && y1 < y2).then_some(found)
    }
}

/// The image that an answer names, whatever else it says: the field `image` of a JSON object, or of a list of one.
///
/// ```
/// use imagent_core::image_named;
/// assert_eq!(image_named(r#"{"image": 2, "bbox_2d": [9, 9, 1, 1]}"#), Some(2));
/// assert_eq!(image_named("[1, 2, 30, 40]"), None);
/// ```
pub fn image_named(text: &str) -> Option<usize> {
    let value: Value = serde_json::from_str(unfenced(text.trim())).ok()?;
    let value = value.as_array().filter(|list| list.len() == 1).map_or(&value, |list| &list[0]);
    usize::try_from(value.get("image")?.as_u64()?).ok()
}

/// The gold boxes of a sample, in pixels of the image files: the one that its answer is (in `frame`, on the image that it
/// names, else image 1), else its gold regions. Empty where the answer is a box on no image of the shelf.
pub fn gold_boxes(sample: &Sample, frame: BoxFrame, shelf: &ImageShelf) -> Vec<Gold> {
    let Some(WrittenBox { image, corners }) = WrittenBox::read(&sample.answer) else { return sample.gold.clone() };
    let image = image.unwrap_or(1);
    let bbox = sizes(shelf, image).map(|sizes| frame.read::<Original>(corners, &sizes));
    bbox.map(|bbox| Gold { image, bbox }).into_iter().collect()
}

/// How an answer stands to the gold boxes.
#[derive(Clone, Debug, PartialEq)]
pub struct Grounding {
    /// The gold boxes.
    pub gold: Vec<Gold>,
    /// The image that the answer is about: the one that it names, else the only image of the sample.
    pub image: Option<usize>,
    /// The box of the answer.
    pub answer: Option<WrittenBox>,
    frame: BoxFrame,
}

impl Grounding {
    /// Reads a trajectory's answer to a sample, its box in `frame`; `None` where the sample has no gold box. A gold answer that
    /// is a box is in `gold_frame`.
    pub fn read(sample: &Sample, trajectory: &Trajectory, frame: BoxFrame, gold_frame: BoxFrame) -> Option<Self> {
        let text = trajectory.answer.as_deref().unwrap_or_default();
        let gold = gold_boxes(sample, gold_frame, &trajectory.shelf);
        let answer = WrittenBox::read(text);
        let named = answer.and_then(|answer| answer.image).or_else(|| image_named(text));
        let only = (sample.images.len() == 1 && answer.is_some()).then_some(1);
        (!gold.is_empty()).then_some(Self { gold, image: named.or(only), answer, frame })
    }

    /// Whether the answer is about an image that holds a gold box.
    pub fn right_image(&self) -> bool {
        self.gold.iter().any(|gold| Some(gold.image) == self.image)
    }

    /// The largest `measure(answer, gold)` over the gold boxes of the image that the answer is about, or, with `any_image`, of
    /// any image; `None` where there is nothing to measure. The answer is read in pixels of the gold box's image.
    pub fn best(
        &self,
        shelf: &ImageShelf,
        any_image: bool,
        measure: impl Fn(BBox<Original>, BBox<Original>) -> f64,
    ) -> Option<f64> {
        let answer = self.answer?;
        let counted = self.gold.iter().filter(|gold| any_image || Some(gold.image) == self.image);
        let value = |gold: &Gold| {
            let sizes = sizes(shelf, gold.image)?;
            Some(measure(self.frame.read(answer.corners, &sizes), gold.bbox))
        };
        counted.filter_map(value).max_by(f64::total_cmp)
    }

    /// Intersection over union with the nearest gold box of the right image; 0 for another image, and for no box.
    pub fn iou(&self, shelf: &ImageShelf) -> f64 {
        self.best(shelf, false, BBox::iou).unwrap_or(0.0)
    }
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
            assert_eq!(WrittenBox::read(text).unwrap().corners, [1.0, 2.5, 30.0, 40.0], "{text}");
        }
        assert_eq!(WrittenBox::read(r#"{"image": 2, "bbox_2d": [0, 0, 1, 1]}"#).unwrap().image, Some(2));
        assert_eq!(WrittenBox::read("(−1,-2),(3,4)").unwrap().corners, [-1.0, -2.0, 3.0, 4.0]);
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
            assert_eq!(WrittenBox::read(text), None, "{text}");
        }
    }
}
