//! The environment variables that huggingface_hub reads, with its defaults.

use std::path::PathBuf;
use std::time::Duration;

use super::error::HubError;

/// Where the hub is, where its files go, and who asks.
#[derive(Clone)]
pub(super) struct Settings {
    /// The cache: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub(super) cache: PathBuf,
    /// The hub: `HF_ENDPOINT`, without a slash at its end.
    pub(super) endpoint: String,
    /// Who asks: `HF_TOKEN`, else the content of `HF_TOKEN_PATH` or of `HF_HOME/token`.
    pub(super) token: Option<String>,
    /// Whether connections are forbidden: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`.
    pub(super) offline: bool,
    /// Longest silence of the hub: `HF_HUB_DOWNLOAD_TIMEOUT` in seconds, 10 by default.
    pub(super) timeout: Duration,
    /// Whether nothing is told: `HF_HUB_DISABLE_PROGRESS_BARS`.
    pub(super) quiet: bool,
}

impl Settings {
    /// Reads the environment and, where it names no token, the token's file.
    pub(super) fn from_env() -> Result<Self, HubError> {
        Self::from(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
    }

    fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let either = |name, older| get(name).or_else(|| get(older));
        let is_set = |name| {
            let value = get(name).map(|value: String| value.to_ascii_uppercase());
            value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.as_str()))
        };
        let home = match (get("HF_HOME"), get("XDG_CACHE_HOME")) {
            (Some(home), _) => expand(&home),
            (None, Some(cache)) => expand(&cache).join("huggingface"),
            (None, None) => expand("~/.cache/huggingface"),
        };
        let cache = either("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE").map_or_else(|| home.join("hub"), |p| expand(&p));
        let token_file = get("HF_TOKEN_PATH").map_or_else(|| home.join("token"), |path| expand(&path));
        let token = either("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN").or_else(|| std::fs::read_to_string(token_file).ok());
        let token = token.filter(|_| !is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN")).map(|token| token.trim().to_owned());
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let address = url::Url::parse(&endpoint).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        if address.is_none() {
            let problem = format!("must be an http or https address, got {endpoint:?}");
            return Err(HubError::Variable { name: "HF_ENDPOINT", problem });
        }
        if token.as_ref().is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic())) {
            let problem = "the token has characters that a token cannot have".to_owned();
            return Err(HubError::Variable { name: "HF_TOKEN", problem });
        }
        let seconds = get("HF_HUB_DOWNLOAD_TIMEOUT").unwrap_or_else(|| "10".to_owned());
        let timeout = seconds.parse().ok().filter(|seconds: &f64| (0.001..1e6).contains(seconds));
        let bad = || HubError::Variable {
            name: "HF_HUB_DOWNLOAD_TIMEOUT",
            problem: format!("must be a number of seconds above 0, got {seconds:?}"),
        };
        Ok(Self {
            cache,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.filter(|token| !token.is_empty()),
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            timeout: Duration::from_secs_f64(timeout.ok_or_else(bad)?),
            quiet: is_set("HF_HUB_DISABLE_PROGRESS_BARS"),
        })
    }
}

/// A path whose `~` is the user's own folder.
fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    //! What the variables mean, without touching the environment of the process.
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<Settings, HubError> {
        Settings::from(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn variables_and_their_defaults() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().to_str().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let plain = settings(&[("HF_HOME", at)]).unwrap();
        assert_eq!(plain.cache, home.path().join("hub"));
        assert_eq!((plain.endpoint.as_str(), plain.offline), ("https://huggingface.co", false));
        assert_eq!((plain.token.as_deref(), plain.timeout), (Some("hf_file"), Duration::from_secs(10)));
        let set = settings(&[
            ("HF_HOME", at),
            ("HF_HUB_CACHE", "elsewhere"),
            ("HF_ENDPOINT", "http://localhost:1/"),
            ("HF_TOKEN", "hf_variable"),
            ("HF_HUB_OFFLINE", "yes"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "0.5"),
        ]);
        let set = set.unwrap();
        assert_eq!((set.cache.as_path(), set.offline), (std::path::Path::new("elsewhere"), true));
        assert_eq!((set.endpoint.as_str(), set.token.as_deref()), ("http://localhost:1", Some("hf_variable")));
        assert_eq!(set.timeout, Duration::from_millis(500));
        let hidden = settings(&[("HF_HOME", at), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), ("HF_HUB_OFFLINE", "0")]);
        assert_eq!(hidden.map(|s| (s.token, s.offline)).unwrap(), (None, false));
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        let message = |vars| settings(vars).err().unwrap().to_string();
        assert!(message(&[("HF_ENDPOINT", "huggingface.co")]).contains("HF_ENDPOINT"));
        assert!(message(&[("HF_TOKEN", "hf_a\nb")]).contains("HF_TOKEN"));
        assert!(message(&[("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]).contains("HF_HUB_DOWNLOAD_TIMEOUT"));
    }
}
