//! Models of the hub through the real binary, against a real server on loopback.
#![cfg(all(feature = "hub", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use imagent::presets::{Preset, Random};
use server::{COMMIT, Faults, Server, etag};
use tempfile::TempDir;

/// A random model in one file, and the same in several.
fn models() -> &'static (PathBuf, PathBuf) {
    static MODELS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    MODELS.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hub-models");
        let (one, several) = (root.join("one"), root.join("several"));
        let random = Random::new(Preset::Tiny, 1);
        random.write(&one, &|_| ()).unwrap();
        Random { shard_size: 100_000, ..random }.write(&several, &|_| ()).unwrap();
        (one, several)
    })
}

/// A user: a cache of their own, and the hub they ask.
struct User {
    home: TempDir,
    hub: String,
    vars: Vec<(&'static str, &'static str)>,
}

struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl User {
    fn new(hub: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), hub: hub.to_owned(), vars: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.vars.push((name, value));
        self
    }

    fn run(&self, args: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imagent"));
        command.args(args).current_dir(self.home.path()).env_clear();
        command.env("RAYON_NUM_THREADS", "1").env("HF_HOME", self.home.path()).env("HF_ENDPOINT", &self.hub);
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", "5").envs(self.vars.iter().copied());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// One episode: the weights are needed.
    fn rollout(&self, model: &str) -> Done {
        let data = self.home.path().join("data");
        if !data.exists() {
            self.run(&["data", "synth", "--out", "data", "--samples", "2"]).ok();
        }
        let few = ["--set", "limits.max_new_tokens=3", "--set", "limits.max_turns=1"];
        self.run(&[&["rollout", "--model", model, "--data", "data", "--index", "0"], &few[..]].concat())
    }

    fn repo(&self) -> PathBuf {
        self.home.path().join("hub/models--acme--tiny")
    }

    fn snapshot(&self, file: &str) -> PathBuf {
        self.repo().join("snapshots").join(COMMIT).join(file)
    }
}

impl Done {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }

    /// It failed with this code, on one line that says all of `parts`.
    #[track_caller]
    fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        let lines: Vec<&str> = self.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{}", self.err);
        parts.iter().for_each(|part| assert!(lines[0].contains(part), "{part:?} is not in {:?}", lines[0]));
    }
}

/// The files that the model in several has its weights in.
fn shards() -> Vec<String> {
    let names = fs::read_dir(&models().1).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".safetensors")).collect();
    names.sort();
    assert!(names.len() > 2, "{names:?}");
    names
}

/// The bytes of the model in one file.
fn weights() -> Vec<u8> {
    fs::read(models().0.join("model.safetensors")).unwrap()
}

#[test]
fn fetched_once_in_the_standard_layout() {
    let hub = Server::start(&models().0, Faults::default());
    let user = User::new(&hub.address());
    let info = user.run(&["model", "info", "acme/tiny"]).ok();
    assert!(info.out.contains("weights not fetched") && info.out.contains("model.safetensors"), "{}", info.out);
    assert!(hub.asked().iter().all(|asked| !asked.path.ends_with(".safetensors")), "info needs no weights");
    let first = user.rollout("acme/tiny").ok();
    assert!(first.err.contains("acme/tiny: fetching 1 file"), "{}", first.err);
    assert_eq!(fs::read_to_string(user.repo().join("refs/main")).unwrap(), COMMIT);
    for file in ["config.json", "tokenizer.json", "model.safetensors", "preprocessor_config.json"] {
        let content = fs::read(models().0.join(file)).unwrap();
        assert_eq!(fs::read(user.snapshot(file)).unwrap(), content, "{file}");
        let link = fs::read_link(user.snapshot(file)).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(etag(file, &content)), "{file}");
    }
    hub.asked();
    let second = user.rollout("acme/tiny").ok();
    assert_eq!(second.out, first.out);
    let asked: Vec<String> = hub.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(asked, ["/api/models/acme/tiny/revision/main"], "what is there is not fetched again");
    user.rollout(&format!("acme/tiny@{COMMIT}")).ok();
    assert!(hub.asked().is_empty(), "a commit in the cache needs no hub");
    // The same model from a folder plays the same episode; only its name differs.
    assert_eq!(user.rollout(models().0.to_str().unwrap()).ok().out, first.out);
}

