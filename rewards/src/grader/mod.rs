//! Graders: whether an answer is the gold one. Deterministic, and reads the trajectory's answer only.

mod choice;
mod number;
mod set;
mod text;

use imagent_core::{BBox, BoxFrame, Gold, ImageShelf, Original, Sample, Trajectory, WrittenBox, gold_boxes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check;
use number::{close, number};
use text::normal;

/// Why a sample cannot be graded, whatever is answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GradeError {
    /// There is no gold answer.
    #[error("sample {id}: the gold answer is empty")]
    EmptyGold {
        /// The sample.
        id: String,
    },
    /// The gold answer is not of the grader's kind.
    #[error("sample {id}: the gold answer {gold:?} is not {expected}")]
    WrongGold {
        /// The sample.
        id: String,
        /// Its gold answer.
        gold: String,
        /// What the grader takes.
        expected: &'static str,
    },
}

/// How an answer is compared with the gold answer. Both are read in the same way.
///
/// ```
/// use imagent_rewards::Grader;
/// let choice: Grader = serde_json::from_str(r#"{"kind": "choice"}"#)?;
/// assert_eq!(choice.equal("B", "(B)"), Some(true));
/// assert_eq!(choice.equal("B", "b: a red car"), Some(true));
/// assert_eq!(choice.equal("B", "b or C"), Some(false));
/// assert_eq!(choice.equal("seven", "A"), None);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Grader {
    /// Equal texts after these steps: lower case; whitespace trimmed and every run of it made one space; then, as
    /// often as it applies, one full stop at the end or one pair of surrounding quotes (`"…"`, `'…'`, `` `…` ``, `“…”`,
    /// `‘…’`) taken off, and whitespace trimmed again. The default.
    Exact {},
    /// The same option of a choice: its letter, or its text where the sample's `meta` has a list of texts `options`.
    ///
    /// Whitespace, full stops at the end, quotes (those of `exact`) and `**` around an answer do not count. Then an answer
    /// names an option, by the first of these that fits:
    ///
    /// 1. it begins with a letter, small or capital: `B`, `(B)`, `B.`, `B)`, `B:`; behind all but the first any text may
    ///    follow after whitespace, `B: a red car`, if it names no other option;
    /// 2. it is the text of one option, as `exact` compares texts;
    /// 3. `answer is` or `answer:`, then a letter in parentheses or before punctuation or the end, stands somewhere in it, and
    ///    it names no other option.
    ///
    /// A text names another option by being its text, by beginning with another letter as in 1, by `answer is` and another
    /// letter, by another letter in parentheses, or by another capital letter as a word of its own (`A or B`); but for `A` and
    /// `I` before a word in small letters. An answer that names two options is wrong, and so is one that names none: `a red
    /// car` without options, `it is B`, `[B]`, a letter beyond the options.
    ///
    /// The gold answer is a letter as in 1, whatever follows it, or the text of one option. An answer with the same normal
    /// form as the gold answer's is right.
    Choice {},
    /// Numbers that differ by at most `tolerance`, or by at most `relative` times the larger of the two: what Python's
    /// `math.isclose` takes for equal.
    ///
    /// After trimming whitespace: a sign (`+`, `-` or `−`) or none; digits, plainly or in groups of three by commas
    /// (`1,234,567`); a fraction (`.5`) or none, of which one without digits (`7.`) is none; an exponent (`e-3`) or
    /// none; a percent sign, after whitespace or not, that divides by 100, or none. Nothing else is a number: no units, no
    /// words, none that is too large for 64 bits.
    Number {
        /// Largest absolute difference, not negative; default 1e-6.
        #[serde(default = "tolerance", deserialize_with = "check::not_negative")]
        tolerance: f64,
        /// Largest difference as a fraction of the larger number, not negative; default 0.
        #[serde(default, deserialize_with = "check::not_negative")]
        relative: f64,
    },
    /// Boxes that overlap: intersection over union of at least `threshold`.
    ///
    /// After trimming whitespace, and a code fence or `<|box_start|>…<|box_end|>` around it, one box is
    /// `[x1, y1, x2, y2]`, an object `{"bbox_2d": [x1, y1, x2, y2]}` with any other fields, a list of one of these, or
    /// `(x1, y1), (x2, y2)`, with `x1 < x2` and `y1 < y2`. Numbers are JSON's; in the last form plain digits, with a fraction or
    /// not and `-`, `−` or no sign. A field `image` that is no count makes it no box. Nothing else is a box: not two of them,
    /// none within a sentence.
    ///
    /// The gold box is the sample's answer where that is one (in `gold_frame`, on the image that its field `image` says,
    /// else image 1); otherwise the sample's gold regions, of which the nearest counts. The answer is read in `frame`, on the
    /// image of the gold box; where it has a field `image` that says another, it is wrong.
    Box {
        /// Least intersection over union, above 0 and at most 1; default 0.5.
        #[serde(default = "half", deserialize_with = "check::share")]
        threshold: f64,
        /// Gives the intersection over union itself, whatever the threshold; default false.
        #[serde(default)]
        partial: bool,
        /// Frame of the answer; default `shown`, Qwen2.5-VL's own convention.
        #[serde(default)]
        frame: BoxFrame,
        /// Frame of a gold answer that is a box; default `original`.
        #[serde(default = "original")]
        gold_frame: BoxFrame,
    },
    /// Equal sets of answers, in any order.
    ///
    /// A JSON list of texts and numbers has its elements as items. Any other text loses one pair of brackets around it
    /// (`{…}`, `[…]`, `(…)`) if there is none within; then its items end at semicolons and line breaks where it has one of these, else at commas and
    /// at the word `and`, small or capital. So commas group no digits here: write `1234`, or a JSON list. Each item is brought to the
    /// normal form of `exact`; empty ones and repetitions go.
    Set {
        /// Gives the F1 of the two sets, `2·|both| / (|gold| + |answer|)`, in place of 0 or 1; default false.
        #[serde(default)]
        partial: bool,
    },
    /// As the sample says in `meta.answer_kind`, so that a mixture of datasets can be graded: `choice` as `choice`, `box` as `box`
    /// with its defaults, anything else as `exact`. Datasets of published formats say it.
    Sample {},
}

