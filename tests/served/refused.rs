//! What the server refuses: who may not ask, what cannot be asked, and how much.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::done::Done;
use super::process::{Served, command, question};

#[track_caller]
fn refuses((status, answer): (u16, Value), wanted: u16, param: Value, part: &str) {
    let error = &answer["error"];
    assert_eq!((status, &error["param"]), (wanted, &param), "{answer}");
    assert!(error["message"].as_str().unwrap().contains(part), "{answer}");
    assert!(error["type"].is_string() && error.get("code").is_some(), "{answer}");
}

#[test]
fn what_cannot_be_asked_is_named() {
    let server = Served::start(&["--context", "200"], &[]);
    let with = |more: Value| server.ask(&question("a", more));
    refuses(with(json!({"model": "gpt"})), 404, json!("model"), "there is no model \"gpt\", this is \"nano\"");
    for (field, value) in [
        ("n", json!(0)),
        ("n", json!(17)),
        ("temperature", json!(-1)),
        ("top_p", json!(0)),
        ("min_p", json!(2)),
        ("max_tokens", json!(0)),
        ("stop", json!([""])),
        ("stop", json!(7)),
        ("top_logprobs", json!(3)),
        ("response_format", json!({"type": "json_object"})),
        ("tool_choice", json!("required")),
        ("presence_penalty", json!(1)),
        ("logit_bias", json!({"1": 5})),
        ("functions", json!([{"name": "a"}])),
        ("ignore_eos", json!(true)),
    ] {
        refuses(with(json!({field: value})), 400, json!(field), field);
    }
    let said = |message: Value| server.ask(&json!({"model": "nano", "messages": [message]}));
    let part = |part: Value| said(json!({"role": "user", "content": [part]}));
    let image = |url: &str| part(json!({"type": "image_url", "image_url": {"url": url}}));
    let first = || json!("messages[0]");
    refuses(image("http://127.0.0.1:1/a.png"), 400, first(), "nothing is fetched");
    refuses(image("file:///etc/hosts"), 400, first(), "nothing is fetched");
    refuses(image("data:image/png,abc"), 400, first(), "base64");
    refuses(image("data:image/png;base64,?"), 400, first(), "data URL");
    refuses(image("data:image/png;base64,aGVsbG8="), 400, first(), "not an image");
    refuses(part(json!({"type": "input_audio"})), 400, first(), "input_audio");
    refuses(said(json!({"role": "robot", "content": "a"})), 400, first(), "robot");
    refuses(said(json!("a")), 400, first(), "role");
    refuses(server.ask(&json!({"model": "nano", "messages": []})), 400, json!("messages"), "empty");
    let pad = said(json!({"role": "user", "content": "<|image_pad|>"}));
    refuses(pad, 400, json!("messages"), "placeholder");
    let long = with(json!({"messages": [{"role": "user", "content": "digit ".repeat(400)}]}));
    assert_eq!(long.1["error"]["code"], "context_length_exceeded");
    refuses(long, 400, json!("messages"), "maximum context length is 200");
    refuses(server.ask(&json!({"messages": []})), 400, Value::Null, "model");
    // After all that it still answers, whatever else it is told that changes nothing.
    let more = json!({"max_tokens": 2, "user": "me", "parallel_tool_calls": true, "ignore_eos": false, "logit_bias": null, "functions": []});
    server.answer(&question("a", more));
}

#[test]
fn requests_that_are_none() {
    let mut server = Served::start(&["--max-body", "1"], &[]);
    let json = [("Content-Type", "application/json")];
    refuses(server.post(&json, b"{\"model\": "), 400, Value::Null, "EOF");
    refuses(server.post(&[("Content-Type", "text/plain")], b"{}"), 415, Value::Null, "application/json");
    refuses(server.post(&json, &vec![b' '; 2 << 20]), 413, Value::Null, "1 MiB");
    refuses(server.request("GET", "/chat/completions", &[], b""), 405, Value::Null, "/v1/chat/completions");
    refuses(server.request("POST", "/embeddings", &json, b"{}"), 404, Value::Null, "/v1/embeddings");
    let host = [("Host", "evil.example:80")];
    refuses(server.request("GET", "/models", &host, b""), 403, Value::Null, "loopback");
    // Half a request does not keep others from being answered, nor the server from ending.
    let half = |text: &str| {
        let address = server.url.strip_prefix("http://").unwrap().trim_end_matches("/v1");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let _open = [half(head), half(&format!("{head}Content-Length: 99\r\n\r\n{{"))];
    server.answer(&question("a", json!({"max_tokens": 2})));
    server.interrupt();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_body_is_measured_when_its_length_is_not_told() {
    let server = Served::start(&["--max-body", "1"], &[]);
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap().trim_end_matches("/v1")).unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let block = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    // The server may hang up before all of it came.
    for _ in 0..40 {
        if stream.write_all(block.as_bytes()).is_err() {
            break;
        }
    }
    // As above.
    let _ = stream.write_all(b"0\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    server.answer(&question("a", json!({"max_tokens": 2})));
}

#[test]
fn beyond_loopback_there_must_be_a_token() {
    let run = |args: &[&str], token: Option<&str>| {
        let mut command = command(&[&["serve", "--model", "nano", "--port", "0"], args].concat());
        token.map(|token| command.env("TOKEN", token));
        Done::from(command.output().unwrap())
    };
    run(&["--host", "0.0.0.0"], None).fails(2, &["--host 0.0.0.0", "--token-env"]);
    run(&["--host", "0.0.0.0", "--token-env", "TOKEN"], None).fails(2, &["--token-env: TOKEN must be set"]);
    run(&["--token-env", "TOKEN"], Some("a b")).fails(2, &["without blanks"]);
    run(&["--max-streams", "0"], None).fails(2, &["--max-streams"]);
    let server = Served::start(&["--token-env", "TOKEN"], &[("TOKEN", "s3cret")]);
    let get = |headers: &[(&str, &str)]| server.request("GET", "/models", headers, b"");
    for wrong in ["", "Bearer", "Bearer s3cre", "Bearer s3cretx", "Basic s3cret"] {
        let answer = get(&[("Authorization", wrong)]);
        assert_eq!(answer.1["error"]["code"], "invalid_api_key");
        refuses(answer, 401, Value::Null, "token");
    }
    refuses(server.ask(&question("a", json!({}))), 401, Value::Null, "token");
    assert_eq!(get(&[("Authorization", "Bearer s3cret"), ("Host", "any.example")]).0, 200);
}

#[test]
fn more_than_can_wait_come_again() {
    let server = Served::start(&["--max-requests", "1"], &[]);
    let long = question("a", json!({"max_tokens": 300, "n": 16, "stream": true, "stop": ["\u{1}"]}));
    // The answer begins, and is not read to its end.
    let first = ureq::post(&format!("{}/chat/completions", server.url)).send_json(long).unwrap();
    let busy = ureq::post(&format!("{}/chat/completions", server.url)).send_json(question("a", json!({})));
    let Err(ureq::Error::Status(429, refused)) = busy else { panic!("{busy:?}") };
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(first);
    // Who has gone leaves the place to others.
    let asked = question("a", json!({"max_tokens": 2}));
    let answered = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        server.ask(&asked).0 == 200
    });
    assert!(answered);
}
