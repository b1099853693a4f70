//! The figures of rollouts, computed by hand, and the list of names against its page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{Crop, Exact, answer, crop, sample};
use imagent_algorithms::{METRICS, evaluate, rollout_metrics};
use imagent_core::testing::FakePolicy;
use imagent_core::{Group, Limits, PromptStyle, RolloutRequest, Sample, Sampling};

fn request(group_size: usize) -> RolloutRequest {
    let limits = Limits { max_turns: 3, max_new_tokens: 200, ..Limits::default() };
    let sampling = Sampling::greedy();
    RolloutRequest { group_size, sampling, limits, prompt: PromptStyle::default(), seed: 1, round: 0 }
}

/// Figures of `scripts` (one per rollout, each a list of turns) over `samples`.
fn figures(samples: Vec<Arc<Sample>>, scripts: Vec<Vec<String>>) -> (BTreeMap<String, f64>, Vec<Group>) {
    let group_size = scripts.len() / samples.len();
    let mut policy = FakePolicy::new(move |rollout, turn| scripts[rollout][turn].clone());
    let positions: Vec<usize> = (0..samples.len()).collect();
    let reward = Exact { format: 0.5 };
    evaluate(&mut policy, &Crop {}, &reward, &samples, &positions, samples.len(), &request(group_size)).unwrap()
}

const GOLD: [f64; 4] = [10.0, 10.0, 20.0, 20.0];

#[test]
fn figures_by_hand() {
    let samples = vec![sample("a", "read", Some(1), Some(GOLD)), sample("b", "which", Some(0), Some(GOLD))];
    let near = crop(2, [5.0, 5.0, 25.0, 25.0]);
    let (metrics, groups) = figures(
        samples,
        vec![
            vec![near.clone(), answer("7")],                    // hit, right
            vec![near, answer("8")],                            // hit, wrong
            vec![crop(1, [5.0, 5.0, 25.0, 25.0]), answer("8")], // wrong image
            vec![crop(9, [0.0; 4]), "hm".into()],               // failed call, then nothing
            vec![answer("7")],                                  // right
            vec![crop(2, [0.0, 0.0, 9.0, 9.0]), answer("7")],   // a zoom that was not needed
            vec![answer("?")],                                  // cannot be graded
            vec!["<answer>".into()],                            // malformed
        ],
    );
    assert_eq!(groups.iter().map(|group| group.members.len()).collect::<Vec<_>>(), [4, 3]);
    let third = |x: f64| x / 7.0;
    let want = [
        ("accuracy", third(3.0)),
        ("accuracy/read", 0.25),
        ("accuracy/which", 2.0 / 3.0),
        ("calls", third(5.0)),
        ("end/answered", third(5.0)),
        ("end/image_limit", 0.0),
        ("end/length_limit", 0.0),
        ("end/malformed", third(1.0)),
        ("end/no_answer", third(1.0)),
        ("end/turn_limit", 0.0),
        ("flat_groups", 0.0),
        ("format", third(5.0)),
        ("groups", 2.0),
        ("part/iou", 0.5),
        ("repeated_calls", 0.0),
        ("reward/mean", third(5.5)),
        ("skipped", 1.0 / 8.0),
        ("tool_error/no_image", 0.2),
        ("tool_error_rate", 0.2),
        ("tool_rate", third(4.0)),
        ("tool_rate_needed", 0.75),
        ("tool_rate_unneeded", 1.0 / 3.0),
        ("trajectories", 7.0),
        ("turns", third(12.0)),
        ("zoom/hit", 2.0 / 3.0),
        ("zoom/reading", 0.5),
        ("zoom/right_image", 2.0 / 3.0),
    ];
    for (name, value) in want {
        let got = metrics.get(name).unwrap_or_else(|| panic!("no {name}"));
        assert!((got - value).abs() < 1e-12, "{name}: {got}, want {value}");
    }
    let rewards = [1.5, 0.5, 0.5, 0.0, 1.5, 1.5, 0.0f64];
    let squares: f64 = rewards.iter().map(|reward| (reward - 5.5 / 7.0).powi(2)).sum();
    assert!((metrics["reward/std"] - (squares / 6.0).sqrt()).abs() < 1e-12);
    let members = || groups.iter().flat_map(|group| &group.members).map(|scored| &scored.trajectory);
    let sampled: Vec<usize> = members().map(|t| t.turns.iter().map(|turn| turn.tokens.len()).sum()).collect();
    assert_eq!(metrics["response_tokens/max"], *sampled.iter().max().unwrap() as f64);
    assert!((metrics["response_tokens/mean"] - third(sampled.iter().sum::<usize>() as f64)).abs() < 1e-12);
    // Each image that came back has 2 × 2 tokens, and the template adds its 25 letters; the error has its own text.
    let template = "<answer>template</answer>".len();
    let error = template + "Error: no image 9, there are 2".len();
    let observed = 4 * (template + 4) + error;
    assert!((metrics["observation_tokens"] - third(observed as f64)).abs() < 1e-12);
    assert_eq!(metrics.len(), want.len() + 4, "{:?}", metrics.keys());
}

