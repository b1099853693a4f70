//! The binary as a server and as a client, and plain requests to the server.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use half::f16;
use imagent::config::nano_base;
use imagent::core::chat::ChatImage;
use imagent::core::{Rgb, RgbImage};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A command of the binary that finds no key and no hub.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagent"));
    command.args(args).stdin(Stdio::null()).env_remove("OPENAI_API_KEY").env("HF_HUB_OFFLINE", "1");
    command.env("RAYON_NUM_THREADS", "2").env("NO_PROXY", "127.0.0.1");
    command
}

/// A server that ends with the test.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Served {
    /// Serves the nano base on a port of its own.
    pub(crate) fn start(args: &[&str], vars: &[(&str, &str)]) -> Self {
        Self::of("nano", args, vars)
    }

    /// Serves a model as `nano`.
    pub(crate) fn of(model: &str, args: &[&str], vars: &[(&str, &str)]) -> Self {
        let all = [&["serve", "--model", model, "--name", "nano", "--port", "0"], args].concat();
        let mut child = command(&all).envs(vars.iter().copied()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("serving nano at ").unwrap_or_else(|| panic!("{line:?}"));
        Self { url: url.to_owned(), child }
    }

    /// Asks and returns status and answer.
    pub(crate) fn ask(&self, body: &Value) -> (u16, Value) {
        self.post(&[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// The answer to a question that is answered.
    pub(crate) fn answer(&self, body: &Value) -> Value {
        let (status, answer) = self.ask(body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub(crate) fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        self.request("POST", "/chat/completions", headers, body)
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        let agent = ureq::builder().timeout(Duration::from_secs(60)).build();
        let mut request = agent.request(method, &format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.set(name, value);
        }
        let answer = if body.is_empty() { request.call() } else { request.send_bytes(body) };
        let response = match answer {
            Ok(response) | Err(ureq::Error::Status(_, response)) => response,
            Err(error) => panic!("{error}"),
        };
        let status = response.status();
        let text = response.into_string().unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}")))
    }

    /// The chunks of a streamed answer, and whether it was closed in order.
    pub(crate) fn stream(&self, body: &Value) -> (Vec<Value>, bool) {
        let response = ureq::post(&format!("{}/chat/completions", self.url)).send_json(body.clone()).unwrap();
        assert_eq!(response.content_type(), "text/event-stream");
        let mut text = String::new();
        response.into_reader().read_to_string(&mut text).unwrap();
        let mut data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let closed = data.last() == Some(&"[DONE]");
        data.truncate(data.len() - usize::from(closed));
        (data.into_iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect(), closed)
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A question of one text.
pub(crate) fn question(text: &str, more: Value) -> Value {
    let mut body = json!({"model": "nano", "messages": [{"role": "user", "content": text}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// An image of one colour.
pub(crate) fn image(side: u32) -> Value {
    let image = ChatImage::new(Arc::new(RgbImage::from_pixel(side, side, Rgb([200, 30, 60]))));
    let url = base64::engine::general_purpose::STANDARD.encode(image.png().unwrap());
    json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{url}")}})
}

/// Writes the nano base to a folder, slower to answer: left to its likeliest words it zooms in about every other time.
pub(crate) fn zooming(dir: &Path) -> String {
    const ANSWER: usize = 455;
    let (base, model) = (nano_base().unwrap(), dir.join("model"));
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir(base.path()).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let path = model.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let (head, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let words = metadata.info("model.embed_tokens.weight").unwrap();
    let row = 2 * words.shape[1];
    let start = 8 + head + words.data_offsets.0 + ANSWER * row;
    for value in bytes[start..start + row].chunks_mut(2) {
        let slower = f16::from_f32(0.9 * f16::from_le_bytes([value[0], value[1]]).to_f32());
        value.copy_from_slice(&slower.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    model.to_str().unwrap().to_owned()
}

/// A folder with a small dataset and a config that evaluates on it.
pub(crate) fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = format!(
        "[data.eval]\npath = {data:?}\nsynth = {{ samples = 6, seed = 4 }}\n\n[limits]\nmax_turns = 4\nmax_new_tokens = 64\n"
    );
    std::fs::write(dir.path().join("config.toml"), config).unwrap();
    dir
}
