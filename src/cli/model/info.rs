//! `imagent model info`: what a model is and needs, from its headers and settings alone.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use imagent::byte_progress::amount;
use imagent::config::nano_base;
use imagent::hub::{Located, Need, locate};
use imagent_analysis::table;
use imagent_models::checkpoint::Checkpoint;
use imagent_models::config::Config;
use imagent_models::error::ModelError;
use imagent_models::footprint::{Footprint, adapter_parameters};
use imagent_models::image_processor::ImageProcessor;
use imagent_models::lora::PeftAdapter;
use serde::Serialize;

use super::adapter;
use crate::cli::print;

/// Rank of the adapters that memory is told for.
const RANK: u64 = 16;
/// Tokens that memory is told for.
const TOKENS: u64 = 1000;
/// Sizes that image tokens are told for unless sizes are named.
const IMAGES: [(u32, u32); 3] = [(640, 480), (1920, 1080), (3840, 2160)];

/// Arguments of `imagent model info`.
///
/// Of a model at the hub that is not in the cache, only the small files are fetched. What the memory figures mean and how they
/// are computed is in docs/memory.md. Of an adapter its settings and sizes are told, and of its model if that is a folder here.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A checkpoint folder, a folder of an adapter, `nano`, or a hub id: ORG/NAME or ORG/NAME@REVISION
    #[arg(value_name = "DIR|ID")]
    pub(super) model: String,
    /// Tell the tokens of an image of this size; repeatable [default: 640x480 1920x1080 3840x2160]
    #[arg(long = "image", value_name = "WIDTHxHEIGHT", value_parser = size)]
    images: Vec<(u32, u32)>,
    /// Fewest pixels that images are shown at [default: the model's]
    #[arg(long, value_name = "N")]
    min_pixels: Option<u64>,
    /// Most pixels that images are shown at [default: the model's]
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once(['x', '×']).and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides.filter(|&(w, h)| w > 0 && h > 0).ok_or_else(|| "must be WIDTHxHEIGHT in pixels, as 1920x1080".to_owned())
}

/// All that is told.
#[derive(Serialize)]
pub(super) struct Info {
    model: String,
    architecture: Architecture,
    footprint: Footprint,
    total_parameters: u64,
    /// Element types of the weights with their numbers of elements; empty if the weights are not here.
    dtypes: BTreeMap<String, u64>,
    files: Vec<Weights>,
    image_limits: Limits,
    images: Vec<Image>,
    memory: Memory,
}

#[derive(Serialize)]
struct Architecture {
    hidden_size: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    intermediate_size: usize,
    vocabulary: usize,
    tied_head: bool,
    vision_hidden_size: usize,
    vision_depth: usize,
    vision_intermediate_size: usize,
    dtype: &'static str,
}

#[derive(Serialize)]
struct Weights {
    name: String,
    bytes: Option<u64>,
    /// Whether it is in the folder.
    here: bool,
}

#[derive(Serialize)]
struct Limits {
    min_pixels: u64,
    max_pixels: u64,
}

#[derive(Serialize)]
struct Image {
    width: u32,
    height: u32,
    shown_width: u32,
    shown_height: u32,
    tokens: u64,
}

/// Bytes.
#[derive(Serialize)]
struct Memory {
    inference_f32: u64,
    inference_half: u64,
    cache_per_1000_tokens: u64,
    lora_rank: u64,
    lora_parameters: u64,
    lora_training: u64,
    full_training: u64,
    activations_per_1000_text_tokens: u64,
    activations_per_1000_image_tokens: u64,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    if PeftAdapter::is_at(Path::new(&args.model)) {
        return adapter::run(&args, Path::new(&args.model));
    }
    // The embedded base is written to a folder that is gone at the end.
    let keep = if args.model == "nano" { Some(nano_base()?) } else { None };
    let located = match &keep {
        Some(base) => Located { dir: base.path().to_owned(), remote: Vec::new() },
        None => locate(&args.model, Need::Description)?,
    };
    let info = info(&args, &args.model, &located).map_err(imagent::Error::OpenModel)?;
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&info)?));
    }
    print(&show(&info))
}

/// All about the model `name` that lies there.
pub(super) fn info(args: &Args, name: &str, located: &Located) -> Result<Info, ModelError> {
    let config = Config::open(&located.dir)?;
    let (files, dtypes) = weights(located, &config)?;
    let mut processor = ImageProcessor::open(&located.dir)?;
    processor.min_pixels = args.min_pixels.unwrap_or(processor.min_pixels);
    processor.max_pixels = args.max_pixels.unwrap_or(processor.max_pixels);
    check_limits(&processor)?;
    let sizes = if args.images.is_empty() { &IMAGES[..] } else { &args.images };
    let images = sizes.iter().map(|&size| image(&processor, size)).collect::<Result<_, _>>()?;
    let footprint = Footprint::of(&config);
    Ok(Info {
        model: name.to_owned(),
        architecture: architecture(&config),
        footprint,
        total_parameters: footprint.parameters.total(),
        dtypes,
        files,
        image_limits: Limits { min_pixels: processor.min_pixels, max_pixels: processor.max_pixels },
        images,
        memory: memory(&footprint, adapter_parameters(&config, RANK)),
    })
}

/// The weight files, and the element types in their headers. Those that are here must be the configured model.
fn weights(located: &Located, config: &Config) -> Result<(Vec<Weights>, BTreeMap<String, u64>), ModelError> {
    if !located.remote.is_empty() {
        let file = |(name, bytes): &(String, Option<u64>)| Weights { name: name.clone(), bytes: *bytes, here: false };
        return Ok((located.remote.iter().map(file).collect(), BTreeMap::new()));
    }
    let checkpoint = Checkpoint::open(&located.dir)?;
    checkpoint.check(config)?;
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let files = checkpoint.files();
    let files = files.map(|file| Weights { name: name(file.path()), bytes: Some(file.size()), here: true }).collect();
    Ok((files, checkpoint.dtypes()))
}

