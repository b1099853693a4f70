//! What is logged of rollouts, and the list of all names that a run logs. `docs/metrics.md` explains each; a test
//! compares it with [`METRICS`].

use std::collections::BTreeMap;

use imagent_core::{
    BBox, BoxFrame, EndReason, Grounding, Group, Original, Sample, ScoredTrajectory, ToolCall, Trajectory, WrittenBox,
};

/// A logged figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name; a part in capitals stands for any name.
    pub name: &'static str,
    /// Its unit or range.
    pub unit: &'static str,
    /// How it is computed.
    pub formula: &'static str,
}

const fn metric(name: &'static str, unit: &'static str, formula: &'static str) -> Metric {
    Metric { name, unit, formula }
}

/// Every name that the train loop, an evaluation or an optimiser of this crate logs, sorted.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    metric("accuracy", "0–1", "mean of the score's part `accuracy`"),
    metric("accuracy/KIND", "0–1", "the same over samples of kind KIND"),
    metric("attention/images", "fraction", "attention of sampled tokens on images, mean over tokens, layers and trajectories"),
    metric("attention/sample_images", "fraction", "the same on the sample's own images, without those that tools returned"),
    metric("calls", "calls", "mean tool calls of a trajectory, failed ones and one in the last turn included"),
    metric("end/answered", "fraction", "trajectories that ended with a complete `<answer>`"),
    metric("end/image_limit", "fraction", "trajectories that ended as an observation brought too many images"),
    metric("end/length_limit", "fraction", "trajectories that ran out of tokens"),
    metric("end/malformed", "fraction", "trajectories that ended with tags that do not pair up"),
    metric("end/no_answer", "fraction", "trajectories that ended a turn without call or answer"),
    metric("end/turn_limit", "fraction", "trajectories whose last allowed turn called a tool"),
    metric("flat_groups", "fraction", "groups whose rewards are all equal: no advantage, nothing to learn"),
    metric("format", "reward's own", "mean of the score's part `format`"),
    metric("grounding/acc@0.5", "fraction", "answers with an IoU of at least 0.5 in the right image"),
    metric("grounding/image_accuracy", "fraction", "answers about the image of the gold box"),
    metric("grounding/mean_iou", "0–1", "mean IoU with the gold box, 0 in another image and without a box"),
    metric("groups", "count", "groups with at least one graded trajectory"),
    metric("mismatch/factor_mean", "ratio", "mean factor by which tokens are corrected: min(exp(scored − sampled), importance_cap)"),
    metric("mismatch/gap_max", "nats", "largest difference of a token's log-probability between sampling and scoring"),
    metric("mismatch/kl", "nats", "mean k3 of the policy as sampled against the policy as scored: ρ − 1 − ln ρ, ρ = exp(scored − sampled)"),
    metric("mismatch/truncated", "fraction", "tokens whose factor is the cap"),
    metric("observation_tokens", "tokens", "mean tokens of a trajectory that tools and the template wrote, image tokens included"),
    metric("part/NAME", "reward's own", "mean of the score's part NAME, for parts other than `accuracy` and `format`"),
    metric("refill/prompts", "count", "further samples drawn in place of dropped groups"),
    metric("refill/rounds", "count", "rounds in which they were drawn"),
    metric("repeated_calls", "fraction", "trajectories that call a tool as they have called it before: same name, same arguments"),
    metric("response_tokens/max", "tokens", "most sampled tokens of a trajectory"),
    metric("response_tokens/mean", "tokens", "mean sampled tokens of a trajectory"),
    metric("reward/mean", "reward", "mean reward of all graded trajectories"),
    metric("reward/std", "reward", "unbiased standard deviation of the same, 0 for a single one"),
    metric("seconds/reward", "s", "wall time of grading"),
    metric("seconds/rollout", "s", "wall time of reading samples and rolling out"),
    metric("seconds/score", "s", "wall time of scoring with the reference and, where needed, the behaviour policy"),
    metric("seconds/update", "s", "wall time of the updates"),
    metric("sft/left_out", "count", "samples of an update that are too long, or whose annotation makes no trajectory"),
    metric("sft/loss", "nats", "mean negative log-likelihood of the assistant's tokens of an update, before it"),
    metric("sft/tokens", "tokens", "the assistant's tokens of an update"),
    metric("sft/validation_loss", "nats", "mean negative log-likelihood of the assistant's tokens of all held-out samples"),
    metric("skipped", "fraction", "trajectories that the reward could not grade; all other figures leave them out"),
    metric("tool_error/NAME", "fraction", "tool calls that failed with error NAME; absent where none did"),
    metric("tool_error_rate", "fraction", "tool calls that failed"),
    metric("tool_rate", "fraction", "trajectories with a tool call that returned an image"),
    metric("tool_rate_needed", "fraction", "the same among samples with `zooms_needed` ≥ 1"),
    metric("tool_rate_unneeded", "fraction", "the same among samples with `zooms_needed` = 0"),
    metric("trajectories", "count", "graded trajectories"),
    metric("turns", "turns", "mean turns of a trajectory"),
    metric("update/approx_kl", "nats", "mean k3 of the policy that sampled against the policy being trained: r − 1 − ln r"),
    metric("update/clip_fraction", "fraction", "tokens whose surrogate a clip decided: low + high; but for `weighted` they have no gradient"),
    metric("update/clip_fraction_high", "fraction", "tokens with A > 0 and r > 1 + clip_high; with `weighted`, any A"),
    metric("update/clip_fraction_low", "fraction", "tokens with A < 0 and r < 1 − clip_low; with `weighted`, any A"),
    metric("update/count", "count", "updates done in the step"),
    metric("update/dual_clip_fraction", "fraction", "tokens with A < 0 and r > dual_clip"),
    metric("update/entropy", "nats", "mean entropy of the distribution each token was drawn from"),
    metric("update/grad_norm", "norm", "norm of the gradient before clipping"),
    metric("update/kl", "nats", "mean estimate of the divergence from the reference, by `kl_estimator`; k3: exp(d) − d − 1, d = ref_logprob − logprob"),
    metric("update/learning_rate", "1", "learning rate"),
    metric("update/loss", "loss", "the loss that was differentiated, KL and entropy terms included"),
    metric("update/loss_tokens", "tokens", "sum of the loss weights of an update"),
    metric("update/policy_loss", "loss", "mean surrogate of a token, before KL and entropy terms"),
    metric("update/ratio_max", "ratio", "largest ratio: exp(logprob − old_logprob), or the row's with `sequence` and `geometric`"),
    metric("update/ratio_mean", "ratio", "mean ratio r"),
    metric("update/skipped", "count", "updates left out for want of rows, weight or gradient"),
    metric("zoom/hit", "fraction", "zooms whose region lies in a gold image and wholly contains a gold box of it"),
    metric("zoom/reading", "0–1", "accuracy of trajectories with a hit, among samples that need one zoom"),
    metric("zoom/right_image", "fraction", "zooms into an image that holds a gold box"),
];

