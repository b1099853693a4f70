//! The report in a browser: it loads offline without a complaint, filters, and is stepped through by keyboard.
//!
//! Where no browser is installed this says so and does nothing. `IMAGENT_SCREENSHOTS=FOLDER` keeps pictures of the pages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod browser;
mod common;
#[path = "../src/report/wellformed.rs"]
mod wellformed;

use std::fs;
use std::path::{Path, PathBuf};

use browser::Page;
use common::write_run;
use imagent_analysis::ablation::compare::compare;
use imagent_analysis::ablation::{AblationIndex, ArmIndex, load, run_folder};
use imagent_analysis::alarms::{Alarm, write_alarms};
use imagent_analysis::{write_ablation_report, write_report};

const STEPS: usize = 400;

fn alarm(run: &Path) {
    let text = "tool_rate 0.031 is below 0.25 of its highest mean, 0.742".to_owned();
    write_alarms(&run.join("alarms.jsonl"), &[Alarm { step: 212, rule: "tool_abandonment".into(), text }]).unwrap();
}

/// A run folder that counts as whole.
fn whole_run(run: &Path, trajectories: usize) {
    write_run(run, STEPS, trajectories);
    fs::create_dir_all(run.join(format!("checkpoints/step-{STEPS:06}"))).unwrap();
    fs::copy(run.join("rollouts/eval-after.jsonl"), run.join("rollouts/step-000100.jsonl")).unwrap();
    alarm(run);
    write_report(run).unwrap();
}

/// An ablation of two arms and three seeds, of which one run is missing.
fn ablation(folder: &Path) -> PathBuf {
    let arm = |name: &str, changes: &[&str]| ArmIndex {
        name: name.into(),
        changes: changes.iter().map(|&change| change.to_owned()).collect(),
    };
    let index = AblationIndex {
        name: "tool <gain>".into(),
        arms: vec![arm("gain-1", &[]), arm("gain-0", &["reward.tool_gain=0.0"])],
        seeds: vec![1, 2, 3],
        baseline: "gain-1".into(),
        ..AblationIndex::default()
    };
    for (i, (arm, seed)) in
        [("gain-1", 1), ("gain-1", 2), ("gain-1", 3), ("gain-0", 1), ("gain-0", 2)].iter().enumerate()
    {
        let run = run_folder(folder, arm, *seed);
        write_run(&run, STEPS, 12);
        // Seeds differ, and the second arm is worse.
        let accuracy = 0.9 - 0.04 * i as f64;
        fs::write(
            run.join("eval-after.json"),
            format!("{{\"accuracy\": {accuracy}, \"tool_rate\": {}}}", accuracy / 2.0),
        )
        .unwrap();
        fs::create_dir_all(run.join(format!("checkpoints/step-{STEPS:06}"))).unwrap();
        fs::copy(run.join("rollouts/eval-after.jsonl"), run.join("rollouts/step-000100.jsonl")).unwrap();
        if i == 3 {
            alarm(&run);
        }
        write_report(&run).unwrap();
    }
    index.write(folder).unwrap();
    let ablation = load(folder).unwrap();
    assert_eq!(
        ablation.arms.iter().map(|arm| (arm.runs.len(), arm.missing.len())).collect::<Vec<_>>(),
        [(3, 0), (2, 1)]
    );
    write_ablation_report(folder, &ablation, &compare(&ablation)).unwrap()
}

#[test]
fn the_page_of_an_ablation_holds_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let html = fs::read_to_string(ablation(folder.path())).unwrap();
    wellformed::check(&html).unwrap();
    for part in [
        "tool &lt;gain&gt;</h1>",
        "without seed 3",
        "Difference to gain-1",
        "Tool abandonment",
        "gain-0, seed 1",
        "End of episodes: gain-0",
        "reward.tool_gain=0.0",
        "step 100, training",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let images = html.matches("<image ").count();
    let uses = html.matches("<use ").count();
    assert!(images > 10 && uses > 4 * images, "{images} images are used {uses} times: each stands once");
}

