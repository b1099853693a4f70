//! The report of a made-up run: whole, escaped, and made from whatever is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;
#[path = "../src/report/wellformed.rs"]
mod wellformed;

use std::fs;

use common::{CONFIG, metrics, records, write_run};
use imagent_analysis::{RunData, load_run, report_html, write_report};

#[test]
fn a_whole_run_makes_a_whole_page() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("nano <run>");
    write_run(&run, 60, 12);
    let path = write_report(&run).unwrap();
    assert_eq!(path, run.join("report.html"));
    let html = fs::read_to_string(&path).unwrap();
    wellformed::check(&html).unwrap();
    for part in [
        "nano &lt;run&gt;</h1>",
        "Held-out evaluation",
        "Accuracy by kind",
        "Groups flat",
        "trajectory-12",
        "gold region",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<article").count(), 12);
    assert_eq!(report_html(&load_run(&run).unwrap()), html);
}

#[test]
fn nothing_is_fetched_and_nothing_foreign_is_run() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), 3, 6);
    let mut run = load_run(folder.path()).unwrap();
    let evil = "\"><img src=http://x onerror=alert(1)></script><script>alert(2)</script>\u{0}&";
    run.name = evil.into();
    let record = &mut run.trajectories[1];
    (record.sample, record.question, record.gold, record.kind) = (evil.into(), evil.into(), evil.into(), evil.into());
    record.answer = Some(evil.into());
    record.skipped = Some(evil.into());
    record.turns[0].text = format!("<think>{evil}</think>{evil}<tool_call>{evil}</tool_call>");
    record.turns[0].observation = Some(evil.into());
    record.turns[0].error = Some(evil.into());
    record.parts.insert(evil.into(), 1.0);
    run.metrics[0].metrics.insert(evil.into(), 1.0);
    run.metrics[0].metrics.insert(format!("accuracy/{evil}"), 1.0);
    run.after.as_mut().unwrap().insert(evil.into(), 0.5);
    run.after.as_mut().unwrap().insert(format!("accuracy/{evil}"), 0.5);
    run.config_toml = format!("seed = '{evil}'");
    let html = report_html(&run);
    wellformed::check(&html).unwrap();
    assert_eq!(html.matches("<script").count(), 1);
    assert!(!html.contains("<img src=http") && !html.contains("src=\"http") && !html.contains("href=\"http"));
}

#[test]
fn every_part_but_the_configuration_may_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let error = load_run(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.toml"), "{error}");
    fs::write(folder.path().join("config.toml"), CONFIG).unwrap();
    let run = load_run(folder.path()).unwrap();
    assert_eq!((run.metrics.len(), run.trajectories.len(), run.before.is_none()), (0, 0, true));
    wellformed::check(&report_html(&run)).unwrap();
    let only_curves = RunData { metrics: metrics(1), ..run.clone() };
    wellformed::check(&report_html(&only_curves)).unwrap();
    let only_after = RunData { after: Some([("accuracy".to_owned(), 0.5)].into()), ..run.clone() };
    assert!(report_html(&only_after).contains("after training"));
    wellformed::check(&report_html(&RunData::default())).unwrap();
    let mut without_pixels = records(6);
    without_pixels.iter_mut().flat_map(|record| &mut record.images).for_each(|image| image.source = None);
    let html = report_html(&RunData { trajectories: without_pixels, ..run });
    wellformed::check(&html).unwrap();
    assert!(html.contains("pixels not stored"));
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), 2, 1);
    for (name, text) in [("eval-after.json", "[1]"), ("metrics.jsonl", "{}\n"), ("rollouts/eval-after.jsonl", "{}\n")] {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let error = load_run(folder.path()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn records_that_contradict_themselves_do_no_harm() {
    let mut records = records(3);
    for record in &mut records {
        let last = record.images.len();
        record.turns[0].images = vec![last, 99];
        record.images.iter_mut().for_each(|image| {
            let bbox = [f64::NAN, 0.0, -5.0, 1e300].into();
            (image.width, image.height) = (0, 0);
            image.origin = Some(imagent_core::CropOrigin::new(last, bbox));
        });
    }
    let html = report_html(&RunData { trajectories: records, ..RunData::default() });
    wellformed::check(&html).unwrap();
}

#[test]
fn crops_are_drawn_where_they_were_taken_also_from_crops() {
    // Sample 2 has two images: image 3 is a crop of image 2 at twice its size, image 4 a crop of image 3.
    let records = records(3);
    let twice = &records[2];
    let origin = twice.images[3].origin.unwrap();
    assert_eq!((twice.images.len(), origin.image), (4, 3));
    let outer = twice.images[2].origin.unwrap().bbox;
    let html = report_html(&RunData { trajectories: vec![twice.clone()], ..RunData::default() });
    let at = |x: f64, y: f64, w: f64, h: f64| {
        format!(r#"<rect class="crop" x="{x:.2}" y="{y:.2}" width="{w:.2}" height="{h:.2}"/>"#)
    };
    assert!(html.contains(&at(outer.x1, outer.y1, outer.width(), outer.height())));
    assert!(html.contains(&at(40.0, 40.0, 120.0, 100.0)));
    assert!(html.contains(&at(outer.x1 + 20.0, outer.y1 + 20.0, 60.0, 50.0)));
    assert_eq!(html.matches("class=\"crop\"").count(), 3);
}