fn tolerance() -> f64 {
    1e-6
}

fn half() -> f64 {
    0.5
}

fn original() -> BoxFrame {
    BoxFrame::Original
}

/// Why a sample without a gold box cannot be graded by one.
pub(crate) fn no_gold_box(sample: &Sample) -> GradeError {
    let grader = Grader::Box { threshold: half(), partial: false, frame: BoxFrame::Shown, gold_frame: original() };
    grader.error(sample)
}

/// The largest intersection over union of an answer with a gold box; 0 for an answer that is no box, or that names
/// another image than the gold box's.
fn overlap(answer: &str, gold: &[Gold], frame: BoxFrame, shelf: &ImageShelf) -> f64 {
    let Some(answer) = WrittenBox::read(answer) else { return 0.0 };
    let on_image = gold.iter().filter(|gold| answer.image.is_none_or(|image| image == gold.image));
    let iou = |gold: &Gold| {
        let bbox: BBox<Original> = frame.read(answer.corners, &shelf.get(gold.image)?.sizes);
        Some(bbox.iou(gold.bbox))
    };
    on_image.filter_map(iou).fold(0.0, f64::max)
}

/// The texts of a sample's options, in the order of their letters; none where its `meta` has no list of texts `options`.
fn options(sample: &Sample) -> Vec<&str> {
    let options = sample.meta.get("options").and_then(Value::as_array);
    let texts: Option<Vec<&str>> = options.into_iter().flatten().map(Value::as_str).collect();
    texts.unwrap_or_default()
}

impl Default for Grader {
    fn default() -> Self {
        Self::Exact {}
    }
}

/// Whether an answer without a kind is a box: a list of numbers may be just that.
fn names_image_and_box(answer: &str) -> bool {
    WrittenBox::read(answer).is_some_and(|written| written.image.is_some())
}

