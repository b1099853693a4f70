//! `imagent data`: make, check, convert and describe datasets.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use imagent::config::Document;
use imagent_analysis::record::{check_target, write_atomic};
use imagent_analysis::table;
use imagent_data::formats::{FOLDER, FORMATS, Finding, Picture, Preview, Select, Survey, import, open, survey};
use imagent_data::{DataError, Summary, SynthConfig, ensure_synth};

use super::{InputError, annotate, at_least_one, chain, print, progress};

/// Files that are listed by name.
const FILES: usize = 10;

/// Arguments of `imagent data`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a dataset of the synthetic multi-image world
    Synth {
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How many samples [default: 1000]
        #[arg(long, value_name = "N")]
        samples: Option<usize>,
        /// Seed of the world [default: 1]
        #[arg(long, value_name = "SEED")]
        seed: Option<u64>,
        /// Changes a setting of the world: `world.images=[2,3]`, `world.questions.read=1`
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Tell what a dataset holds and list every row and image that is wrong (exit code 1)
    Check {
        /// A dataset folder of any format, or a file of one
        path: PathBuf,
        #[command(flatten)]
        part: Part,
        /// Writes a contact sheet of the first samples, their boxes drawn in
        #[arg(long, value_name = "FILE.png")]
        preview: Option<PathBuf>,
        /// Print what is counted as JSON
        #[arg(long)]
        json: bool,
    },
    /// Convert a dataset of any format to a dataset folder
    Import {
        /// A dataset folder of any format, or a file of one
        path: PathBuf,
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        part: Part,
        /// Leave out bad rows, and tell each on standard error [default: the first ends it]
        #[arg(long)]
        skip_bad: bool,
    },
    /// Make reasoning trajectories of annotation: objects, boxes, images
    Annotate(annotate::Args),
    /// List the formats that are read
    Formats,
    /// Count samples by kind, images and zooms needed
    Stats {
        /// A dataset folder of any format, or a file of one
        path: PathBuf,
        #[command(flatten)]
        part: Part,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a dataset of hard questions about several images, by agents that check each other
    Pipeline {
        /// The pipeline
        config: PathBuf,
        /// The folder to keep everything in [default: the config's]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Changes a setting
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Print counts and costs as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the questions of a pipeline on a page, to accept, edit or reject them
    Review {
        /// The folder of the pipeline
        path: PathBuf,
        /// The port on this machine; 0 takes a free one
        #[arg(long, value_name = "PORT", default_value_t = 8001)]
        port: u16,
    },
}

/// Which rows of which format.
#[derive(clap::Args)]
struct Part {
    /// The format [default: whichever fits]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Only tables whose names, or folders' names, begin so, such as train [default: all, if they are of one split]
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Only the first N rows
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit: Option<usize>,
}

impl Part {
    fn select(&self) -> Select<'_> {
        Select { format: self.format.as_deref(), split: self.split.as_deref(), limit: self.limit }
    }
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Synth { out, samples, seed, sets } => {
            let given = [("samples", samples.map(|n| n.to_string())), ("seed", seed.map(|n| n.to_string()))];
            let given = given.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
            synth(&out, given.chain(sets))
        }
        Command::Check { path, part, preview, json } => check(&path, &part, preview.as_deref(), json),
        Command::Import { path, out, part, skip_bad } => bring(&path, &out, &part, skip_bad),
        Command::Annotate(args) => annotate::run(args),
        Command::Formats => {
            let rows: Vec<_> = std::iter::once((FOLDER, "our own folder: samples.jsonl and image files"))
                .chain(FORMATS.iter().map(|format| (format.name, format.about)))
                .map(|(name, about)| vec![name.to_owned(), about.to_owned()])
                .collect();
            print(&table(&["format", "what"], &rows))
        }
        Command::Stats { path, part, json } => stats(&path, &part, json),
        Command::Pipeline { config, out, sets, json } => super::pipeline::run(&config, out, sets, json),
        Command::Review { path, port } => super::pipeline::review(path, port),
    }
}

fn synth(out: &Path, sets: impl Iterator<Item = String>) -> Result<()> {
    let mut document = Document::default();
    for set in sets {
        document.set(&set, &toml::Table::new()).map_err(imagent::Error::from)?;
    }
    let config: SynthConfig = document.decode().map_err(imagent::Error::from)?;
    let made = ensure_synth(&config, out).map_err(imagent::Error::from)?;
    let how = if made.written { "written to" } else { "already in" };
    print(&format!("{} samples with {} images {how} {}\n", made.samples, made.images, out.display()))
}