#[test]
fn a_cache_is_enough_offline_and_without_a_hub() {
    let hub = Server::start(&models().0, Faults::default());
    let user = User::new(&hub.address());
    user.rollout("acme/tiny").ok();
    hub.asked();
    let offline = User { vars: vec![("HF_HUB_OFFLINE", "1")], ..user };
    offline.rollout("acme/tiny").ok();
    offline.run(&["model", "info", "acme/tiny"]).ok();
    assert!(hub.asked().is_empty());
    offline.rollout("acme/other").fails(2, &["acme/other", "HF_HUB_OFFLINE is set", "lacks it"]);
    fs::remove_file(offline.snapshot("tokenizer.json")).unwrap();
    offline.rollout("acme/tiny").fails(2, &["acme/tiny", "lacks tokenizer.json"]);
    let online = User { vars: Vec::new(), ..offline };
    online.rollout("acme/tiny").ok();
    drop(hub);
    let done = online.rollout("acme/tiny").ok();
    assert!(done.err.contains("taking acme/tiny from the cache"), "{}", done.err);
    online.rollout("acme/other").fails(1, &["/api/models/acme/other"]);
}

#[test]
fn what_other_tools_fetched_is_found() {
    let user = User::new("http://127.0.0.1:9").with("HF_HUB_OFFLINE", "1");
    fs::create_dir_all(user.repo().join("refs")).unwrap();
    fs::create_dir_all(user.repo().join("blobs")).unwrap();
    fs::create_dir_all(user.snapshot("")).unwrap();
    fs::write(user.repo().join("refs/main"), COMMIT).unwrap();
    for entry in fs::read_dir(&models().1).unwrap() {
        let path = entry.unwrap().path();
        let (file, content) = (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
        let blob = etag(&file, &content);
        fs::write(user.repo().join("blobs").join(&blob), &content).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(blob), user.snapshot(&file)).unwrap();
    }
    let info = user.run(&["model", "info", "acme/tiny", "--json"]).ok();
    let info: serde_json::Value = serde_json::from_str(&info.out).unwrap();
    assert!(info["files"].as_array().unwrap().len() == shards().len() && info["files"][0]["here"] == true, "{info}");
    user.rollout("acme/tiny").ok();
    fs::remove_file(user.snapshot(&shards()[1])).unwrap();
    user.rollout("acme/tiny").fails(2, &["lacks", &shards()[1]]);
}

#[test]
fn redirects_are_followed_and_the_token_stays_with_the_hub() {
    let store = Server::start(&models().1, Faults::default());
    let hub = Server::start(
        &models().1,
        Faults { elsewhere: Some(store.address()), token: Some("hf_secret"), ..Faults::default() },
    );
    let user = User::new(&hub.address());
    user.rollout("acme/tiny").fails(2, &["acme/tiny", "401", "HF_TOKEN"]);
    fs::write(user.home.path().join("token"), "hf_secret\n").unwrap();
    user.rollout("acme/tiny").ok();
    User::new(&hub.address()).with("HF_TOKEN", "hf_secret").rollout("acme/tiny").ok();
    for file in shards() {
        assert_eq!(fs::read(user.snapshot(&file)).unwrap(), fs::read(models().1.join(&file)).unwrap());
    }
    let stored = store.asked();
    assert!(!stored.is_empty() && stored.iter().all(|asked| asked.token.is_none()), "{stored:?}");
}

#[test]
fn evaluates_a_model_of_the_hub() {
    let hub = Server::start(&models().1, Faults::default());
    let user = User::new(&hub.address());
    user.run(&["data", "synth", "--out", "data", "--samples", "2"]).ok();
    let few = ["--set", "limits.max_new_tokens=3", "--limit", "1", "--json"];
    let done = user.run(&[&["eval", "--model", "acme/tiny", "--data", "data"], &few[..]].concat()).ok();
    assert!(done.out.contains("\"model\": \"acme/tiny\""), "{}", done.out);
}

#[test]
fn a_broken_connection_is_gone_on_with() {
    let hub = Server::start(&models().0, Faults { cut: Some((30_000, 2)), ..Faults::default() });
    let user = User::new(&hub.address());
    user.rollout("acme/tiny").ok();
    assert_eq!(fs::read(user.snapshot("model.safetensors")).unwrap(), weights());
    let asked = hub.asked().into_iter().filter(|asked| asked.path.ends_with(".safetensors"));
    let ranges: Vec<String> = asked.filter_map(|asked| asked.range).collect();
    assert_eq!(ranges, ["bytes=0-0", "bytes=0-", "bytes=30000-", "bytes=60000-"]);
}

