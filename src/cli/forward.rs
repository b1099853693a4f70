//! `imagent forward`: one pass of a model over a chat, every stage written out, so that others can check it.
//!
//! Names and shapes are those of the goldens in `tests/parity`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use dfdx::prelude::*;
use imagent::config::{ModelConfig, open_model, open_model_for_inference};
use imagent_core::Segment;
use imagent_models::adamw::AdamWConfig;
use imagent_models::config::Dtype;
use imagent_models::image_processor::{Grid, Patches};
use imagent_models::ops::seed_gradient;
use imagent_models::policy::QwenPolicy;
use imagent_models::qwen::positions::GridSpan;
use imagent_models::qwen::windows::Windows;
use imagent_models::qwen::{Packed, Sequence, SequenceImage, Target, Trace};

use super::chat_file::{self, Chats};
use super::settings::WeightType;
use super::tensors::{TensorInput, TensorOutput};
use super::{InputError, print};

/// Arguments of `imagent forward`.
///
/// A chat whose last message is not the assistant's is completed with the opening of its turn. A file of several chats
/// gives tensors [chats, T, ...], zeros behind the shorter ones (see attention_mask).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A checkpoint folder, or a hub id: ORG/NAME or ORG/NAME@REVISION
    #[arg(long, value_name = "DIR|ID")]
    model: PathBuf,
    /// A chat, OpenAI-style; image paths are relative to the file
    #[arg(long, value_name = "messages.json")]
    messages: PathBuf,
    /// Where to write the tensors
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Take `pixel_values` from a file instead of the images
    #[arg(long, value_name = "FILE.safetensors")]
    pixels: Option<PathBuf>,
    /// Continue with the N likeliest tokens; none is left out, none ends the text
    #[arg(long, value_name = "N")]
    generate: Option<usize>,
    /// Write where the last token's attention goes
    #[arg(long)]
    attention: bool,
    /// Write the gradients of the mean negative log-likelihood of all tokens; the weights are then f32
    #[arg(long)]
    gradients: bool,
    #[command(flatten)]
    weights: WeightType,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let path = args.model.to_str().ok_or_else(|| InputError("--model: the path is not UTF-8".to_owned()))?;
    let config = ModelConfig { path: path.to_owned(), ..ModelConfig::default() };
    let dtype = args.weights.dtype();
    if args.gradients && dtype.is_some_and(|dtype| dtype != Dtype::F32) {
        return Err(InputError("--gradients needs the weights in f32: leave out --dtype".to_owned()).into());
    }
    let model = if args.gradients {
        open_model(&config, &AdamWConfig::default())?
    } else {
        open_model_for_inference(&config, dtype)?
    };
    let chats = chat_file::read(&args.messages, model.policy.codec())?;
    if args.generate.is_some() && chats.several {
        return Err(InputError("--generate goes on with one chat, the file has a list of chats".to_owned()).into());
    }
    let mut out = TensorOutput::default();
    let pass = Pass::new(&model.policy, &chats, args.pixels.as_deref(), &mut out)?;
    let mut text = pass.forward(args.attention, &mut out)?;
    if args.gradients {
        pass.gradients(&mut out)?;
    }
    if let Some(count) = args.generate {
        text += &pass.generate(&chats.segments[0], count, &mut out)?;
    }
    out.save(&args.out)?;
    print(&format!("{text}{} tensors written to {}\n", out.len(), args.out.display()))
}

/// How the rows of a packed pass stand in the tensors: `[T, ..]`, or `[chats, T, ..]` with padding behind.
struct Frame {
    lens: Vec<usize>,
    several: bool,
}

impl Frame {
    fn new(chats: &Chats) -> Self {
        Self { lens: chats.segments.iter().map(|segment| segment.ids.len()).collect(), several: chats.several }
    }

    /// The same without the last row of each chat.
    fn pairs(&self) -> Self {
        Self { lens: self.lens.iter().map(|len| len.saturating_sub(1)).collect(), several: self.several }
    }

    fn longest(&self) -> usize {
        self.lens.iter().copied().max().unwrap_or(0)
    }

    fn shape(&self, tail: &[usize]) -> Vec<usize> {
        let batch = self.several.then_some(self.lens.len());
        batch.into_iter().chain([self.longest()]).chain(tail.iter().copied()).collect()
    }

    /// Rows of `width` values, padded.
    fn rows<T: Copy + Default>(&self, values: &[T], width: usize) -> Vec<T> {
        let mut out = Vec::with_capacity(self.lens.len() * self.longest() * width);
        let mut at = 0;
        for (chat, len) in self.lens.iter().enumerate() {
            out.extend_from_slice(&values[at..at + len * width]);
            out.resize((chat + 1) * self.longest() * width, T::default());
            at += len * width;
        }
        out
    }

    /// The last row of each chat.
    fn last_rows(&self) -> Vec<usize> {
        let mut end = 0;
        let last = |len: &usize| {
            end += len;
            end - 1
        };
        self.lens.iter().map(last).collect()
    }
}

