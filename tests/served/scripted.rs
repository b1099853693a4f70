//! A server that does what a test says, request by request: answers, refusals, and every way to fail.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What comes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A reply with this text.
    Say(&'static str),
    /// This body, whatever it is.
    Body(&'static str),
    /// A status with headers and a body.
    Status(u16, &'static str, &'static str),
    /// A body of another type.
    Page,
    /// The first half of a reply that was announced whole.
    Cut,
    /// The first half of a reply whose length nobody knows.
    CutWithoutLength,
    /// The connection ends before any answer.
    HangUp,
    /// Nothing, for so long.
    Stall(Duration),
    /// So many bytes of an answer that never ends.
    Huge(usize),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) at: Instant,
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// The server, and what it was asked.
pub(crate) struct Scripted {
    pub(crate) url: String,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Scripted {
    /// Plays the acts in order, the last one for ever. Questions about models are not acts: they are not known.
    pub(crate) fn play(acts: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let came: Arc<Mutex<Vec<Came>>> = Arc::default();
        let (acts, seen) = (Arc::new(Mutex::new(VecDeque::from(acts.to_vec()))), Arc::clone(&came));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (acts, seen) = (Arc::clone(&acts), Arc::clone(&seen));
                std::thread::spawn(move || answer(&stream.unwrap(), &acts, &seen));
            }
        });
        Self { url, came }
    }

    /// What was asked of the model.
    pub(crate) fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }
}

fn answer(stream: &TcpStream, acts: &Mutex<VecDeque<Act>>, seen: &Mutex<Vec<Came>>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        let lower = line.to_lowercase();
        length = lower.strip_prefix("content-length: ").map_or(length, |n| n.trim().parse().unwrap());
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    if head.starts_with("GET /v1/models ") {
        return send(stream, 404, "", "{}");
    }
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    seen.lock().unwrap().push(Came { at: Instant::now(), head, body });
    let act = {
        let mut acts = acts.lock().unwrap();
        if acts.len() > 1 { acts.pop_front().unwrap() } else { acts[0].clone() }
    };
    perform(stream, &act);
}

fn reply(text: &str) -> String {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25});
    json!({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}).to_string()
}

fn send(mut stream: &TcpStream, status: u16, headers: &str, body: &str) {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
    // The client may have gone.
    let _ = stream.write_all(text.as_bytes());
}

fn perform(mut stream: &TcpStream, act: &Act) {
    let whole = reply("<answer>7</answer>");
    let half = &whole[..whole.len() / 2];
    let type_only = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    // As above, everywhere below.
    let _ = match act {
        Act::Say(text) => return send(stream, 200, "", &reply(text)),
        Act::Body(body) => return send(stream, 200, "", body),
        Act::Status(status, headers, body) => return send(stream, *status, headers, body),
        Act::Page => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>"),
        Act::Cut => stream.write_all(format!("{type_only}Content-Length: {}\r\n\r\n{half}", whole.len()).as_bytes()),
        Act::CutWithoutLength => stream.write_all(format!("{type_only}Connection: close\r\n\r\n{half}").as_bytes()),
        Act::HangUp => Ok(()),
        Act::Stall(time) => {
            std::thread::sleep(*time);
            Ok(())
        }
        Act::Huge(bytes) => {
            let _ = stream.write_all(format!("{type_only}Connection: close\r\n\r\n").as_bytes());
            let block = vec![b' '; 1 << 20];
            (0..bytes >> 20).try_for_each(|_| stream.write_all(&block))
        }
    };
}
