//! `imagent data annotate`: annotation to reasoning trajectories, for supervised training.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use imagent::config::{EndpointConfig, nano_base};
use imagent::hub::{self, Need};
use imagent::sft::open_wording;
use imagent_analysis::table;
#[cfg(feature = "served")]
use imagent_core::Sample;
use imagent_core::{BoxFrame, Size};
use imagent_data::annotate::{Annotated, Annotator, Coco, CocoQuestions, Rewriter, Teller, samples_of};
use imagent_data::{DataError, Select, Summary};
use imagent_models::image_processor::ImageProcessor;
use serde_json::json;

#[cfg(feature = "served")]
use super::interrupt;
use super::{InputError, at_least_one, frame, print, progress, served};

/// Arguments of `imagent data annotate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A dataset of any format whose answers are boxes; with --coco, a JSON file of detection annotation
    path: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The dataset's format [default: whichever fits]
    #[arg(long, value_name = "NAME", conflicts_with = "coco")]
    format: Option<String>,
    /// Only tables whose names, or folders' names, begin so, such as train [default: all, if they are of one split]
    #[arg(long, value_name = "NAME", conflicts_with = "coco")]
    split: Option<String>,
    /// Only the first N rows
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "coco")]
    limit: Option<usize>,
    /// Draw questions over several images of COCO's JSON
    #[arg(long)]
    coco: bool,
    /// The folder of the images [default: that of the file]
    #[arg(long, value_name = "DIR", requires = "coco")]
    images: Option<PathBuf>,
    /// How many questions to draw [default: 1000]
    #[arg(long, value_name = "N", requires = "coco")]
    samples: Option<usize>,
    /// The words: `plain`, `short`, `boxes` or a JSON file of templates
    #[arg(long, value_name = "WORDING", default_value = "plain")]
    wording: String,
    /// Frame of the boxes: `shown`, `original`, `relative1000` or `unit`
    #[arg(long, value_name = "FRAME", default_value = "shown")]
    frame: String,
    /// The model that the boxes are for: tells the size at which it is shown an image
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// A model that an OpenAI-compatible server has at this address writes each trajectory anew; one that loses the answer keeps its
    /// own words
    #[arg(long, value_name = "URL", requires = "served_model")]
    endpoint: Option<String>,
    /// The model's name at the server
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    served_model: Option<String>,
    /// Seed of the words, and of the questions that are drawn
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Put after each question: how to answer
    #[arg(long, value_name = "TEXT", default_value = "")]
    suffix: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let frame = frame(&args.frame)?;
    let wording = open_wording(&args.wording).map_err(|problem| InputError(format!("--wording: {problem}")))?;
    let processor = args.model.as_deref().map(processor).transpose()?;
    if frame == BoxFrame::Shown && processor.is_none() {
        return Err(
            InputError("--frame shown needs --model: the size at which an image is shown is its own".into()).into()
        );
    }
    let shown = |size: Size| match &processor {
        Some(processor) => processor.shown_size(size.width, size.height).ok().map(|(w, h)| Size::new(w, h)),
        // In other frames nothing depends on it.
        None => Some(size),
    };
    let teller = Teller { wording: &wording, frame, shown: &shown, seed: args.seed };
    let (summary, report) = match args.endpoint.clone().zip(args.served_model.clone()) {
        None => write(&args, teller, None)?,
        Some((url, model)) => rewritten(&args, teller, EndpointConfig { url, model, ..EndpointConfig::default() })?,
    };
    told(&args.out, summary, &report, args.json)
}

/// With a served model that writes the trajectories anew.
#[cfg(feature = "served")]
fn rewritten(args: &Args, teller: Teller<'_>, endpoint: EndpointConfig) -> Result<(Summary, Annotated)> {
    endpoint.validate().map_err(|(field, problem)| {
        InputError(format!("--{}: {problem}", if field == "model" { "served-model" } else { "endpoint" }))
    })?;
    let stop = interrupt::watch_saying("interrupted: leaving what is under way");
    let model = served::client(&endpoint, &stop)?;
    let view = model.image_view().map_err(imagent::Error::from)?;
    let ask = |sample: &Sample, text: &str| {
        imagent::served::rewrite::rewrite(&model, &view, sample, text, args.seed).map_err(|error| error.to_string())
    };
    write(args, teller, Some(Rewriter { write: &ask, at_once: endpoint.at_once }))
}

#[cfg(not(feature = "served"))]
fn rewritten(_: &Args, _: Teller<'_>, endpoint: EndpointConfig) -> Result<(Summary, Annotated)> {
    Err(served::refuse(&endpoint))
}

fn processor(model: &str) -> Result<ImageProcessor> {
    // The base that comes with the program is written out for as long as it takes to read it.
    let keep = if model == "nano" { Some(nano_base()?) } else { None };
    let dir = match &keep {
        Some(dir) => dir.path().to_owned(),
        None => hub::locate(model, Need::Description)?.dir,
    };
    ImageProcessor::open(&dir).map_err(imagent::Error::OpenModel).context("--model")
}

fn write(args: &Args, teller: Teller<'_>, rewrite: Option<Rewriter<'_>>) -> Result<(Summary, Annotated)> {
    let annotator = Annotator { teller, suffix: args.suffix.clone(), rewrite };
    Ok(drawn(args, &annotator).map_err(imagent::Error::from)?)
}

fn drawn(args: &Args, annotator: &Annotator<'_>) -> Result<(Summary, Annotated), DataError> {
    let tell = progress::counter("samples");
    let mut done = |read: usize| tell(read);
    if args.coco {
        let coco = Coco::open(&args.path, args.images.as_deref())?;
        let defaults = CocoQuestions::default();
        let samples = args.samples.unwrap_or(defaults.samples);
        let questions = CocoQuestions { samples, seed: args.seed, ..defaults };
        return annotator.write(coco.questions(&questions)?, &args.out, &mut done);
    }
    let select = Select { format: args.format.as_deref(), split: args.split.as_deref(), limit: args.limit };
    annotator.write(samples_of(&args.path, select)?, &args.out, &mut done)
}

fn told(out: &Path, summary: Summary, report: &Annotated, as_json: bool) -> Result<()> {
    if as_json {
        return print(&format!("{:#}\n", json!({"folder": out, "counts": report})));
    }
    let line = |what: &str, value: &str, count: usize| vec![what.to_owned(), value.to_owned(), count.to_string()];
    let mut rows = vec![line("samples", "read", report.read), line("trajectories", "written", summary.samples)];
    rows.extend(report.kept.iter().map(|(kind, count)| line("kind", kind, *count)));
    rows.extend(report.images.iter().map(|(images, count)| line("images", &images.to_string(), *count)));
    if report.rewritten != [0, 0] {
        let [taken, own] = report.rewritten;
        rows.extend([line("in other words", "taken", taken), line("in other words", "not taken", own)]);
    }
    rows.extend(report.rejected.iter().map(|(reason, count)| line("rejected", reason, *count)));
    let how = if summary.written { "written to" } else { "already in" };
    print(&format!(
        "{}\n{} trajectories {how} {}\n",
        table(&["what", "value", "count"], &rows),
        summary.samples,
        out.display()
    ))
}