/// Sums and counts by name; a name that nothing was added to does not appear.
#[derive(Debug, Default)]
struct Means(BTreeMap<String, (f64, f64)>);

impl Means {
    fn add(&mut self, name: impl Into<String>, value: impl Into<f64>) {
        self.add_of(name, value, 1.0);
    }

    /// Adds to a mean over `count` things at once.
    fn add_of(&mut self, name: impl Into<String>, value: impl Into<f64>, count: f64) {
        let entry = self.0.entry(name.into()).or_default();
        *entry = (entry.0 + value.into(), entry.1 + count);
    }
}

/// Figures of rollouts: rewards, tool use, ends, lengths, and where zooms went. See [`METRICS`] for each.
///
/// A figure whose denominator is 0 is absent.
pub fn rollout_metrics(groups: &[Group]) -> BTreeMap<String, f64> {
    let mut means = Means::default();
    let skipped: usize = groups.iter().map(|group| group.skipped).sum();
    let members: Vec<&ScoredTrajectory> = groups.iter().flat_map(|group| &group.members).collect();
    let graded_groups = groups.iter().filter(|group| !group.members.is_empty());
    graded_groups.clone().for_each(|group| means.add("flat_groups", group.is_flat()));
    for scored in &members {
        add_score(&mut means, scored);
        add_tools(&mut means, &scored.trajectory);
        add_shape(&mut means, &scored.trajectory);
        add_zooms(&mut means, scored);
        add_grounding(&mut means, scored);
    }
    add_errors(&mut means, &members);
    if skipped + members.len() > 0 {
        means.add_of("skipped", skipped as f64, (skipped + members.len()) as f64);
    }
    let mut metrics: BTreeMap<String, f64> =
        means.0.into_iter().filter(|(_, (_, n))| *n > 0.0).map(|(name, (sum, n))| (name, sum / n)).collect();
    metrics.insert("groups".into(), graded_groups.count() as f64);
    metrics.insert("trajectories".into(), members.len() as f64);
    if let Some(mean) = metrics.get("reward/mean").copied() {
        metrics.insert("reward/std".into(), reward_std(&members, mean));
        let longest = members.iter().map(|scored| scored.trajectory.sampled_len()).max();
        metrics.insert("response_tokens/max".into(), longest.unwrap_or(0) as f64);
    }
    metrics
}

fn reward_std(members: &[&ScoredTrajectory], mean: f64) -> f64 {
    let squares: f64 = members.iter().map(|scored| (f64::from(scored.score.value) - mean).powi(2)).sum();
    (squares / (members.len().max(2) - 1) as f64).sqrt()
}

fn add_score(means: &mut Means, scored: &ScoredTrajectory) {
    means.add("reward/mean", scored.score.value);
    for (&part, &value) in &scored.score.parts {
        match part {
            "accuracy" | "format" => means.add(part, value),
            _ => means.add(format!("part/{part}"), value),
        }
    }
    let kind = &scored.trajectory.sample.kind;
    if let (Some(&accuracy), false) = (scored.score.parts.get("accuracy"), kind.is_empty()) {
        means.add(format!("accuracy/{kind}"), accuracy);
    }
}

