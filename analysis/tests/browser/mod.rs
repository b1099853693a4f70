//! A headless browser, driven over its DevTools protocol.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Names that browsers of this kind go by; `IMAGENT_BROWSER` comes first.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// The installed browser, if there is one.
pub fn installed() -> Option<PathBuf> {
    let named = std::env::var_os("IMAGENT_BROWSER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).flat_map(|dir| NAMES.map(|name| dir.join(name))).find(|p| p.is_file());
    named.or(found)
}

/// A page in a browser.
pub struct Page {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    next: u64,
    events: VecDeque<Value>,
    _profile: tempfile::TempDir,
}

impl Page {
    /// Starts the browser and opens an HTML file, without a network.
    pub fn open(browser: &Path, file: &Path) -> Self {
        let mut page = Self::start(browser);
        let offline = json!({"offline": true, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0});
        page.call("Network.emulateNetworkConditions", offline);
        page.go(&format!("file://{}", file.display()));
        page
    }

    /// Starts the browser and opens an address.
    pub fn visit(browser: &Path, url: &str) -> Self {
        let mut page = Self::start(browser);
        page.go(url);
        page
    }

    fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
        self.wait("Page.loadEventFired");
    }

    fn start(browser: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new(browser)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = address(&mut child);
        let host = address.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).unwrap();
        let stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(address.as_str(), stream).unwrap();
        let mut page = Self { child, socket, session: None, next: 0, events: VecDeque::new(), _profile: profile };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = page.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        page.session = attached["sessionId"].as_str().map(str::to_owned);
        ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"]
            .iter()
            .for_each(|domain| drop(page.call(domain, json!({}))));
        page
    }

    /// Calls a method of the protocol.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let message = self.read();
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push_back(message);
        }
    }

    fn read(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    fn wait(&mut self, event: &str) {
        if self.events.iter().any(|message| message["method"] == event) {
            return;
        }
        loop {
            let message = self.read();
            let found = message["method"] == event;
            self.events.push_back(message);
            if found {
                return;
            }
        }
    }

    /// The value of an expression.
    pub fn value(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        let text = if key.len() == 1 { json!(key) } else { Value::Null };
        let mut down = json!({"type": "keyDown", "key": key});
        if !text.is_null() {
            down["text"] = text;
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key}));
    }

    /// What the page complained of, and every address that it asked for.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints_but("file:")
    }

    /// The same, with addresses that begin like this for its own.
    pub fn complaints_but(&self, address: &str) -> Vec<String> {
        let told = |message: &Value| {
            let params = &message["params"];
            match message["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(params.to_string()),
                "Runtime.consoleAPICalled" if params["type"] == "error" => Some(params.to_string()),
                "Log.entryAdded" if params["entry"]["level"] == "error" => Some(params.to_string()),
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str()?;
                    let own = url.starts_with(address) || url.starts_with("data:") || url == "about:blank";
                    (!own).then(|| format!("asked for {url}"))
                }
                _ => None,
            }
        };
        self.events.iter().filter_map(told).collect()
    }

    /// Shows the page at a width, in light or dark.
    pub fn look(&mut self, width: u32, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// Takes a picture of the whole page.
    pub fn picture(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the browser listens, as it says itself.
fn address(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the browser ended before it listened");
        if let Some(address) = line.trim().strip_prefix("DevTools listening on ") {
            // It must not block on a pipe that nobody reads.
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
            return address.to_owned();
        }
    }
}