/// Problems go to standard error as they are met, the counts to standard output.
fn check(path: &Path, part: &Part, preview: Option<&Path>, json: bool) -> Result<()> {
    if let Some(file) = preview {
        if !file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
            return Err(InputError(format!("--preview {}: a PNG is written, name it so", file.display())).into());
        }
        check_target(file)?;
    }
    let mut sheet = Preview::default();
    let counted = survey(path, part.select(), &mut |finding| match finding {
        Finding::Problem(error) => say(&format!("{}\n", chain(error))),
        Finding::Warning(error) => say(&format!("warning: {}\n", chain(error))),
        Finding::Row(entry, images) if preview.is_some() => sheet.add(entry, images),
        Finding::Row(..) => {}
    });
    let counted = counted.map_err(imagent::Error::from)?;
    if let Some(file) = preview {
        write_atomic(file, &sheet.png().map_err(anyhow::Error::msg)?)?;
    }
    let Survey { rows, images, problems, .. } = counted;
    print(&if json {
        format!("{:#}\n", serde_json::to_value(&counted)?)
    } else {
        let described = table(&["what", "value", "count"], &described(&counted));
        format!("{described}{rows} rows, {images} images, {problems} problems\n")
    })?;
    if problems == 0 { Ok(()) } else { Err(anyhow::anyhow!("{}: {problems} problems", path.display())) }
}

/// A line for people; nothing is lost to the program if nobody reads it.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn described(counted: &Survey) -> Vec<Vec<String>> {
    let line = |what: &str, value: String, count: String| vec![what.to_owned(), value, count];
    let mut rows = vec![line("format", counted.format.clone(), String::new())];
    rows.extend(counted.files.iter().take(FILES).map(|file| line("file", file.display().to_string(), String::new())));
    if let Some(more) = counted.files.len().checked_sub(FILES).filter(|more| *more > 0) {
        rows.push(line("file", "and more".into(), more.to_string()));
    }
    rows.extend(counted.kinds.iter().map(|(kind, count)| line("kind", kind.clone(), count.to_string())));
    rows.extend(counted.answers.iter().map(|(kind, count)| line("answer", kind.clone(), count.to_string())));
    rows.extend(
        counted.images_a_row.iter().map(|(n, count)| line("images of a row", n.to_string(), count.to_string())),
    );
    if let Some([(w, h), (width, height)]) = counted.sizes {
        rows.push(line("image size", format!("{w}×{h} to {width}×{height}"), counted.images.to_string()));
        rows.push(line("image bytes", String::new(), counted.bytes.to_string()));
    }
    rows.push(line("boxes", String::new(), counted.boxes.to_string()));
    rows
}

fn bring(path: &Path, out: &Path, part: &Part, skip_bad: bool) -> Result<()> {
    let tell = progress::counter("samples");
    let mut left_out = 0;
    let mut bad = |error: DataError| {
        if !skip_bad {
            return Err(error);
        }
        left_out += 1;
        say(&format!("left out: {}\n", chain(&error)));
        Ok(())
    };
    let made = import(path, part.select(), out, &mut bad, &mut |done| tell(done));
    let Summary { samples, images, written } = made.map_err(imagent::Error::from)?;
    let how = if written { "written to" } else { "already in" };
    let without = if skip_bad { format!(", {left_out} bad rows left out") } else { String::new() };
    print(&format!("{samples} samples with {images} images {how} {}{without}\n", out.display()))
}

fn stats(path: &Path, part: &Part, json: bool) -> Result<()> {
    let dataset = open(path, part.select()).map_err(imagent::Error::from)?;
    let samples = dataset.len();
    let mut counts: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    let mut files = HashSet::new();
    for position in 0..samples {
        let entry = dataset.entry(position).map_err(imagent::Error::from)?;
        let zooms = entry.zooms_needed.map_or_else(|| "unknown".to_owned(), |zooms| zooms.to_string());
        for (what, value) in [
            ("kind", entry.kind.clone()),
            ("images", entry.all_pictures().count().to_string()),
            ("zooms needed", zooms),
        ] {
            *counts.entry(what).or_default().entry(value).or_default() += 1;
        }
        // A file may be named in several ways.
        files.extend(entry.all_pictures().cloned().map(|picture| match picture {
            Picture::File { path, .. } => Picture::File { name: String::new(), path },
            cell => cell,
        }));
    }
    if json {
        let all = serde_json::json!({"samples": samples, "images": files.len(), "counts": counts});
        return print(&format!("{all:#}\n"));
    }
    let mut rows = vec![vec!["samples".to_owned(), String::new(), samples.to_string()]];
    rows.push(vec!["image files".to_owned(), String::new(), files.len().to_string()]);
    let line = |what: &str, value: &String, count: &usize| vec![what.to_owned(), value.clone(), count.to_string()];
    rows.extend(counts.iter().flat_map(|(what, of)| of.iter().map(move |(value, count)| line(what, value, count))));
    print(&table(&["what", "value", "count"], &rows))
}
