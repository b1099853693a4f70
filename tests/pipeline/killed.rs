//! Pipelines that are killed in the midst: started again they give what they would have given, and ask nothing twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use super::process::{Served, command};
use super::scripted::{Act, Scripted};
use super::{contents, lines, pipeline, run, summary, with_config};

fn wait(child: &mut Child, until: impl Fn() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(start.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn replies(out: &Path) -> usize {
    fs::read_to_string(out.join("replies.jsonl")).map_or(0, |text| text.lines().count())
}

/// Groups by a model that is asked about three at once.
fn groups(url: &str) -> String {
    format!(
        "out = \"out\"\ngroups = 9\nsize = [2, 2]\n\n[images]\ncount = 9\n\n[endpoints.m]\nurl = \"{url}\"\nmodel = \"m\"\n\
         at_once = 3\nmin_pixels = 12544\nmax_pixels = 12544\n\n[grouper]\nendpoint = \"m\"\n"
    )
}

#[test]
fn replies_that_came_out_of_order_are_not_lost() {
    const GROUP: &str = r#"{"images": [1, 2], "why": "alike"}"#;
    // One of the first is never answered; the others go on, and wait for its line.
    let server = Scripted::play(&[Act::Stall(Duration::from_secs(600)), Act::Say(GROUP)]);
    let dir = with_config(&groups(&server.url));
    let out = dir.path().join("out");
    let mut child = command(&["data", "pipeline", "p.toml"]).current_dir(dir.path()).spawn().unwrap();
    wait(&mut child, || replies(&out) == 8);
    pipeline(dir.path(), &[]).fails(1, &["another process"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lines(&out.join("1-groups.jsonl")).len() < 3);
    let asked: BTreeSet<String> = server.came().iter().map(|came| came.body.to_string()).collect();
    assert_eq!(asked.len(), 9, "no two requests are alike");
    let other = Scripted::play(&[Act::Say(GROUP)]);
    pipeline(dir.path(), &["--set", &format!("endpoints.m.url={}", other.url)]).ok();
    let again = other.came();
    assert_eq!(again.len(), 1);
    assert!(asked.contains(&again[0].body.to_string()), "what was not answered is asked as before");
    // In one go it is the same.
    let server = Scripted::play(&[Act::Say(GROUP)]);
    let whole = with_config(&groups(&server.url));
    pipeline(whole.path(), &[]).ok();
    let whole = whole.path().join("out");
    assert_eq!((contents(&out), summary(&out)), (contents(&whole), summary(&whole)));
}

#[test]
fn the_nano_base_tells_what_is_hard_however_often_it_is_killed() {
    let server = Served::start(&[], &[]);
    let config = format!(
        "out = \"out\"\ngroups = 16\nsize = [2, 2]\n\n[images]\ncount = 12\n\n[endpoints.base]\nurl = \"{}\"\nmodel = \"nano\"\n\
         calls = \"template\"\nat_once = 2\n\n[difficulty]\nendpoint = \"base\"\ntries = 2\ntool_tries = 6\n\
         prompt = {{ number_images = true }}\nlimits = {{ max_turns = 3, max_new_tokens = 64 }}\n",
        server.url
    );
    let whole = with_config(&config);
    pipeline(whole.path(), &[]).ok();
    let whole = whole.path().join("out");
    let found = summary(&whole);
    let step = &found["steps"][4];
    let (kept, requests) = (step["kept"].as_u64().unwrap(), step["cost"]["requests"].as_u64().unwrap());
    assert!(kept > 0 && step["rejected"]["easy"].as_u64() > Some(0), "{step}");
    assert!(step["cost"]["prompt_tokens"].as_u64().unwrap() > 50 * requests, "{step}");
    let dir = with_config(&config);
    let out = dir.path().join("out");
    for part in [requests / 4, requests / 2] {
        let mut child = command(&["data", "pipeline", "p.toml"]).current_dir(dir.path()).spawn().unwrap();
        wait(&mut child, || replies(&out) as u64 >= part);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    pipeline(dir.path(), &[]).ok();
    assert_eq!((contents(&out), summary(&out)), (contents(&whole), found), "the same, with as many requests");
    let replies = lines(&out.join("replies.jsonl"));
    let names: BTreeSet<String> =
        replies.iter().map(|line| format!("{} {} {}", line["role"], line["id"], line["request"])).collect();
    assert_eq!((names.len(), replies.len() as u64), (replies.len(), requests));
    run(dir.path(), &["data", "check", "out/dataset"]).ok();
}