/// Everything that goes into a pass.
struct Pass<'a> {
    policy: &'a QwenPolicy<Cpu>,
    frame: Frame,
    packed: Packed,
    patches: Vec<Arc<Patches>>,
}

impl<'a> Pass<'a> {
    /// Prepares the pass; writes tokens, positions and pixels.
    fn new(policy: &'a QwenPolicy<Cpu>, chats: &Chats, pixels: Option<&Path>, out: &mut TensorOutput) -> Result<Self> {
        let frame = Frame::new(chats);
        let sequences: Vec<Sequence<'_>> = chats.segments.iter().map(sequence).collect();
        let packed = Packed::new(&sequences)?;
        let processor = &policy.codec().processor;
        let mut patches = Vec::new();
        for (i, image) in packed.images.iter().enumerate() {
            let resized = processor.resize(image)?;
            let shape = [resized.height() as usize, resized.width() as usize, 3];
            out.bytes(format!("image.{i}.resized"), &shape, resized.as_raw());
            patches.push(Arc::new(processor.patchify(&resized)?));
        }
        if let Some(file) = pixels.filter(|_| !patches.is_empty()) {
            patches = given_patches(&TensorInput::open(file)?, &patches)?;
        }
        let pass = Self { policy, frame, packed, patches };
        pass.write_tokens(out);
        if !pass.patches.is_empty() {
            pass.write_images(out);
        }
        Ok(pass)
    }

    fn write_tokens(&self, out: &mut TensorOutput) {
        let (frame, packed) = (&self.frame, &self.packed);
        let shape = frame.shape(&[]);
        let wide = |values: &[usize]| values.iter().map(|&value| value as i64).collect::<Vec<_>>();
        out.integers("input_ids", &shape, &frame.rows(&wide(&packed.ids), 1));
        out.integers("attention_mask", &shape, &frame.rows(&vec![1; packed.ids.len()], 1));
        let axis = |axis: &Vec<u32>| frame.rows(&axis.iter().map(|&p| i64::from(p)).collect::<Vec<_>>(), 1);
        let axes: Vec<i64> = packed.axes.iter().flat_map(axis).collect();
        out.integers("position_ids", &[&[3], shape.as_slice()].concat(), &axes);
    }

    fn write_images(&self, out: &mut TensorOutput) {
        let vision = &self.policy.model.config.vision;
        let grids = self.patches.iter().flat_map(|p| [p.grid.t as i64, p.grid.h as i64, p.grid.w as i64]);
        out.integers("image_grid_thw", &[self.patches.len(), 3], &grids.collect::<Vec<_>>());
        let values: Vec<f32> = self.patches.iter().flat_map(|p| p.values.iter().copied()).collect();
        let width = vision.patch_len();
        out.floats("pixel_values", &[values.len() / width, width], &values);
        let merge = vision.spatial_merge_size;
        let merged: Vec<(usize, usize)> = self.patches.iter().map(|p| (p.grid.h / merge, p.grid.w / merge)).collect();
        let windows = Windows::new(&merged, vision.window_cells());
        let index: Vec<i64> = windows.index.iter().map(|&cell| cell as i64).collect();
        out.integers("vision.window_index", &[index.len()], &index);
        for (name, ranges) in [("vision.cu_window_seqlens", &windows.windows), ("vision.cu_seqlens", &windows.images)] {
            let ends = ranges.iter().map(|range| (range.end * merge * merge) as i32);
            let ends: Vec<i32> = std::iter::once(0).chain(ends).collect();
            out.small_integers(name, &[ends.len()], &ends);
        }
    }

    /// Runs the model; writes its stages and distributions. Returns a summary.
    fn forward(&self, attention: bool, out: &mut TensorOutput) -> Result<String> {
        let (model, frame) = (&self.policy.model, &self.frame);
        let mut trace = if attention { Trace::on().with_attention() } else { Trace::on() };
        let hidden = model.hidden(&self.packed, &self.patches, NoneTape, &mut trace)?;
        for stage in trace.tensors.iter().flatten() {
            if stage.name.starts_with("vision.") || stage.name == "image_embeds" {
                out.floats(&stage.name, &stage.shape, &stage.values);
            } else {
                let width = stage.shape[1];
                out.floats(&stage.name, &frame.shape(&[width]), &frame.rows(&stage.values, width));
            }
        }
        let scores = model.scores(hidden.clone(), &self.packed.targets, 1.0)?.as_vec();
        let logits = model.logits(hidden)?.as_vec();
        let vocabulary = logits.len() / self.packed.ids.len();
        out.floats("logits", &frame.shape(&[vocabulary]), &frame.rows(&logits, vocabulary));
        let entropy: Vec<f32> = scores.chunks(2).map(|pair| pair[1]).collect();
        out.floats("entropy", &frame.shape(&[]), &frame.rows(&entropy, 1));
        let last = frame.last_rows();
        let rows = (0..entropy.len()).filter(|row| !last.contains(row));
        let logprobs: Vec<f32> = rows.map(|row| scores[2 * row]).collect();
        let pairs = frame.pairs();
        out.floats("logprobs", &pairs.shape(&[]), &pairs.rows(&logprobs, 1));
        self.write_attention(&trace, out);
        let mean = -logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / logprobs.len().max(1) as f64;
        let (tokens, images) = (self.packed.ids.len(), self.patches.len());
        Ok(format!(
            "{tokens} tokens, {} of them of {images} images; mean negative log-likelihood {mean:.6}\n",
            self.packed.image_rows.len()
        ))
    }