#[test]
fn a_browser_shows_it_and_the_keyboard_steps_through() {
    let Some(browser) = browser::installed() else {
        eprintln!("SKIPPED: no browser is installed (chromium, google-chrome, or IMAGENT_BROWSER)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let pictures = std::env::var_os("IMAGENT_SCREENSHOTS").map(PathBuf::from);
    let run = folder.path().join("nano");
    whole_run(&run, 12);
    for (name, file) in [("run", run.join("report.html")), ("ablation", ablation(&folder.path().join("lab")))] {
        let mut page = Page::open(&browser, &file);
        steps(&mut page);
        filters(&mut page, name == "ablation");
        for (width, dark) in [(1360, false), (1360, true), (420, false), (420, true)] {
            page.look(width, dark);
            let wide = page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert!(wide.as_f64().unwrap() <= 1.0, "{name} at {width} pixels is {wide} too wide");
            let ground = page.value("getComputedStyle(document.body).backgroundColor");
            assert_eq!(ground == "rgb(15, 18, 22)", dark, "{ground}");
            if let Some(folder) = &pictures {
                page.picture(&folder.join(format!("{name}-{width}-{}.png", if dark { "dark" } else { "light" })));
            }
        }
        assert_eq!(page.complaints(), [] as [String; 0], "{name}");
    }
}

const SHOWN: &str = "[...document.querySelectorAll('article')].filter((a) => !a.hidden).map((a) => a.id).join()";
const PLACE: &str = "document.getElementById('position').textContent";

fn steps(page: &mut Page) {
    let first = page.value(SHOWN);
    assert_eq!(first, "trajectory-1", "one trajectory is shown");
    for (key, expected) in [("j", 2), ("ArrowRight", 3), ("k", 2), ("ArrowLeft", 1), ("ArrowLeft", 1)] {
        page.press(key);
        assert_eq!(page.value(SHOWN), format!("trajectory-{expected}"), "after {key}");
    }
    page.press("j");
    assert_eq!(page.value("document.activeElement.id"), "trajectory-2");
    let outline = page.value("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus can be seen");
    page.press("k");
    assert_eq!(page.value("document.activeElement.matches(':focus-visible')"), true);
    // The images are there: the store's and those that refer to it.
    let drawn = "[...document.querySelectorAll('#trajectory-1 use')].every((u) => u.getBBox().width > 0)";
    assert_eq!(page.value(drawn), true);
    // The first trajectory has its tokens: text in their place after `t`, and back.
    let display = |of: &str| format!("getComputedStyle(document.querySelector('#trajectory-1 .{of}')).display");
    assert_eq!((page.value(&display("said")), page.value(&display("tokens"))), ("none".into(), "block".into()));
    page.press("t");
    assert_eq!((page.value(&display("said")), page.value(&display("tokens"))), ("block".into(), "none".into()));
    page.press("t");
    assert_eq!(page.value("document.querySelector('#show-tokens').checked"), true);
}

fn filters(page: &mut Page, of_ablation: bool) {
    let all = page.value("document.querySelectorAll('article').length").as_u64().unwrap();
    let set = |page: &mut Page, id: &str, value: &str| {
        page.value(&format!("(() => {{ const s = document.getElementById('by-{id}'); s.value = '{value}'; s.dispatchEvent(new Event('change')); return s.value; }})()"))
    };
    let data = |page: &mut Page, key: &str| {
        page.value(&format!("document.querySelector('article:not([hidden])').dataset.{key}"))
    };
    let count = |page: &mut Page| {
        let text = page.value(PLACE);
        text.as_str().unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(count(page), all);
    let mut cases = vec![
        ("outcome", "wrong"),
        ("tool", "yes"),
        ("end", "no_answer"),
        ("kind", "read"),
        ("stage", "step 100, training"),
    ];
    if of_ablation {
        cases.extend([("arm", "gain-0"), ("seed", "2")]);
    }
    for (key, value) in cases {
        assert_eq!(set(page, key, value), value, "the filter {key} has {value}");
        let some = count(page);
        assert!(0 < some && some < all, "{key}: {some} of {all}");
        assert_eq!(data(page, key), value);
        page.press("j");
        assert_eq!(data(page, key), value, "stepping stays within the filter");
        set(page, key, "*");
        assert_eq!(count(page), all);
    }
    set(page, "outcome", "right");
    set(page, "end", "no_answer");
    assert_eq!(page.value(PLACE), "none");
    set(page, "outcome", "*");
    set(page, "end", "*");
}
