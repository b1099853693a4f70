//! `imagent data annotate`: annotation to reasoning trajectories, for supervised training.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use imagent::config::nano_base;
use imagent::hub::{self, Need};
use imagent::sft::open_wording;
use imagent_analysis::table;
use imagent_core::{BoxFrame, Size};
use imagent_data::annotate::{Annotated, Annotator, Coco, CocoQuestions, Teller, samples_of};
use imagent_data::{DataError, Select, Summary};
use imagent_models::image_processor::ImageProcessor;
use serde_json::json;

use super::{InputError, print, progress};

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
    /// Only tables whose names begin so, such as train [default: all, if they are of one split]
    #[arg(long, value_name = "NAME", conflicts_with = "coco")]
    split: Option<String>,
    /// Only the first N rows
    #[arg(long, value_name = "N", conflicts_with = "coco")]
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
    let frame: BoxFrame = serde_json::from_value(json!(args.frame))
        .map_err(|_| InputError(format!("--frame {}: known are shown, original, relative1000 and unit", args.frame)))?;
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
    let annotator = Annotator { teller, suffix: args.suffix.clone(), rewrite: None };
    let (summary, report) = write(&args, &annotator).map_err(imagent::Error::from)?;
    told(&args.out, summary, &report, args.json)
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

fn write(args: &Args, annotator: &Annotator<'_>) -> Result<(Summary, Annotated), DataError> {
    let tell = progress::counter("samples");
    let mut done = |read: usize| tell(read);
    if args.coco {
        let coco = Coco::open(&args.path, args.images.as_deref())?;
        let defaults = CocoQuestions::default();
        let samples = args.samples.unwrap_or(defaults.samples);
        let questions = CocoQuestions { samples, seed: args.seed, ..defaults };
        return annotator.write(coco.questions(&questions)?, &args.out, &mut done);
    }
    let select = Select { format: args.format.as_deref(), split: args.split.as_deref() };
    annotator.write(samples_of(&args.path, select, args.limit)?, &args.out, &mut done)
}

fn told(out: &Path, summary: Summary, report: &Annotated, as_json: bool) -> Result<()> {
    if as_json {
        return print(&format!("{:#}\n", json!({"folder": out, "counts": report})));
    }
    let line = |what: &str, value: &str, count: usize| vec![what.to_owned(), value.to_owned(), count.to_string()];
    let mut rows = vec![line("samples", "read", report.read), line("trajectories", "written", summary.samples)];
    rows.extend(report.kept.iter().map(|(kind, count)| line("kind", kind, *count)));
    rows.extend(report.images.iter().map(|(images, count)| line("images", &images.to_string(), *count)));
    rows.extend(report.rejected.iter().map(|(reason, count)| line("rejected", reason, *count)));
    let how = if summary.written { "written to" } else { "already in" };
    print(&format!(
        "{}\n{} trajectories {how} {}\n",
        table(&["what", "value", "count"], &rows),
        summary.samples,
        out.display()
    ))
}