fn check_limits(processor: &ImageProcessor) -> Result<(), ModelError> {
    let (least, most) = (processor.min_pixels, processor.max_pixels);
    if least > 0 && least <= most {
        return Ok(());
    }
    Err(ModelError::Config {
        file: "image limits".into(),
        field: "--min-pixels".into(),
        expected: format!("1 to --max-pixels, {most}"),
        got: least.to_string(),
    })
}

fn image(processor: &ImageProcessor, (width, height): (u32, u32)) -> Result<Image, ModelError> {
    let (shown_width, shown_height) = processor.shown_size(width, height)?;
    let tokens = processor.grid(width, height)?.tokens(processor.merge_size as usize) as u64;
    Ok(Image { width, height, shown_width, shown_height, tokens })
}

fn architecture(config: &Config) -> Architecture {
    let (t, v) = (&config.text, &config.vision);
    Architecture {
        hidden_size: t.hidden_size,
        layers: t.layers,
        heads: t.heads,
        kv_heads: t.kv_heads,
        intermediate_size: t.intermediate_size,
        vocabulary: t.vocab_size,
        tied_head: t.tie_word_embeddings,
        vision_hidden_size: v.hidden_size,
        vision_depth: v.depth,
        vision_intermediate_size: v.intermediate_size,
        dtype: config.dtype.torch_name(),
    }
}

fn memory(footprint: &Footprint, adapters: u64) -> Memory {
    Memory {
        inference_f32: footprint.weights(4),
        inference_half: footprint.weights(2),
        cache_per_1000_tokens: TOKENS * footprint.cache_per_token,
        lora_rank: RANK,
        lora_parameters: adapters,
        lora_training: footprint.adapter_training(adapters),
        full_training: footprint.full_training(),
        activations_per_1000_text_tokens: TOKENS * footprint.activations_per_token,
        activations_per_1000_image_tokens: TOKENS * footprint.activations_per_image_token,
    }
}

/// It as text.
pub(super) fn show(info: &Info) -> String {
    let a = &info.architecture;
    let mut text = format!(
        "{}\nlanguage  {} layers, {} wide, {} heads ({} of keys), MLP {}, vocabulary {}, head {}\n",
        info.model,
        a.layers,
        a.hidden_size,
        a.heads,
        a.kv_heads,
        a.intermediate_size,
        a.vocabulary,
        if a.tied_head { "tied" } else { "of its own" }
    );
    let (width, depth, mlp) = (a.vision_hidden_size, a.vision_depth, a.vision_intermediate_size);
    text += &format!("vision    {depth} blocks, {width} wide, MLP {mlp}\n\n");
    text += &parameters(info);
    text += &format!("\n{}", files(info));
    let limits = &info.image_limits;
    text += &format!("\nimages, shown at {} to {} pixels\n", limits.min_pixels, limits.max_pixels);
    let row = |image: &Image| {
        let shown = format!("{}x{}", image.shown_width, image.shown_height);
        vec![format!("{}x{}", image.width, image.height), shown, image.tokens.to_string()]
    };
    text += &table(&["image", "shown", "tokens"], &info.images.iter().map(row).collect::<Vec<_>>());
    text + "\n" + &needs(&info.memory)
}

fn parameters(info: &Info) -> String {
    let p = &info.footprint.parameters;
    let head = if info.architecture.tied_head { "the embedding".to_owned() } else { p.head.to_string() };
    let total = info.total_parameters.to_string();
    let rows = [
        ("vision tower", p.vision.to_string()),
        ("merger", p.merger.to_string()),
        ("embedding", p.embedding.to_string()),
        ("language layers", p.language.to_string()),
        ("head", head),
        ("total", total),
        ("tensors", info.footprint.tensors.to_string()),
    ];
    table(&["part", "parameters"], &rows.map(|(part, count)| vec![part.to_owned(), count]))
}

fn files(info: &Info) -> String {
    let kinds: Vec<String> = info.dtypes.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let mut text = if kinds.is_empty() {
        format!("weights not fetched; config.json says {}\n", info.architecture.dtype)
    } else {
        format!("elements: {}\n", kinds.join(", "))
    };
    let bytes = |file: &Weights| file.bytes.map_or_else(|| "unknown".to_owned(), amount);
    let rows: Vec<Vec<String>> = info.files.iter().map(|file| vec![file.name.clone(), bytes(file)]).collect();
    text += &table(&["file", "size"], &rows);
    text
}

fn needs(memory: &Memory) -> String {
    let lora =
        format!("LoRA training, rank {} on all linear maps ({} parameters)", memory.lora_rank, memory.lora_parameters);
    let rows = [
        ("inference, weights in f32", memory.inference_f32),
        ("inference, weights in bf16 or f16", memory.inference_half),
        ("  and per 1000 tokens of keys and values", memory.cache_per_1000_tokens),
        (lora.as_str(), memory.lora_training),
        ("full training", memory.full_training),
        ("  and per 1000 text tokens of activations", memory.activations_per_1000_text_tokens),
        ("  and per 1000 image tokens of activations", memory.activations_per_1000_image_tokens),
    ];
    table(&["memory for", "bytes"], &rows.map(|(what, bytes)| vec![what.to_owned(), amount(bytes)]))
}