#[test]
fn a_zoom_counts_where_it_lands_through_crops_of_crops() {
    let of = |turns: Vec<String>| figures(vec![sample("a", "", Some(1), Some(GOLD))], vec![turns]).0;
    // Image 3 shows the upper left quarter of image 2 enlarged twice; there, the gold box is [20, 20, 40, 40].
    let quarter = crop(2, [0.0, 0.0, 28.0, 28.0]);
    let inner = of(vec![quarter.clone(), crop(3, [20.0, 20.0, 40.0, 40.0]), answer("7")]);
    assert_eq!((inner["zoom/hit"], inner["zoom/right_image"]), (1.0, 1.0));
    let beside = of(vec![quarter, crop(3, [21.0, 20.0, 40.0, 40.0]), answer("7")]);
    assert_eq!((beside["zoom/hit"], beside["zoom/right_image"]), (0.5, 1.0));
    assert_eq!(beside["zoom/reading"], 1.0);
    // The same words again are a repeated call, another box is not.
    let twice = crop(2, [5.0, 5.0, 25.0, 25.0]);
    let again = of(vec![twice.clone(), twice.clone(), answer("7")]);
    let other = of(vec![twice, crop(2, [5.0, 5.0, 25.0, 26.0]), answer("7")]);
    assert_eq!((again["repeated_calls"], other["repeated_calls"]), (1.0, 0.0));
    // An image put in front again whole is no zoom, though a tool was used.
    let whole = of(vec![crop(2, [0.0, 0.0, 56.0, 56.0]), answer("7")]);
    assert_eq!(whole["tool_rate"], 1.0);
    assert!(whole.keys().all(|name| !name.starts_with("zoom/") && !name.starts_with("accuracy/")));
}

#[test]
fn nothing_to_measure_gives_no_figures_and_no_nan() {
    assert_eq!(rollout_metrics(&[]), BTreeMap::from([("groups".into(), 0.0), ("trajectories".into(), 0.0)]));
    let (metrics, _) = figures(vec![sample("a", "read", None, None)], vec![vec![answer("?")]]);
    assert_eq!((metrics["skipped"], metrics["trajectories"], metrics.len()), (1.0, 0.0, 3));
    let (metrics, _) = figures(vec![sample("a", "read", None, None)], vec![vec![answer("7")]]);
    assert!(metrics.values().all(|value| value.is_finite()));
    assert!(!metrics.contains_key("tool_rate_needed") && !metrics.contains_key("zoom/hit"));
}

#[test]
fn every_figure_is_listed() {
    let samples = vec![sample("a", "read", Some(1), Some(GOLD))];
    let (metrics, _) = figures(
        samples,
        vec![vec![crop(2, [5.0, 5.0, 25.0, 25.0]), answer("7")], vec![crop(9, [0.0; 4]), answer("8")]],
    );
    for name in metrics.keys() {
        assert!(common::is_listed(name), "{name} is not in METRICS");
    }
}

/// Rows `| name | unit | formula |` of the page.
fn documented() -> Vec<[String; 3]> {
    let page = include_str!("../../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<String> = row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|_| panic!("{row}"))
    })
    .collect()
}

#[test]
fn the_page_and_the_code_agree() {
    let page: BTreeSet<[String; 3]> = documented().into_iter().collect();
    let code: BTreeSet<[String; 3]> =
        METRICS.iter().map(|m| [format!("`{}`", m.name), m.unit.to_owned(), m.formula.to_owned()]).collect();
    assert_eq!(page, code);
    assert!(METRICS.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn boxes_as_answers() {
    let boxed = |id: &str| {
        let mut sample = Arc::unwrap_or_clone(sample(id, "find", Some(0), Some(GOLD)));
        sample.answer = r#"{"image": 2, "bbox_2d": [10, 10, 20, 20]}"#.into();
        Arc::new(sample)
    };
    let say = |image: usize, x2: usize| answer(&format!(r#"{{"image": {image}, "bbox_2d": [10, 10, {x2}, 20]}}"#));
    let scripts = vec![vec![say(2, 20)], vec![say(2, 14)], vec![say(1, 20)], vec![answer("8")]];
    let (_, mut groups) = figures(vec![boxed("a"), boxed("b")], scripts);
    // The reward of these tests calls another thing `iou`; without it the box is read as shown.
    groups.iter_mut().flat_map(|group| &mut group.members).for_each(|member| _ = member.score.parts.remove("iou"));
    let figure = |groups: &[Group], name: &str| rollout_metrics(groups)[&format!("grounding/{name}")];
    assert_eq!(figure(&groups, "acc@0.5"), 0.25);
    assert_eq!(figure(&groups, "image_accuracy"), 0.5);
    assert!((figure(&groups, "mean_iou") - 1.4 / 4.0).abs() < 1e-12);
    // A reward that has read the box itself, in whatever frame, is believed.
    for member in groups.iter_mut().flat_map(|group| &mut group.members) {
        member.score.parts.extend([("iou", 0.75), ("image", 1.0)]);
    }
    assert_eq!(["acc@0.5", "image_accuracy", "mean_iou"].map(|name| figure(&groups, name)), [1.0, 1.0, 0.75]);
    let (plain, _) = figures(vec![sample("c", "read", Some(1), Some(GOLD))], vec![vec![answer("7")]]);
    assert!(!plain.keys().any(|name| name.starts_with("grounding/")));
}