fn add_tools(means: &mut Means, trajectory: &Trajectory) {
    let used = trajectory.used_tool();
    means.add("tool_rate", used);
    match trajectory.sample.zooms_needed {
        Some(0) => means.add("tool_rate_unneeded", used),
        Some(_) => means.add("tool_rate_needed", used),
        None => {}
    }
    means.add("calls", trajectory.calls() as f64);
    means.add("repeated_calls", repeats_a_call(trajectory));
}

/// Whether a call is the same as an earlier one of the trajectory.
fn repeats_a_call(trajectory: &Trajectory) -> bool {
    let outcomes = trajectory.turns.iter().filter_map(|turn| turn.tool.as_ref());
    let calls: Vec<&ToolCall> = outcomes.filter_map(|outcome| outcome.call.as_ref()).collect();
    calls.iter().enumerate().any(|(i, call)| calls[..i].contains(call))
}

fn add_errors(means: &mut Means, members: &[&ScoredTrajectory]) {
    let turns = members.iter().flat_map(|scored| &scored.trajectory.turns);
    let outcomes: Vec<_> = turns.filter_map(|turn| turn.tool.as_ref()).collect();
    let mut failed = BTreeMap::<&str, usize>::new();
    outcomes
        .iter()
        .filter_map(|outcome| outcome.error.as_deref())
        .for_each(|name| *failed.entry(name).or_default() += 1);
    let calls = outcomes.len() as f64;
    means.add_of("tool_error_rate", failed.values().sum::<usize>() as f64, calls);
    failed.iter().for_each(|(name, &count)| means.add_of(format!("tool_error/{name}"), count as f64, calls));
}

fn add_shape(means: &mut Means, trajectory: &Trajectory) {
    means.add("turns", trajectory.turns.len() as f64);
    for end in EndReason::ALL {
        means.add(format!("end/{}", end.name()), trajectory.end == end);
    }
    let sampled = trajectory.sampled_len();
    means.add("response_tokens/mean", sampled as f64);
    means.add("observation_tokens", (trajectory.ids.len() - trajectory.prompt_len - sampled) as f64);
}

fn add_zooms(means: &mut Means, scored: &ScoredTrajectory) {
    let sample = &scored.trajectory.sample;
    if sample.gold.is_empty() || sample.zooms_needed == Some(0) {
        return;
    }
    let mut any_hit = false;
    for (image, region) in zooms(&scored.trajectory) {
        let hit = hits(sample, image, region);
        any_hit |= hit;
        means.add("zoom/right_image", sample.gold.iter().any(|gold| gold.image == image));
        means.add("zoom/hit", hit);
    }
    let needed = sample.zooms_needed.map_or(sample.gold.len(), |zooms| zooms as usize);
    if let (true, 1, Some(&accuracy)) = (any_hit, needed, scored.score.parts.get("accuracy")) {
        means.add("zoom/reading", accuracy);
    }
}

/// How the box of the answer fits, of samples whose gold answer is a box: as the reward has read it (its parts `iou` and `image`),
/// else in pixels as shown.
fn add_grounding(means: &mut Means, scored: &ScoredTrajectory) {
    let trajectory = &scored.trajectory;
    if WrittenBox::read(&trajectory.sample.answer).is_none() {
        return;
    }
    let Some(found) = Grounding::read(&trajectory.sample, trajectory, BoxFrame::Shown, BoxFrame::Original) else {
        return;
    };
    let part = |name: &str| scored.score.parts.get(name).map(|&value| f64::from(value));
    let iou = part("iou").unwrap_or_else(|| found.iou(&trajectory.shelf));
    let image = part("image").unwrap_or_else(|| f64::from(found.right_image()));
    means.add("grounding/acc@0.5", iou >= 0.5);
    means.add("grounding/image_accuracy", image);
    means.add("grounding/mean_iou", iou);
}

/// The zooms of a trajectory: original image and region in its pixels.
///
/// A zoom is an image that a tool returned and that shows part of another. An image shown again whole (`look_back`) is
/// none, or looking at everything would be a hit.
fn zooms(trajectory: &Trajectory) -> impl Iterator<Item = (usize, BBox<Original>)> + '_ {
    let shelf = &trajectory.shelf;
    let part_of_another = move |&index: &usize| {
        let origin = shelf.get(index).and_then(|image| image.origin);
        let source = origin.and_then(|origin| Some((origin.bbox, shelf.get(origin.image)?.sizes.original)));
        source.is_some_and(|(bbox, size)| bbox.area() < f64::from(size.width) * f64::from(size.height))
    };
    let outcomes = trajectory.turns.iter().filter_map(|turn| turn.tool.as_ref());
    let returned = outcomes.flat_map(|outcome| outcome.images.iter().copied());
    returned.filter(part_of_another).filter_map(move |index| shelf.root_region(index))
}

/// Rounding of a crop of a crop, in pixels.
const SLACK: f64 = 1e-6;

fn hits(sample: &Sample, image: usize, region: BBox<Original>) -> bool {
    let region = BBox::new(region.x1 - SLACK, region.y1 - SLACK, region.x2 + SLACK, region.y2 + SLACK);
    sample.gold.iter().any(|gold| gold.image == image && region.contains(gold.bbox))
}
