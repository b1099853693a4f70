//! A hub on loopback: real connections, the hub's addresses and headers, and the faults that a test asks for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

/// The commit that every revision is.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// Weights are elsewhere: at this address.
    pub(crate) elsewhere: Option<String>,
    /// Connections that carry weights end after so many bytes, the first few times.
    pub(crate) cut: Option<(usize, usize)>,
    /// Weights have another byte in the middle.
    pub(crate) wrong: bool,
    /// Ranges are not known.
    pub(crate) whole: bool,
    /// Weights never come.
    pub(crate) stall: bool,
    /// Every answer is this status with this `X-Error-Code`.
    pub(crate) refuse: Option<(u16, &'static str)>,
    /// Who may ask.
    pub(crate) token: Option<&'static str>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: Faults,
    cuts: AtomicUsize,
    asked: Mutex<Vec<Asked>>,
    over: AtomicBool,
}

/// A server that ends with the test.
pub(crate) struct Server {
    state: Arc<State>,
    port: u16,
}

impl Server {
    /// Serves the files of a folder as `acme/tiny`.
    pub(crate) fn start(dir: &Path, faults: Faults) -> Self {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files = files.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect();
        let state = Arc::new(State {
            files,
            faults,
            cuts: AtomicUsize::new(0),
            asked: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(&shared, stream.unwrap()));
            }
        });
        Self { state, port }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.state.asked.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn answer(state: &State, stream: TcpStream) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())))
        .collect();
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let (range, token) = (headers.get("range").cloned(), headers.get("authorization").cloned());
    state.asked.lock().unwrap().push(Asked { path: path.clone(), range: range.clone(), token: token.clone() });
    if let Some((status, code)) = state.faults.refuse {
        return send(&stream, status, &format!("X-Error-Code: {code}\r\n"), b"");
    }
    if state.faults.token.is_some_and(|wanted| token != Some(format!("Bearer {wanted}"))) {
        return send(&stream, 401, "X-Error-Code: GatedRepo\r\n", b"");
    }
    if let Some(revision) = path.strip_prefix("/api/models/acme/tiny/revision/") {
        return describe(state, &stream, revision);
    }
    let file = path.rsplit('/').next().unwrap_or_default();
    let elsewhere = path.starts_with("/cdn/");
    match state.files.get(file).filter(|_| elsewhere || path.contains(&format!("/resolve/{COMMIT}/"))) {
        Some(content) => file_answer(state, &stream, (file, content.as_slice()), range.as_deref(), elsewhere),
        None if path.starts_with("/api/") => send(&stream, 404, "X-Error-Code: RepoNotFound\r\n", b""),
        None => send(&stream, 404, "X-Error-Code: EntryNotFound\r\n", b""),
    }
}

fn describe(state: &State, stream: &TcpStream, revision: &str) {
    if revision != "main" && revision != COMMIT {
        return send(stream, 404, "X-Error-Code: RevisionNotFound\r\n", b"");
    }
    let siblings: Vec<_> =
        state.files.iter().map(|(name, content)| json!({"rfilename": name, "size": content.len()})).collect();
    send(stream, 200, "", json!({"sha": COMMIT, "siblings": siblings}).to_string().as_bytes());
}

fn file_answer(
    state: &State,
    stream: &TcpStream,
    (file, content): (&str, &[u8]),
    range: Option<&str>,
    elsewhere: bool,
) {
    let large = file.ends_with(".safetensors");
    let etag = etag(file, content);
    let linked =
        format!("X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {}\r\n", content.len());
    if let Some(address) = state.faults.elsewhere.as_ref().filter(|_| large && !elsewhere) {
        return send(stream, 302, &format!("{linked}Location: {address}/cdn/{file}\r\n"), b"moved");
    }
    let range = range.filter(|_| !state.faults.whole);
    let (first, last) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')).unwrap_or_default();
    let first: usize = first.parse().unwrap_or(0);
    let end = last.parse().map_or(content.len(), |last: usize| (last + 1).min(content.len()));
    let mut body = content[first..end].to_vec();
    let mut head =
        format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{}\"\r\n", if elsewhere { "of-the-store" } else { &etag });
    let status = if range.is_some() { 206 } else { 200 };
    if range.is_some() {
        let _ = write!(head, "Content-Range: bytes {first}-{}/{}\r\n", end - 1, content.len());
    }
    let whole = body.len();
    if large && whole > 1 {
        if state.faults.stall {
            return std::thread::sleep(Duration::from_secs(20));
        }
        if state.faults.wrong {
            body[whole / 2] ^= 1;
        }
        let (bytes, times) = state.faults.cut.unwrap_or_default();
        if bytes > 0 && state.cuts.fetch_add(1, Ordering::Relaxed) < times {
            body.truncate(bytes);
        }
    }
    send_part(stream, status, &head, &body, whole);
}

/// The sha256 of weights; of other files something as long as a git hash.
pub(crate) fn etag(file: &str, content: &[u8]) -> String {
    let hex = Sha256::digest(content).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    if file.ends_with(".safetensors") { hex } else { hex[..40].to_owned() }
}

fn send(stream: &TcpStream, status: u16, head: &str, body: &[u8]) {
    send_part(stream, status, head, body, body.len());
}

/// Promises `length` bytes and sends those of `body`.
fn send_part(mut stream: &TcpStream, status: u16, head: &str, body: &[u8], length: usize) {
    let text = format!("HTTP/1.1 {status} X\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    // Whoever asked may have heard enough.
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(body));
}