#[test]
fn an_earlier_run_is_gone_on_with() {
    let hub = Server::start(&models().0, Faults::default());
    let user = User::new(&hub.address());
    let (content, blobs) = (weights(), user.repo().join("blobs"));
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", etag("model.safetensors", &content)));
    fs::write(&part, &content[..12_345]).unwrap();
    user.rollout("acme/tiny").ok();
    assert!(hub.asked().iter().any(|asked| asked.range.as_deref() == Some("bytes=12345-")));
    assert_eq!(fs::read(user.snapshot("model.safetensors")).unwrap(), content);
    assert!(!part.exists());
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let hub = Server::start(&models().0, Faults { whole: true, cut: Some((30_000, 3)), ..Faults::default() });
    let user = User::new(&hub.address());
    user.rollout("acme/tiny").ok();
    assert_eq!(fs::read(user.snapshot("model.safetensors")).unwrap(), weights());
}

#[test]
fn damage_is_told_and_not_kept() {
    let hub = Server::start(&models().0, Faults { wrong: true, ..Faults::default() });
    let user = User::new(&hub.address());
    let hash = etag("model.safetensors", &weights());
    user.rollout("acme/tiny").fails(1, &["model.safetensors", "expected sha256", &hash]);
    assert!(!user.snapshot("model.safetensors").exists());
    let blobs = fs::read_dir(user.repo().join("blobs")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!blobs.into_iter().any(|name| name.to_str().unwrap().starts_with(&hash)));
    let again = Server::start(&models().0, Faults::default());
    User { hub: again.address(), ..user }.rollout("acme/tiny").ok();
}

#[test]
fn a_hub_that_fails_ends_the_run() {
    let cut = Server::start(&models().0, Faults { cut: Some((1, usize::MAX)), whole: true, ..Faults::default() });
    User::new(&cut.address()).rollout("acme/tiny").fails(1, &["model.safetensors"]);
    let silent = Server::start(&models().0, Faults { stall: true, ..Faults::default() });
    let user = User::new(&silent.address()).with("HF_HUB_DOWNLOAD_TIMEOUT", "1");
    user.rollout("acme/tiny").fails(1, &["model.safetensors"]);
    let ill = Server::start(&models().0, Faults { refuse: Some((500, "")), ..Faults::default() });
    User::new(&ill.address()).rollout("acme/tiny").fails(1, &["status 500"]);
}

#[test]
fn refusals_say_what_to_do() {
    let refused = |refuse, model: &str, parts: &[&str]| {
        let hub = Server::start(&models().0, Faults { refuse, ..Faults::default() });
        User::new(&hub.address()).run(&["model", "info", model]).fails(2, parts);
    };
    refused(Some((404, "RepoNotFound")), "acme/tiny", &["acme/tiny: no such folder", "no such model"]);
    refused(Some((401, "RepoNotFound")), "acme/tiny", &["acme/tiny: no such folder", "HF_TOKEN"]);
    refused(Some((403, "GatedRepo")), "acme/tiny", &["acme/tiny", "403", "accept the model's terms"]);
    refused(None, "acme/tiny@v9", &["acme/tiny@v9", "not this revision"]);
    refused(None, "acme/other", &["acme/other: no such folder"]);
    refused(None, "no/such/folder", &["no/such/folder: no such model folder"]);
    let user = User::new("ftp://hub").with("HF_HUB_OFFLINE", "0");
    user.run(&["model", "info", "acme/tiny"]).fails(2, &["HF_ENDPOINT", "ftp://hub"]);
}

#[test]
fn repositories_that_are_no_model() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |parts: &[&str]| {
        let hub = Server::start(dir.path(), Faults::default());
        User::new(&hub.address()).rollout("acme/tiny").fails(2, parts);
    };
    serve(&["acme/tiny", "no config.json"]);
    fs::copy(models().0.join("config.json"), dir.path().join("config.json")).unwrap();
    serve(&["acme/tiny", "model.safetensors"]);
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"a": "../../outside"}}"#).unwrap();
    serve(&["acme/tiny", "../../outside"]);
    fs::write(&index, "[]").unwrap();
    serve(&["acme/tiny", "no index"]);
}
