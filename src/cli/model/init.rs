//! `imagent model init`: a random checkpoint of a named size.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use imagent::byte_progress::{ByteProgress, amount};
use imagent::presets::{PRESETS, Preset, Random};
use imagent_models::checkpoint::{names, shards};
use imagent_models::config::Dtype;

use super::Stored;
use crate::cli::{InputError, print};

/// Arguments of `imagent model init`.
///
/// Published sizes start as Hugging Face's do: norms 1, biases 0, all else normal with deviation 0.02. The weights are a function of
/// seed, tensor name and place: the same at any number of threads and in any number of files. Memory stays below 100 MB
/// whatever the size.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// tiny, nano, 3b, 7b, 32b or 72b
    #[arg(long, value_name = "SIZE")]
    preset: Preset,
    /// Seed of the weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder to write; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Element type of the files [default: bf16 for published sizes, else f32]
    #[arg(long, value_enum)]
    dtype: Option<Stored>,
    /// Most bytes of tensors in one file, as 500MB, 5GB or 4GiB
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    shard_size: u64,
    /// Copy tokenizer, chat template and processor settings of a folder. Without it, a published size gets a tokenizer that
    /// knows single bytes and Qwen's added tokens under their published ids
    #[arg(long, value_name = "DIR")]
    tokenizer_from: Option<PathBuf>,
}

/// A number of bytes with a unit.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024f64,
        "mib" => 1024f64.powi(2),
        "gib" => 1024f64.powi(3),
        "tib" => 1024f64.powi(4),
        _ => return Err("units are B, KB, MB, GB, TB, KiB, MiB, GiB and TiB".to_owned()),
    };
    let value = number.parse::<f64>().map_err(|_| "a number and a unit, as 5GB".to_owned())? * factor;
    if (1.0..1e18).contains(&value) { Ok(value as u64) } else { Err("must be at least one byte".to_owned()) }
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    refuse_occupied(&args.out)?;
    let own = !matches!(args.preset, Preset::Published(_));
    if own && args.tokenizer_from.is_some() {
        return Err(InputError("--tokenizer-from: tiny and nano come with a tokenizer of their own".to_owned()).into());
    }
    let random = Random {
        preset: args.preset,
        seed: args.seed,
        dtype: args.dtype.map(Dtype::from),
        shard_size: args.shard_size,
        tokenizer_from: args.tokenizer_from,
    };
    let name = PRESETS.iter().find(|(_, preset)| *preset == random.preset).map_or("", |(name, _)| name);
    let dtype = random.dtype();
    let expected = match random.preset {
        Preset::Published(size) => parameters(&names(&size.config())) * dtype.bytes() as u64,
        _ => 0,
    };
    let progress = ByteProgress::new(&format!("writing {name}"), expected);
    let watch = Instant::now();
    let written = random.write(&args.out, &|bytes| progress.add(bytes));
    progress.finish();
    let tensors = names(&written?);
    let (parameters, seconds) = (parameters(&tensors), watch.elapsed().as_secs_f64());
    let bytes = parameters * dtype.bytes() as u64;
    let files = shards(&tensors, dtype, random.shard_size).len();
    let mut text = format!(
        "{parameters} parameters in {} tensors, {} in {files} file{} ({}) written to {} in {seconds:.1} s, {:.0} MB/s\n",
        tensors.len(),
        amount(bytes),
        if files == 1 { "" } else { "s" },
        dtype.torch_name(),
        args.out.display(),
        bytes as f64 / 1e6 / seconds.max(1e-9),
    );
    if !own && random.tokenizer_from.is_none() {
        text += "its tokenizer knows single bytes only; name a folder with the published one by --tokenizer-from\n";
    }
    print(&text)
}

fn parameters(tensors: &[(String, Vec<usize>)]) -> u64 {
    tensors.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
}

/// What is there is not replaced: it may be anything.
fn refuse_occupied(dir: &Path) -> Result<()> {
    let occupied = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if occupied {
        return Err(InputError(format!("{}: is there already; name another folder with --out", dir.display())).into());
    }
    Ok(())
}
