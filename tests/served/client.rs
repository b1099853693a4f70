//! The client against a server that fails in every way: what is tried again, what is not, and what is said in the end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::done::Done;
use super::process::{command, place};
use super::scripted::{Act, Scripted};

/// Pauses above three seconds are not waited for.
const QUICK: [&str; 2] = ["--set", "endpoint.max_wait=3"];

fn asking(dir: &Path, url: &str, more: &[&str]) -> Command {
    let args = ["rollout", "config.toml", "--index", "0", "--endpoint", url, "--served-model", "m"];
    let mut command = command(&[&args[..], &QUICK, more].concat());
    command.current_dir(dir);
    command
}

fn ask(server: &Scripted, more: &[&str]) -> Done {
    let place = place();
    Done::from(asking(place.path(), &server.url, more).output().unwrap())
}

#[test]
fn what_passes_is_tried_again() {
    let busy = Act::Status(503, "", r#"{"error": {"message": "loading"}}"#);
    for fault in
        [busy, Act::Status(500, "", ""), Act::Status(408, "", ""), Act::HangUp, Act::Cut, Act::CutWithoutLength]
    {
        let server = Scripted::play(&[fault.clone(), Act::Say("<answer>7</answer>")]);
        let done = ask(&server, &[]);
        assert_eq!(done.code, Some(0), "{fault:?}: {}", done.err);
        assert!(done.out.contains("answer    7") && done.err.contains("; again in "), "{fault:?}: {}", done.err);
        let came = server.came();
        assert_eq!((came.len(), &came[0].body), (2, &came[1].body), "{fault:?}");
    }
}

#[test]
fn retry_after_is_honoured() {
    let server = Scripted::play(&[Act::Status(429, "Retry-After: 1\r\n", ""), Act::Say("<answer>7</answer>")]);
    ask(&server, &[]).ok();
    let came = server.came();
    assert!(came[1].at - came[0].at >= Duration::from_secs(1));
    let long = Scripted::play(&[Act::Status(429, "Retry-After: 900\r\n", r#"{"error": {"message": "slow down"}}"#)]);
    ask(&long, &[]).fails(1, &["status 429: slow down", "asks to wait 900 s, more than endpoint.max_wait = 3"]);
    assert_eq!(long.came().len(), 1);
}

#[test]
fn attempts_come_to_an_end() {
    let server = Scripted::play(&[Act::Status(502, "", "bad gateway")]);
    ask(&server, &["--set", "endpoint.retries=1"])
        .fails(1, &["/v1/chat/completions: status 502: bad gateway (2 attempts)"]);
    assert_eq!(server.came().len(), 2);
    let nobody = place();
    let args = ["--set", "endpoint.retries=0"];
    let done = Done::from(asking(nobody.path(), "http://127.0.0.1:9", &args).output().unwrap());
    done.fails(1, &["http://127.0.0.1:9/v1/models: "]);
}

#[test]
fn what_lasts_is_not_tried_again() {
    let quota = r#"{"error": {"message": "no money", "code": "insufficient_quota"}}"#;
    let no_choice = r#"{"choices": [], "model": "m"}"#;
    for (fault, said) in [
        (Act::Body("{\"choices\": [}"), "not valid JSON"),
        (Act::Body("[1, 2]"), "no chat completion"),
        (Act::Body(no_choice), "asked for 1 replies, the server gave 0"),
        (Act::Page, "expected an answer in application/json, got \"text/html\""),
        (Act::Huge(80 << 20), "more than 64 MiB"),
        (Act::Status(400, "", r#"{"error": {"message": "bad \u001b[31m field"}}"#), "status 400: bad  [31m field"),
        (Act::Status(401, "", "{}"), "no key is set in the environment"),
        (Act::Status(404, "", r#"{"detail": "no model m"}"#), "status 404: no model m"),
        (Act::Status(429, "", quota), "status 429: no money"),
        (Act::Status(307, "Location: http://127.0.0.1:1/\r\n", ""), "redirects are not followed"),
    ] {
        let server = Scripted::play(std::slice::from_ref(&fault));
        ask(&server, &[]).fails(1, &[said]);
        assert_eq!(server.came().len(), 1, "{fault:?}");
    }
}

#[test]
fn a_slow_server_is_left_in_time() {
    let server = Scripted::play(&[Act::Stall(Duration::from_secs(30))]);
    let start = Instant::now();
    ask(&server, &["--set", "endpoint.timeout=0.5", "--set", "endpoint.retries=1"]).fails(1, &["(2 attempts)"]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(server.came().len(), 2);
}

#[test]
fn ctrl_c_leaves_what_is_under_way() {
    let server = Scripted::play(&[Act::Stall(Duration::from_secs(60))]);
    let place = place();
    let child = asking(place.path(), &server.url, &[]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    while server.came().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let start = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let done = Done::from(child.wait_with_output().unwrap());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    done.fails(1, &["error: stopped"]);
}

#[test]
fn the_key_is_sent_and_never_shown() {
    let key = "sk-never-shown-7";
    let echo = r#"{"error": {"message": "the key sk-never-shown-7 is wrong"}}"#;
    let place = place();
    for (variable, more) in [("OPENAI_API_KEY", vec![]), ("MY_KEY", vec!["--set", "endpoint.key_env=MY_KEY"])] {
        let server = Scripted::play(&[Act::Status(500, "", echo), Act::Status(403, "", echo)]);
        let output = asking(place.path(), &server.url, &more).env(variable, key).output().unwrap();
        let done = Done::from(output);
        done.fails(1, &["status 403: the key *** is wrong"]);
        assert!(!done.err.contains(key) && !done.out.contains(key), "{}", done.err);
        assert!(server.came()[0].head.contains(&format!("Authorization: Bearer {key}")));
    }
    let server = Scripted::play(&[Act::Body(r#"{"choices": "sk-never-shown-7"}"#)]);
    let done = Done::from(asking(place.path(), &server.url, &[]).env("OPENAI_API_KEY", key).output().unwrap());
    done.fails(1, &["no chat completion", "\"***\""]);
    assert!(!done.err.contains(key), "{}", done.err);
    let server = Scripted::play(&[Act::Say("<answer>7</answer>")]);
    ask(&server, &[]);
    assert!(!server.came()[0].head.to_lowercase().contains("authorization"));
}

#[test]
fn a_conversation_that_is_too_long_ends_by_length() {
    let full = r#"{"error": {"message": "This model's maximum context length is 8 tokens", "code": "context_length_exceeded"}}"#;
    let server = Scripted::play(&[Act::Status(400, "", full)]);
    let done = ask(&server, &[]);
    assert!(done.code == Some(0) && done.out.contains("length_limit"), "{} {}", done.out, done.err);
}

#[test]
fn images_are_sent_as_png_at_their_shown_size() {
    use base64::Engine;
    let server = Scripted::play(&[Act::Say("<answer>7</answer>")]);
    let pixels = ["--set", "endpoint.min_pixels=12544", "--set", "endpoint.max_pixels=12544"];
    let done = ask(&server, &pixels);
    assert!(done.out.contains("shown as 112x112"), "{}", done.out);
    let body = server.came()[0].body.clone();
    let url = body["messages"][1]["content"][0]["image_url"]["url"].as_str().unwrap().to_owned();
    let bytes = base64::engine::general_purpose::STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap());
    let image = imagent::core::picture::decode(&bytes.unwrap()).unwrap();
    assert_eq!((image.width(), image.height()), (112, 112));
    assert_eq!((body["temperature"].as_f64(), body["max_tokens"].as_u64()), (Some(0.0), Some(64)));
    assert!(body.get("tools").is_none() && body["messages"][0]["content"].as_str().unwrap().contains("zoom_in"));
}

#[test]
fn settings_that_cannot_be_are_named() {
    let place = place();
    let run = |args: &[&str]| {
        let base = ["eval", "config.toml"];
        Done::from(command(&[&base[..], args].concat()).current_dir(place.path()).output().unwrap())
    };
    run(&["--endpoint", "ftp://x", "--served-model", "m"]).fails(2, &["endpoint.url", "http://HOST"]);
    run(&["--endpoint", "http://me:secret@x", "--served-model", "m"]).fails(2, &["endpoint.url", "environment"]);
    run(&["--endpoint", "http://x"]).fails(2, &["endpoint.model"]);
    run(&["--endpoint", "http://x", "--served-model", "m", "--set", "endpoint.at_once=0"])
        .fails(2, &["endpoint.at_once"]);
    run(&["--endpoint", "http://x", "--served-model", "m", "--set", "endpoint.key_env=\"sk-a b\""])
        .fails(2, &["endpoint.key_env"]);
    let both = run(&["--endpoint", "http://x", "--served-model", "m", "--model", "nano"]);
    assert_eq!(both.code, Some(2), "{}", both.err);
}