impl Grader {
    /// Whether `answer` is `gold`, wholly where the grader knows of parts; `None` where `gold` is empty or not of this
    /// kind. Boxes are taken to be in one frame, and the options of a choice not to be known.
    pub fn equal(&self, gold: &str, answer: &str) -> Option<bool> {
        self.share(gold, answer, &[]).map(|share| share >= 1.0)
    }

    /// How far `answer` is `gold`, from 0 to 1; 0 or 1 but for `partial`. `None` as in [`Grader::equal`]; `options` are the texts
    /// of a choice, in the order of their letters.
    pub fn share(&self, gold: &str, answer: &str, options: &[&str]) -> Option<f64> {
        let is = |equal: bool| f64::from(u8::from(equal));
        match *self {
            Self::Exact {} | Self::Sample {} => {
                Some(normal(gold)).filter(|gold| !gold.is_empty()).map(|gold| is(gold == normal(answer)))
            }
            Self::Choice {} => {
                let right = |gold_letter| {
                    normal(answer) == normal(gold) || choice::chosen(answer, options) == Some(gold_letter)
                };
                choice::gold(gold, options).map(|gold_letter| is(right(gold_letter)))
            }
            Self::Number { tolerance, relative } => {
                let equal = |gold| number(answer).is_some_and(|answer| close(gold, answer, tolerance, relative));
                number(gold).map(|gold| is(equal(gold)))
            }
            Self::Box { threshold, partial, .. } => {
                let gold = BBox::<Original>::from(WrittenBox::read(gold)?.corners);
                let iou = WrittenBox::read(answer).map_or(0.0, |answer| gold.iou(answer.corners.into()));
                Some(if partial { iou } else { is(iou >= threshold) })
            }
            Self::Set { partial } => {
                let (gold, answer) = (set::items(gold), set::items(answer));
                let share = if partial { set::f1(&gold, &answer) } else { is(gold == answer) };
                (!gold.is_empty()).then_some(share)
            }
        }
    }

    /// 1 for the gold answer, 0 for another or none; with `partial`, what lies between.
    ///
    /// # Errors
    /// When the sample has no gold answer of this kind.
    pub fn grade(&self, sample: &Sample, trajectory: &Trajectory) -> Result<f64, GradeError> {
        let answer = trajectory.answer.as_deref();
        let grader = self.of(sample);
        let graded = match grader {
            Self::Box { threshold, partial, frame, gold_frame } => {
                let gold = gold_boxes(sample, gold_frame, &trajectory.shelf);
                let iou = overlap(answer.unwrap_or_default(), &gold, frame, &trajectory.shelf);
                let share = if partial { iou } else { f64::from(u8::from(iou >= threshold)) };
                (!gold.is_empty()).then_some(share)
            }
            _ => grader.share(&sample.answer, answer.unwrap_or_default(), &options(sample)),
        };
        match graded {
            Some(share) => Ok(if answer.is_some() { share } else { 0.0 }),
            None => Err(grader.error(sample)),
        }
    }

    /// The grader of a sample: this one, unless it leaves that to the sample.
    fn of(self, sample: &Sample) -> Self {
        match (self, sample.meta.get("answer_kind").and_then(serde_json::Value::as_str)) {
            (Self::Sample {}, Some("choice")) => Self::Choice {},
            (Self::Sample {}, kind) if kind == Some("box") || kind.is_none() && names_image_and_box(&sample.answer) => {
                Self::Box { threshold: half(), partial: false, frame: BoxFrame::default(), gold_frame: original() }
            }
            (Self::Sample {}, _) => Self::Exact {},
            (own, _) => own,
        }
    }

    fn error(&self, sample: &Sample) -> GradeError {
        let id = sample.id.clone();
        let expected = match self {
            Self::Exact {} | Self::Sample {} => return GradeError::EmptyGold { id },
            _ if sample.answer.trim().is_empty() => return GradeError::EmptyGold { id },
            Self::Choice {} => "a letter of a choice",
            Self::Number { .. } => "a number",
            Self::Box { .. } => "a box on an image",
            Self::Set { .. } => "a set of answers",
        };
        GradeError::WrongGold { id, gold: sample.answer.clone(), expected }
    }
}
