//! `imagent serve`: a model behind `/v1/chat/completions`.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
#[cfg(feature = "served")]
use imagent::config::ModelConfig;

use super::InputError;
use super::settings::WeightType;

/// Arguments of `imagent serve`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A checkpoint folder, an adapter, a hub id, or `nano`
    #[arg(long, value_name = "DIR|ID")]
    model: PathBuf,
    /// What requests call the model [default: the last part of its path]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The address to listen at; one beyond this machine needs --token-env
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,
    /// The environment variable with the token that requests must carry
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// Most tokens of a conversation, replies included; not more than the model reads
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    context: usize,
    /// Most tokens of a reply whose request does not say
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    /// Most replies that are sampled at once; others wait
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_streams: usize,
    /// Most requests that wait or are served; others are told to come again
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_requests: usize,
    /// Most megabytes (2^20 bytes) of a request
    #[arg(long, value_name = "MB", default_value_t = 64)]
    max_body: usize,
    #[command(flatten)]
    weights: WeightType,
}

/// Runs it.
#[cfg(not(feature = "served"))]
pub(crate) fn run(_: Args) -> Result<()> {
    Err(InputError("this build cannot serve models; build with `--features served`".to_owned()).into())
}

/// Runs it.
#[cfg(feature = "served")]
pub(crate) fn run(args: Args) -> Result<()> {
    let path = args.model.to_str().ok_or_else(|| InputError("--model: the path is not UTF-8".to_owned()))?;
    for (flag, value) in [
        ("--context", args.context),
        ("--max-tokens", args.max_tokens),
        ("--max-streams", args.max_streams),
        ("--max-requests", args.max_requests),
        ("--max-body", args.max_body),
    ] {
        if value == 0 {
            return Err(InputError(format!("{flag} must be at least 1")).into());
        }
    }
    let last = path.trim_end_matches('/').rsplit('/').next().filter(|last| !last.is_empty() && *last != ".");
    let options = imagent::served::server::ServeOptions {
        model: ModelConfig { path: path.to_owned(), ..ModelConfig::default() },
        dtype: args.weights.dtype(),
        name: args.name.clone().unwrap_or_else(|| last.unwrap_or("model").to_owned()),
        host: args.host,
        port: args.port,
        token: token(args.token_env.as_deref())?,
        max_bytes: args.max_body.saturating_mul(1 << 20),
        max_requests: args.max_requests,
        max_streams: args.max_streams,
        context: args.context,
        max_tokens: args.max_tokens,
    };
    let stop = super::interrupt::watch_saying("interrupted: serving who is there; once more to stop at once");
    let name = options.name.clone();
    let mut ready = |address| {
        // A closed output is no reason not to serve.
        let _ = super::print(&format!("serving {name} at http://{address}/v1\n"));
        Ok(())
    };
    Ok(imagent::served::server::serve(options, &stop, &mut ready)?)
}

/// The token in the environment.
#[cfg(feature = "served")]
fn token(variable: Option<&str>) -> Result<Option<String>> {
    let Some(variable) = variable else { return Ok(None) };
    let token = std::env::var(variable).unwrap_or_default().trim().to_owned();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        let problem = format!("--token-env: {variable} must be set, to letters, digits and signs without blanks");
        return Err(InputError(problem).into());
    }
    Ok(Some(token))
}