    fn write_attention(&self, trace: &Trace, out: &mut TensorOutput) {
        let Some(layers) = &trace.attention else { return };
        let longest = self.frame.longest();
        let mut values = Vec::new();
        for (last, len) in self.frame.last_rows().into_iter().zip(&self.frame.lens) {
            for layer in layers {
                values.extend_from_slice(&layer.summed(last)[last + 1 - len..=last]);
                values.resize(values.len() + longest - len, 0.0);
            }
        }
        let batch = self.frame.several.then_some(self.frame.lens.len());
        let shape: Vec<usize> = batch.into_iter().chain([layers.len(), longest]).collect();
        out.floats("attn_last_sum", &shape, &values);
    }

    /// Writes the mean negative log-likelihood of all tokens but each chat's first, and its gradients.
    fn gradients(&self, out: &mut TensorOutput) -> Result<()> {
        let model = &self.policy.model;
        let hidden = model.hidden(&self.packed, &self.patches, OwnedTape::default(), &mut Trace::off())?;
        let scores = model.scores(hidden, &self.packed.targets, 1.0)?;
        let last = self.frame.last_rows();
        let count = (self.packed.ids.len() - last.len()).max(1) as f32;
        let share = |row| if last.contains(&row) { 0.0 } else { -count.recip() };
        let seeds: Vec<f32> = (0..self.packed.ids.len()).flat_map(|row| [share(row), 0.0]).collect();
        let loss: f64 = scores.as_vec().iter().zip(&seeds).map(|(x, share)| f64::from(*x) * f64::from(*share)).sum();
        out.floats("loss", &[], &[loss as f32]);
        let mut gradients =
            seed_gradient(scores, seeds).map_err(|error| anyhow::anyhow!("backward pass: {error:?}"))?;
        for parameter in model.parameters() {
            let values = model.parameter_gradient(parameter, &mut gradients)?;
            out.floats(format!("grad.{}", parameter.name), &parameter.shape, &values);
        }
        Ok(())
    }

    /// Writes the likeliest tokens that follow. Returns their text.
    fn generate(&self, prompt: &Segment, count: usize, out: &mut TensorOutput) -> Result<String> {
        let turn = self.policy.greedy(prompt.clone(), Some(&self.patches), count)?;
        let ids: Vec<i64> = turn.ids.iter().map(|&id| i64::from(id)).collect();
        out.integers("generated_ids", &[ids.len()], &ids);
        out.floats("generated_logprobs", &[ids.len()], &turn.logprobs);
        let text = self.policy.codec().tokenizer.decode(&turn.ids, false).context("generated tokens")?;
        Ok(format!("continued with: {text:?}\n"))
    }
}

/// A chat of which every row is scored on the token after it; the last one, for its entropy, on token 0.
fn sequence(segment: &Segment) -> Sequence<'_> {
    let ids = &segment.ids;
    let target = |row: usize| Target { row, id: ids.get(row + 1).copied().unwrap_or(0), suppress: false };
    let image = |image: &imagent_core::SegmentImage| SequenceImage {
        span: GridSpan { start: image.start, rows: image.rows, columns: image.columns },
        pixels: Arc::clone(&image.pixels),
    };
    let images = segment.images.iter().map(image).collect();
    Sequence { ids, images, prompt_len: 0, targets: (0..ids.len()).map(target).collect() }
}

/// The pixels of a file for images of the same grids.
fn given_patches(file: &TensorInput, own: &[Arc<Patches>]) -> Result<Vec<Arc<Patches>>> {
    let missing = || file.refuse("tensor `pixel_values` is missing");
    let pixels = file.floats("pixel_values")?.ok_or_else(missing)?;
    if let Some(grids) = file.integers("image_grid_thw")? {
        let ours: Vec<i64> = own.iter().flat_map(|p| [p.grid.t, p.grid.h, p.grid.w]).map(|side| side as i64).collect();
        if grids.values != ours {
            let what = format!("tensor `image_grid_thw`: the images have {ours:?}, the file has {:?}", grids.values);
            return Err(file.refuse(&what));
        }
    }
    let patches: usize = own.iter().map(|p| p.grid.patches()).sum();
    let width = own.first().map_or(0, |p| p.values.len() / p.grid.patches().max(1));
    if pixels.shape != [patches, width] {
        let what = format!("tensor `pixel_values`: expected shape [{patches}, {width}], got {:?}", pixels.shape);
        return Err(file.refuse(&what));
    }
    let mut rest = pixels.values.as_slice();
    let take = |grid: Grid| {
        let (mine, others) = rest.split_at(grid.patches() * width);
        rest = others;
        Arc::new(Patches { grid, values: mine.to_vec() })
    };
    Ok(own.iter().map(|p| p.grid).map(take).collect())
}
