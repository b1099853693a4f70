//! `grounding_object`: how well the box of the answer fits the object asked for.

use imagent_core::{BBox, BoxFrame, Grounding, Original, Reward, Sample, Score, Trajectory};
use serde::{Deserialize, Serialize};

use crate::check;
use crate::format::format;
use crate::grader::no_gold_box;

/// How the box of an answer is measured against a gold box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxMeasure {
    /// Intersection over union, from 0 to 1.
    #[default]
    Iou,
    /// 1 where the intersection over union is at least `threshold`, else 0.
    Threshold,
    /// Generalised intersection over union, from −1 to 1: it also tells a near miss from a far one.
    Giou,
}

impl BoxMeasure {
    /// What an answer without a box is worth, and one on another image where that counts as none.
    fn lowest(self) -> f64 {
        if self == Self::Giou { -1.0 } else { 0.0 }
    }
}

/// On which image a box counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedOn {
    /// On the image of the gold box only.
    #[default]
    Right,
    /// On any: the box is compared with the gold one as if it were on its image, whichever the answer names.
    Any,
}

/// The object reward of MIRG-RL (arXiv 2509.21788): `R = measure(answer's box, nearest gold box)`, and its lowest value (0, or
/// −1 with `giou`) for an answer without a box or, unless `counted_on` is `any`, about another image.
///
/// The answer is `{"image": k, "bbox_2d": [x1, y1, x2, y2]}` or another form that
/// [`WrittenBox`](imagent_core::WrittenBox) takes; one that names no image is about the sample's image if it has only one, and about none
/// otherwise. Gold is the sample's answer where that is a box, else its gold regions; a sample with neither is skipped.
///
/// The published abstract gives two rewards, for objects and for images, and not their formulas: measures, threshold and weights
/// are fields. Add [`GroundingImage`](crate::GroundingImage) by a [`Sum`](crate::Sum).
///
/// With `difficulty`, the advantages of a group are multiplied by `exp(1 − mean IoU)`, from 1 where all its answers fit to e
/// where none does: the online weight of UniVG-R1 (arXiv 2505.14231). It is on advantages, as those of GRPO are divided by the group's
/// deviation and a factor on rewards would cancel. [`Reward::score`] alone, which sees no group, gives a weight of 1.
///
/// Parts: `accuracy` (1 for the right image and an IoU of at least `threshold`), `iou` (in the right image, else 0), `image` (1 for the
/// right image), `format`, `tool`, and with `difficulty` that weight as `difficulty`.
///
/// ```
/// use imagent_rewards::{BoxMeasure, CountedOn, GroundingObject};
/// let reward = GroundingObject { measure: BoxMeasure::Giou, ..GroundingObject::default() };
/// assert_eq!((reward.threshold, reward.counted_on), (0.5, CountedOn::Right));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroundingObject {
    /// `iou` (default), `threshold` or `giou`.
    pub measure: BoxMeasure,
    /// Least intersection over union of a hit, above 0 and at most 1; default 0.5.
    #[serde(deserialize_with = "check::share")]
    pub threshold: f64,
    /// `right` (default): only in the right image; `any`: whatever image is named.
    pub counted_on: CountedOn,
    /// Weighs groups by how hard they are; default false.
    pub difficulty: bool,
    /// Frame of the answer; default `shown`, Qwen2.5-VL's own convention.
    pub frame: BoxFrame,
    /// Frame of a gold answer that is a box; default `original`.
    pub gold_frame: BoxFrame,
}

impl Default for GroundingObject {
    fn default() -> Self {
        Self {
            measure: BoxMeasure::Iou,
            threshold: 0.5,
            counted_on: CountedOn::Right,
            difficulty: false,
            frame: BoxFrame::Shown,
            gold_frame: BoxFrame::Original,
        }
    }
}

impl GroundingObject {
    fn measured(&self, a: BBox<Original>, b: BBox<Original>) -> f64 {
        match self.measure {
            BoxMeasure::Iou => a.iou(b),
            BoxMeasure::Threshold => f64::from(u8::from(a.iou(b) >= self.threshold)),
            BoxMeasure::Giou => a.giou(b),
        }
    }
}

#[typetag::serde(name = "grounding_object")]
impl Reward for GroundingObject {
    fn score(&self, sample: &Sample, trajectory: &Trajectory) -> Score {
        let Some(found) = Grounding::read(sample, trajectory, self.frame, self.gold_frame) else {
            return Score::skip(no_gold_box(sample).to_string());
        };
        let shelf = &trajectory.shelf;
        let best = found.best(shelf, self.counted_on == CountedOn::Any, |a, b| self.measured(a, b));
        let (iou, image) = (found.iou(shelf), f64::from(u8::from(found.right_image())));
        let accuracy = f64::from(u8::from(iou >= self.threshold));
        let value = best.unwrap_or(self.measure.lowest());
        let mut score = check::score(value, accuracy, format(trajectory), check::tool(trajectory));
        score.parts.extend([("iou", iou as f32), ("image", image as f32)]);
        score
    }

    fn score_group(&self, sample: &Sample, group: &[Trajectory]) -> Vec<Score> {
        let mut scores: Vec<Score> = group.iter().map(|trajectory| self.score(sample, trajectory)).collect();
        if self.difficulty {
            let weight = difficulty(&scores);
            scores.iter_mut().filter(|score| score.skip.is_none()).for_each(|score| {
                score.weight = weight;
                score.parts.insert("difficulty", weight);
            });
        }
        scores
    }
}

/// `exp(1 − mean IoU)` of the trajectories that could be graded.
fn difficulty(scores: &[Score]) -> f32 {
    let graded: Vec<f64> = scores.iter().filter(|s| s.skip.is_none()).map(|s| f64::from(s.part("iou"))).collect();
    let mean = graded.iter().sum::<f64>() / graded.len().max(1) as f64;
    (1.0 - mean).exp() as f32
}
