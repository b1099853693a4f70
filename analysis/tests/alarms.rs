//! Alarms on made-up series: each rule fires once for each trouble, and not without one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use imagent_analysis::MetricsRow;
use imagent_analysis::alarms::{Alarm, AlarmConfig, Alarms, RULES, read_alarms, scan, write_alarms};

type Series<'a> = (&'a str, &'a dyn Fn(usize) -> f64);

fn rows(steps: usize, series: &[Series<'_>]) -> Vec<MetricsRow> {
    let row = |step: usize| MetricsRow {
        step,
        metrics: series.iter().map(|(name, of)| ((*name).to_owned(), of(step))).collect(),
        ..MetricsRow::default()
    };
    (0..=steps).map(row).collect()
}

fn told(steps: usize, series: &[Series<'_>]) -> Vec<(String, usize)> {
    let all = scan(&AlarmConfig::default(), &rows(steps, series));
    all.into_iter().map(|Alarm { step, rule, .. }| (rule, step)).collect()
}

fn one(rule: &str, step: usize) -> Vec<(String, usize)> {
    vec![(rule.to_owned(), step)]
}

#[test]
fn tools_that_are_given_up() {
    // A mean of five steps is below a quarter of 0.8 when four of them are 0.
    assert_eq!(told(40, &[("tool_rate", &|s| if s <= 20 { 0.8 } else { 0.0 })]), one("tool_abandonment", 24));
    assert_eq!(told(40, &[("tool_rate", &|_| 0.05)]), [], "what was never used cannot be given up");
    assert_eq!(told(40, &[("tool_rate", &|s| 0.8 - 0.01 * s as f64)]), []);
    let again = told(60, &[("tool_rate", &|s| if (21..30).contains(&s) || s > 45 { 0.0 } else { 0.8 })]);
    assert_eq!(again.len(), 2, "it came back and went again: {again:?}");
    let near = told(80, &[("tool_rate", &|s| if s <= 20 { 0.8 } else { 0.2 + 0.02 * f64::from(s % 2 == 0) - 0.02 })]);
    assert_eq!(near.len(), 1, "at the threshold it is told once: {near:?}");
}

#[test]
fn calls_in_a_loop() {
    assert_eq!(told(30, &[("repeated_calls", &|s| if s < 10 { 0.1 } else { 0.9 })]), one("call_loops", 11));
    assert_eq!(told(30, &[("end/turn_limit", &|_| 0.5), ("repeated_calls", &|_| 0.0)]), one("call_loops", 5));
    assert_eq!(told(30, &[("end/turn_limit", &|_| 0.2), ("repeated_calls", &|_| 0.25)]), []);
}

#[test]
fn entropy_that_collapses() {
    assert_eq!(told(50, &[("update/entropy", &|s| 0.9f64.powi(s as i32))]), one("entropy_collapse", 27));
    assert_eq!(
        told(50, &[("update/entropy", &|_| 0.003)]),
        one("entropy_collapse", 5),
        "below the floor from the start"
    );
    assert_eq!(told(50, &[("update/entropy", &|s| 1.0 - 0.01 * s as f64)]), []);
    assert_eq!(told(9, &[("update/entropy", &|_| 0.0)]).len(), 1);
}

#[test]
fn groups_that_stay_flat() {
    assert_eq!(told(30, &[("flat_groups", &|s| if s > 5 { 1.0 } else { 0.2 })]), one("flat_groups", 15));
    assert_eq!(told(30, &[("flat_groups", &|s| if s.is_multiple_of(9) { 0.5 } else { 1.0 })]), []);
}

#[test]
fn form_without_content() {
    let rising = |s: usize| (0.02 * s as f64).min(1.0);
    assert_eq!(told(40, &[("format", &rising), ("accuracy", &|_| 0.3)]), one("format_hacking", 20));
    assert_eq!(told(40, &[("format", &rising), ("accuracy", &|s| 0.01 * s as f64)]), [], "both rise");
    assert_eq!(told(40, &[("format", &|_| 1.0), ("accuracy", &|s| 1.0 - 0.01 * s as f64)]), []);
}

#[test]
fn attention_that_leaves_the_images() {
    // Measured before training and every ten steps.
    let drifting = |from: f64, to: f64| {
        let row = |step: usize| MetricsRow {
            step,
            metrics: [("eval/attention/images".to_owned(), if step < 20 { from } else { to })]
                .into_iter()
                .filter(|_| step.is_multiple_of(10))
                .collect(),
            ..MetricsRow::default()
        };
        scan(&AlarmConfig::default(), &(0..=40).map(row).collect::<Vec<_>>())
    };
    let told = drifting(0.5, 0.2);
    assert_eq!((told.len(), told[0].rule.as_str(), told[0].step), (1, "attention_drift", 20), "{told:?}");
    assert!(told[0].text.contains("0.200 is below 0.5 of what it began with, 0.500"), "{}", told[0].text);
    assert_eq!(drifting(0.5, 0.3), []);
    assert_eq!(drifting(0.0, 0.0), [], "a model that never looked cannot look away");
}

#[test]
fn rules_are_switched_off_and_missing_figures_are_silent() {
    let bad: [Series<'_>; 2] = [("tool_rate", &|s| if s <= 20 { 0.8 } else { 0.0 }), ("flat_groups", &|_| 1.0)];
    let config = AlarmConfig { off: vec!["flat_groups".into()], ..AlarmConfig::default() };
    let all = scan(&config, &rows(40, &bad));
    assert_eq!(all.iter().map(|alarm| alarm.rule.as_str()).collect::<Vec<_>>(), ["tool_abandonment"]);
    assert_eq!(told(40, &[("loss", &|_| 1.0)]), []);
    assert_eq!(told(40, &[("tool_rate", &|_| f64::NAN), ("flat_groups", &|_| f64::NAN)]), []);
}

#[test]
fn a_run_that_is_resumed_tells_the_same() {
    let wave = |s: usize| 0.5 + 0.5 * (s as f64 / 9.0).sin();
    let all = rows(
        200,
        &[("tool_rate", &wave), ("end/turn_limit", &wave), ("update/entropy", &wave), ("flat_groups", &wave)],
    );
    let whole = scan(&AlarmConfig::default(), &all);
    assert!(whole.len() > 5, "{whole:?}");
    for cut in [1, 50, 133] {
        let mut alarms = Alarms::new(AlarmConfig::default());
        let mut told: Vec<Alarm> = all[..cut].iter().flat_map(|row| alarms.push(row)).collect();
        let mut resumed = Alarms::new(AlarmConfig::default());
        all[..cut].iter().for_each(|row| drop(resumed.push(row)));
        told.extend(all[cut..].iter().flat_map(|row| resumed.push(row)));
        assert_eq!(told, whole);
    }
}

#[test]
fn alarms_come_back_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alarms.jsonl");
    assert_eq!(read_alarms(&path).unwrap(), []);
    let alarms = scan(&AlarmConfig::default(), &rows(40, &[("flat_groups", &|_| 1.0)]));
    write_alarms(&path, &alarms).unwrap();
    assert_eq!(read_alarms(&path).unwrap(), alarms);
    assert!(alarms[0].text.contains("flat_groups has been at least 0.9 for 10 steps"), "{}", alarms[0].text);
}

#[test]
fn ranges_are_checked() {
    let read = |text: &str| toml::from_str::<AlarmConfig>(text).unwrap().validate().unwrap_err();
    assert_eq!(AlarmConfig::default().validate(), Ok(()));
    assert_eq!(read("call_loops = { share = 0.0 }").0, "call_loops.share");
    assert_eq!(read("flat_groups = { steps = 0 }").0, "flat_groups.steps");
    assert_eq!(read("format_hacking = { rise = 0.0 }").0, "format_hacking.rise");
    let (key, problem) = read("off = [\"entropy\"]");
    assert!(key == "off.0" && RULES.iter().all(|rule| problem.contains(rule)), "{problem}");
    assert!(toml::from_str::<AlarmConfig>("call_loops = { shares = 0.5 }").is_err());
}
