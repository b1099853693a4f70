//! What people say of the questions: over HTTP, in a browser, and in the dataset.
//!
//! Where no browser is installed the test of the page says so and does nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::browser::{Page, installed};
use super::process::command;
use super::{RULES, lines, pipeline, run, with_config};

/// The page of a pipeline.
struct Review {
    child: Child,
    url: String,
}

impl Review {
    fn start(dir: &Path) -> Self {
        let args = ["data", "review", "out", "--port", "0"];
        let mut child = command(&args).current_dir(dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().trim_end_matches('/').to_owned();
        Self { child, url }
    }

    fn items(&self) -> Vec<Value> {
        ureq::get(&format!("{}/items", self.url)).call().unwrap().into_json().unwrap()
    }

    fn say(&self, review: Value) -> u16 {
        match ureq::post(&format!("{}/review", self.url)).send_json(review) {
            Ok(answer) | Err(ureq::Error::Status(_, answer)) => answer.status(),
            Err(error) => panic!("{error}"),
        }
    }

    fn end(mut self) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Review {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn made() -> tempfile::TempDir {
    let dir = with_config(RULES);
    run(dir.path(), &["data", "review", "out"]).fails(2, &["config.toml", "no pipeline is here"]);
    pipeline(dir.path(), &[]).ok();
    dir
}

fn dataset(dir: &Path) -> Vec<Value> {
    lines(&dir.join("out/dataset/samples.jsonl"))
}

#[test]
fn what_people_say_counts() {
    let dir = made();
    let before = dataset(dir.path());
    let review = Review::start(dir.path());
    let items = review.items();
    let id = |i: usize| before[i]["id"].as_str().unwrap();
    assert!(items.len() >= before.len() && items.iter().all(|item| item["review"].is_null()));
    let said = |id: &str, decision: &str, question: &str| json!({"id": id, "decision": decision, "question": question, "answer": "9"});
    assert_eq!(review.say(said(id(0), "reject", "x")), 200);
    assert_eq!(review.say(said(id(1), "edit", "Which digit ?")), 200);
    assert_eq!(review.say(said(id(2), "reject", "x")), 200);
    assert_eq!(review.say(said(id(2), "accept", "x")), 200, "the last word counts");
    for (wrong, code) in [
        (said("nobody", "accept", "x"), 400),
        (said(id(3), "edit", " "), 400),
        (said(id(3), "praise", "x"), 400),
        (json!({"id": id(3)}), 400),
        (said(id(3), "edit", &"x".repeat(70_000)), 413),
    ] {
        assert_eq!(review.say(wrong.clone()), code, "{}", &wrong.to_string()[..wrong.to_string().len().min(200)]);
    }
    let plain = ureq::post(&format!("{}/review", review.url)).send_string("{}");
    assert!(matches!(plain, Err(ureq::Error::Status(415, _))));
    let image = ureq::get(&format!("{}/images/0/1", review.url)).call().unwrap();
    assert_eq!(
        (image.content_type(), image.header("cross-origin-resource-policy")),
        ("image/png", Some("same-origin"))
    );
    for (place, code) in [("0/0", 404), ("0/9", 404), ("999/1", 404), ("x/1", 400)] {
        let missing = ureq::get(&format!("{}/images/{place}", review.url)).call();
        assert!(matches!(missing, Err(ureq::Error::Status(found, _)) if found == code), "{place}");
    }
    let reviews: usize = review.items().iter().filter(|item| !item["review"].is_null()).count();
    assert_eq!(reviews, 3);
    review.end();
    pipeline(dir.path(), &[]).ok();
    let after = dataset(dir.path());
    assert_eq!(after.len(), before.len() - 1);
    assert_eq!((&after[0]["question"], &after[0]["answer"]), (&json!("Which digit ?"), &json!("9")));
    assert_eq!((&after[0]["meta"]["reviewed"], &after[1]["meta"]["reviewed"]), (&json!("edit"), &json!("accept")));
    assert_eq!((&after[1]["question"], &after[2]["meta"]["reviewed"]), (&before[2]["question"], &json!(false)));
    pipeline(dir.path(), &["--set", "reviewed=true"]).ok();
    assert_eq!(dataset(dir.path()), after[..2]);
}

#[test]
fn other_pages_are_kept_out() {
    let dir = made();
    let review = Review::start(dir.path());
    let own = review.url.clone();
    let id = dataset(dir.path())[0]["id"].clone();
    let body = json!({"id": id, "decision": "reject", "question": "x", "answer": "x"});
    let say = |name: &str, value: &str| {
        let answers = [
            ureq::get(&format!("{own}/items")).set(name, value).call(),
            ureq::post(&format!("{own}/review")).set(name, value).send_json(body.clone()),
        ];
        answers.map(|answer| match answer {
            Ok(answer) | Err(ureq::Error::Status(_, answer)) => answer.status(),
            Err(error) => panic!("{error}"),
        })
    };
    for (name, value) in [
        ("Host", "evil.example"),
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1:1"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        assert_eq!(say(name, value), [403, 403], "{name}: {value}");
    }
    assert!(!dir.path().join("out/reviews.jsonl").exists());
    let link = ureq::get(&own).set("Sec-Fetch-Site", "cross-site").set("Sec-Fetch-Dest", "document").call().unwrap();
    assert_eq!((link.status(), link.content_type()), (200, "text/html"));
    assert_eq!(say("Origin", &own), [200, 200]);
    review.end();
}

#[test]
fn a_decision_that_was_cut_off_does_not_spoil_the_next() {
    let dir = made();
    let before = dataset(dir.path());
    let review = |id: &Value| json!({"id": id, "decision": "reject", "question": "x", "answer": "x"});
    let first = format!("{}\n{{\"id\": \"g0", review(&before[0]["id"]));
    fs::write(dir.path().join("out/reviews.jsonl"), first).unwrap();
    let page = Review::start(dir.path());
    assert_eq!(page.say(review(&before[1]["id"])), 200);
    page.end();
    pipeline(dir.path(), &[]).ok();
    let ids = |samples: &[Value]| samples.iter().map(|sample| sample["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&dataset(dir.path())), ids(&before[2..]));
}

#[test]
fn questions_are_decided_by_keyboard() {
    let Some(browser) = installed() else {
        eprintln!("no browser: the page is not tested (IMAGENT_BROWSER names one)");
        return;
    };
    let dir = made();
    let review = Review::start(dir.path());
    let items = review.items();
    let mut page = Page::visit(&browser, &review.url);
    let question = |i: usize| items[i]["question"].clone();
    wait(&mut page, "document.getElementById('question').textContent", &question(0));
    wait(&mut page, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)", &json!(true));
    let regions = items[0]["gold"].as_array().unwrap().len();
    wait(&mut page, "document.querySelectorAll('.frame i').length", &json!(regions));
    assert_eq!(page.value("document.querySelectorAll('canvas').length"), regions);
    let shown = "getComputedStyle(document.querySelector('canvas')).display";
    page.press("b");
    wait(&mut page, shown, &json!("none"));
    page.press("b");
    wait(&mut page, shown, &json!("block"));
    page.press("a");
    wait(&mut page, "document.getElementById('question').textContent", &question(1));
    page.press("r");
    wait(&mut page, "document.getElementById('question').textContent", &question(2));
    page.press("e");
    wait(&mut page, "document.activeElement.id", &json!("new-question"));
    page.value("document.getElementById('new-question').value = 'What <b>is</b> it ?'");
    page.press("Escape");
    wait(&mut page, "document.getElementById('edit').hidden", &json!(true));
    page.press("e");
    page.value("document.getElementById('new-question').value = 'What <b>is</b> it ?'");
    page.value("document.getElementById('edit').requestSubmit()");
    wait(&mut page, "document.getElementById('question').textContent", &question(3));
    page.press("k");
    wait(&mut page, "document.getElementById('question').textContent", &json!("What <b>is</b> it ?"));
    assert_eq!(page.value("document.getElementById('state').textContent"), "edited");
    page.press("u");
    wait(&mut page, "document.getElementById('question').textContent", &question(3));
    assert_eq!(page.value("document.getElementById('progress').value"), 3);
    for (width, dark) in [(400, false), (1200, false), (1200, true)] {
        page.look(width, dark);
        assert_eq!(page.value("document.documentElement.scrollWidth > innerWidth"), false, "{width}");
        if let Some(folder) = std::env::var_os("IMAGENT_SCREENSHOTS") {
            page.picture(&Path::new(&folder).join(format!("review-{width}-{dark}.png")));
        }
    }
    assert_eq!(page.complaints_but(&review.url), Vec::<String>::new());
    review.end();
    let said = lines(&dir.path().join("out/reviews.jsonl"));
    let decisions: Vec<&str> = said.iter().map(|review| review["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["accept", "reject", "edit"]);
    assert_eq!(said[2]["question"], "What <b>is</b> it ?");
    assert_eq!(said[2]["answer"], items[2]["answer"]);
}

/// Waits until an expression has a value.
fn wait(page: &mut Page, expression: &str, wanted: &Value) {
    let start = Instant::now();
    loop {
        let found = page.value(expression);
        if found == *wanted {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{expression}: {found}, not {wanted}");
        std::thread::sleep(Duration::from_millis(30));
    }
}
