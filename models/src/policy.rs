//! The model as the core's [`Policy`]: rollouts by the engine, scores and updates by packed passes on the tape.

mod serve;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dfdx::prelude::*;
use image::RgbImage;
use imagent_core::{
    Encoder, Next, OnTurn, Origin, Policy, PolicyError, PolicyPrompt, SampledTurn, Sampling, ScoreRow, Segment,
    TokenLoss, TokenScores, Trajectory, UpdateReport, Weights as Which,
};

pub use self::serve::{Desk, Guest, Told};
use crate::adamw::{AdamW, AdamWConfig};
use crate::checkpoint::{Checkpoint, CheckpointWriter};
use crate::codec::Codec;
use crate::config::{Config, Dtype};
use crate::engine::{HostModel, Request, run};
use crate::error::{ModelError, Result};
use crate::image_processor::Patches;
use crate::lora::{ADAPTER_TENSORS, PeftAdapter};
use crate::ops::Kernels;
use crate::qwen::positions::GridSpan;
use crate::qwen::probe::LayerProbe;
use crate::qwen::trace::Trace;
use crate::qwen::weights::device_error;
use crate::qwen::{Packed, Parameter, Qwen, Sequence, SequenceImage, Target, Tuning};

/// How a policy splits its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassLimits {
    /// Most rows of one packed pass; larger batches run in several, with the same result.
    pub max_rows: usize,
    /// Most images in one pass of the vision tower while sampling.
    pub max_images: usize,
}

impl Default for PassLimits {
    fn default() -> Self {
        Self { max_rows: 16_384, max_images: 256 }
    }
}

/// Patches that go through the vision tower at once while sampling; a larger image goes alone.
const TOWER_PATCHES: usize = 16_384;

/// A Qwen2.5-VL that can be sampled from and trained.
pub struct QwenPolicy<D: Kernels> {
    /// The model.
    pub model: Qwen<D>,
    /// The optimiser's state.
    pub optimizer: AdamW,
    /// How work is split.
    pub limits: PassLimits,
    /// Set from elsewhere to end a rollout early.
    pub stop: Arc<AtomicBool>,
    /// What an adapter's files call the model that it is for.
    pub base: String,
    codec: Arc<Codec>,
    reference: Option<Qwen<D>>,
}

impl<D: Kernels> std::fmt::Debug for QwenPolicy<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QwenPolicy").field("config", &self.model.config).field("step", &self.optimizer.step).finish()
    }
}

impl<D: Kernels> QwenPolicy<D> {
    /// Reads a checkpoint folder in Hugging Face's layout.
    ///
    /// # Errors
    /// Names the file, tensor or setting that is wrong.
    pub fn open(dir: &Path, device: D, optimizer: AdamWConfig) -> Result<Self> {
        Self::open_tuned(dir, device, optimizer, &Tuning::default())
    }

    /// Reads a checkpoint folder of which the parts that `tuning` names are trained.
    ///
    /// # Errors
    /// As [`Self::open`], and if a name or pattern of `tuning` fits nothing.
    pub fn open_tuned(dir: &Path, device: D, optimizer: AdamWConfig, tuning: &Tuning) -> Result<Self> {
        let (codec, never) = open_codec(dir)?;
        let mut model = Qwen::open(dir, device, never)?;
        model.tune(tuning)?;
        Ok(Self { base: name(dir), ..Self::new(model, codec, optimizer)? })
    }

    /// Opens a checkpoint folder for rollouts and scores, see [`Qwen::open_for_inference`]: without an optimiser's state, and
    /// updates are refused.
    ///
    /// # Errors
    /// Names the file, tensor or setting that is wrong.
    pub fn open_for_inference(dir: &Path, device: D, dtype: Option<Dtype>) -> Result<Self> {
        let (codec, never) = open_codec(dir)?;
        let model = Qwen::open_for_inference(dir, device, never, dtype)?;
        Ok(Self { base: name(dir), ..Self::new(model, codec, AdamWConfig::default())? })
    }

    /// A policy from its parts.
    pub fn new(model: Qwen<D>, codec: Codec, optimizer: AdamWConfig) -> Result<Self> {
        optimizer.validate()?;
        let optimizer = AdamW::new(optimizer, model.parameters().iter().map(Parameter::len));
        Ok(Self {
            model,
            optimizer,
            limits: PassLimits::default(),
            stop: Arc::default(),
            base: String::new(),
            codec: Arc::new(codec),
            reference: None,
        })
    }

    /// Writes the model into a checkpoint folder: whole, or its adapter alone, in single precision, where it has one.
    ///
    /// # Errors
    /// Names the file that could not be written.
    pub fn write(&self, writer: &CheckpointWriter, dtype: Dtype) -> Result<()> {
        let (model, weights) = (&self.model, &self.model.weights);
        if let Some(adapter) = model.adapter() {
            let modules: Vec<&str> = model.modules().into_iter().map(|(name, ..)| name).collect();
            return PeftAdapter::write(writer, adapter, &modules, &self.base);
        }
        let entries = weights.entries().iter().enumerate();
        let tensors = entries.map(|(index, entry)| (entry.name.clone(), entry.shape.clone(), weights.values(index)));
        writer.model(&model.config, tensors, dtype)
    }

    /// Reads back what [`Self::write`] wrote for this model.
    ///
    /// # Errors
    /// When a file is missing or does not fit.
    pub fn read(&mut self, dir: &Path) -> Result<()> {
        if self.model.adapter().is_some() {
            let modules = self.model.modules();
            let found = PeftAdapter::open(dir)?.load(&modules, &self.model.device)?;
            return self.model.replace_adapter(found, &dir.join(ADAPTER_TENSORS));
        }
        let checkpoint = Checkpoint::open(dir)?;
        let entries = self.model.weights.entries().to_vec();
        for (index, entry) in entries.iter().enumerate() {
            self.model.weights.set(index, &checkpoint.tensor_shaped(&entry.name, &entry.shape)?);
        }
        Ok(())
    }

    /// Tokenizer, template and image processor.
    pub fn codec(&self) -> &Arc<Codec> {
        &self.codec
    }

    /// Keeps today's weights as the reference policy. What is frozen is shared with the policy and costs no memory.
    pub fn freeze_reference(&mut self) -> Result<()> {
        self.reference = Some(self.model.as_reference());
        Ok(())
    }

    /// One optimiser update over sequences: `loss` sees the scores of all targets, in order, and says the derivative.
    ///
    /// A batch of more than [`PassLimits::max_rows`] rows is scored first and then run again in parts, each with
    /// its share of the derivative, so that any loss over the whole batch stays exact. So is one whose adapter has
    /// dropout: the loss sees the scores of the policy that acts, which drops nothing, and its derivative goes through
    /// the pass that does.
    pub fn update_sequences(
        &mut self,
        sequences: &[Sequence<'_>],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> std::result::Result<UpdateReport, PolicyError> {
        timed!("update");
        if !self.model.weights.can_train() {
            return Err(policy_error(ModelError::InferenceOnly));
        }
        let parts = self.split(sequences);
        let (loss, gradients) = if parts.len() == 1 && !self.model.drops() {
            self.one_pass(sequences, temperature, loss)?
        } else {
            self.several_passes(&parts, temperature, loss)?
        };
        if !loss.value.is_finite() {
            return Err(PolicyError::NotFinite { what: "loss" });
        }
        let norm = AdamW::norm(&gradients);
        if !norm.is_finite() {
            return Err(PolicyError::NotFinite { what: "gradient" });
        }
        let learning_rate = self.step(&gradients, norm);
        Ok(UpdateReport { loss, grad_norm: norm, learning_rate })
    }

    /// Log-probability and entropy of all targets of some sequences, in order.
    pub fn score_sequences(&self, sequences: &[Sequence<'_>], temperature: f32, which: Which) -> Result<TokenScores> {
        timed!("score");
        let model = match which {
            Which::Current => &self.model,
            Which::Reference => self.reference.as_ref().unwrap_or(&self.model),
        };
        let mut scores = TokenScores::default();
        for part in self.split(sequences) {
            let packed = Packed::new(part)?;
            if packed.targets.is_empty() {
                continue;
            }
            let patches = self.patches_of(&packed.images)?;
            let hidden = model.hidden(&packed, &patches, NoneTape, &mut Trace::off())?;
            extend(&mut scores, &model.scores(hidden, &packed.targets, temperature)?.as_vec());
        }
        Ok(scores)
    }

    /// What the attention of each decoder layer is made of, in one pass over a finished trajectory up to the row that its last
    /// sampled token was drawn from: row `p − 1` is that of the token at position `p`.
    ///
    /// # Errors
    /// When an image does not fit the model.
    pub fn attention(&self, trajectory: &Trajectory) -> Result<Vec<LayerProbe>> {
        let positions: Vec<usize> = trajectory.sampled().collect();
        let packed = Packed::new(&[sequence(&ScoreRow { trajectory, positions: &positions })])?;
        let patches = self.patches_of(&packed.images)?;
        let mut trace = Trace::off().with_attention();
        self.model.hidden(&packed, &patches, NoneTape, &mut trace)?;
        Ok(trace.attention.unwrap_or_default())
    }

    /// Gradient of every trained parameter ([`Qwen::parameters`]), in order, for a loss over sequences, nothing dropped;
    /// nothing is updated.
    pub fn gradients(
        &self,
        sequences: &[Sequence<'_>],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> std::result::Result<(TokenLoss, Vec<Vec<f32>>), PolicyError> {
        self.one_pass(sequences, temperature, loss)
    }

    fn one_pass(
        &self,
        sequences: &[Sequence<'_>],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> std::result::Result<(TokenLoss, Vec<Vec<f32>>), PolicyError> {
        let packed = Packed::new(sequences).map_err(policy_error)?;
        let mut said = TokenLoss::default();
        let gradients = self.backward(&self.model, &packed, temperature, &mut |scores| {
            said = loss(scores);
            seed(&said)
        });
        gradients.map(|gradients| (said, gradients)).map_err(policy_error)
    }

    fn several_passes(
        &self,
        parts: &[&[Sequence<'_>]],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> std::result::Result<(TokenLoss, Vec<Vec<f32>>), PolicyError> {
        let mut scores = TokenScores::default();
        for part in parts {
            let some = self.score_sequences(part, temperature, Which::Current).map_err(policy_error)?;
            scores.logprobs.extend(some.logprobs);
            scores.entropies.extend(some.entropies);
        }
        let said = loss(&scores);
        let seeds = seed(&said);
        let mut total: Vec<Vec<f32>> = Vec::new();
        let mut at = 0;
        for part in parts {
            let packed = Packed::new(part).map_err(policy_error)?;
            let mine = seeds[2 * at..2 * (at + packed.targets.len())].to_vec();
            at += packed.targets.len();
            let patches = self.patches_of(&packed.images).map_err(policy_error)?;
            let model = self.model.in_training(self.optimizer.step, &packed, &patches);
            let gradients = self.backward(&model, &packed, temperature, &mut |_| mine.clone()).map_err(policy_error)?;
            if total.is_empty() {
                total = gradients;
            } else {
                let pairs = total.iter_mut().zip(&gradients);
                pairs.for_each(|(sum, g)| sum.iter_mut().zip(g).for_each(|(a, b)| *a += b));
            }
        }
        Ok((said, total))
    }

    /// One forward and backward pass; `derivative` maps scores to d loss / d (log-probability, entropy).
    fn backward(
        &self,
        model: &Qwen<D>,
        packed: &Packed,
        temperature: f32,
        derivative: &mut dyn FnMut(&TokenScores) -> Vec<f32>,
    ) -> Result<Vec<Vec<f32>>> {
        if packed.targets.is_empty() {
            derivative(&TokenScores::default());
            return Ok(model.parameters().iter().map(|parameter| vec![0.0; parameter.len()]).collect());
        }
        let patches = self.patches_of(&packed.images)?;
        let out = {
            timed!("forward");
            let hidden = model.hidden(packed, &patches, OwnedTape::<f32, D>::default(), &mut Trace::off())?;
            model.scores(hidden, &packed.targets, temperature)?
        };
        let mut scores = TokenScores::default();
        extend(&mut scores, &out.as_vec());
        let seeds = {
            timed!("loss");
            derivative(&scores)
        };
        timed!("backward");
        let mut gradients = crate::ops::seed_gradient(out, seeds).map_err(device_error("backward"))?;
        model.parameters().iter().map(|parameter| model.parameter_gradient(parameter, &mut gradients)).collect()
    }

    fn step(&mut self, gradients: &[Vec<f32>], norm: f64) -> f64 {
        timed!("optimizer");
        let update = self.optimizer.begin(norm);
        for (index, gradient) in gradients.iter().enumerate() {
            let parameter = &self.model.parameters()[index];
            let mut values = self.model.parameter(parameter);
            self.optimizer.apply(index, &mut values, gradient, update, parameter.group, parameter.is_matrix);
            self.model.set_parameter(index, &values);
        }
        update.rate
    }

    /// Splits sequences into passes of at most `max_rows` rows; neighbours with one prompt stay together if they can.
    fn split<'a, 'b>(&self, sequences: &'a [Sequence<'b>]) -> Vec<&'a [Sequence<'b>]> {
        let mut parts = Vec::new();
        let (mut start, mut rows) = (0, 0);
        for (i, sequence) in sequences.iter().enumerate() {
            let own = sequence.ids.len() - sequence.prompt_len;
            let shared = i > start && sequences[i - 1].prompt_len == sequence.prompt_len;
            let cost = if shared { own } else { sequence.ids.len() };
            if i > start && rows + cost > self.limits.max_rows {
                parts.push(&sequences[start..i]);
                (start, rows) = (i, sequence.ids.len());
            } else {
                rows += cost;
            }
        }
        parts.push(&sequences[start..]);
        parts
    }

    /// Patches of images, from the cache or made in parallel.
    fn patches_of(&self, images: &[Arc<RgbImage>]) -> Result<Vec<Arc<Patches>>> {
        timed!("images");
        self.codec.patches(images)
    }

    /// Features of every image of some segments; an image that stands in several is computed once.
    fn features(&self, tower: &Qwen<D>, segments: &[&Segment]) -> Result<Vec<Vec<Arc<Vec<f32>>>>> {
        let mut distinct: Vec<Arc<RgbImage>> = Vec::new();
        let mut place = HashMap::new();
        for image in segments.iter().flat_map(|segment| &segment.images) {
            place.entry(Arc::as_ptr(&image.pixels)).or_insert_with(|| {
                distinct.push(Arc::clone(&image.pixels));
                distinct.len() - 1
            });
        }
        let mut rows = Vec::with_capacity(distinct.len());
        for chunk in distinct.chunks(self.limits.max_images.max(1)) {
            let patches = self.patches_of(chunk)?;
            // Large images go through the tower alone, small ones together.
            let mut rest = patches.as_slice();
            while !rest.is_empty() {
                let mut all = 0;
                let fits = |image: &&Arc<Patches>| {
                    all += image.grid.patches();
                    all <= TOWER_PATCHES
                };
                let (some, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
                rows.extend(feature_rows(tower, some)?);
                rest = others;
            }
        }
        let of = |segment: &&Segment| {
            segment.images.iter().map(|image| Arc::clone(&rows[place[&Arc::as_ptr(&image.pixels)]])).collect()
        };
        Ok(segments.iter().map(of).collect())
    }

    /// The likeliest `count` tokens after `prompt`, by the decode engine: no token is left out, none ends the text.
    ///
    /// `patches` are those of the prompt's images, in order; `None` makes them from the pixels.
    pub fn greedy(
        &self,
        prompt: Segment,
        patches: Option<&[Arc<Patches>]>,
        count: usize,
    ) -> std::result::Result<SampledTurn, PolicyError> {
        let out = SampledTurn { ids: Vec::new(), logprobs: Vec::new(), stop: imagent_core::StopReason::Length };
        if count == 0 {
            return Ok(out);
        }
        let out = Mutex::new(out);
        let (host, tower) = (HostModel::new(&self.model), self.model.for_rollouts());
        let prompt = PolicyPrompt {
            prompt: Arc::new(prompt),
            key: imagent_core::Key(0),
            max_new_tokens: count,
            max_tokens: usize::MAX,
        };
        let request = Request {
            model: &host,
            prompts: std::slice::from_ref(&prompt),
            sampling: &Sampling::greedy(),
            never_sampled: &[],
            end_tokens: &[],
            text: &|_| String::new(),
            prefill_rows: self.limits.max_rows,
            stopped: &|| self.stop.load(Ordering::Relaxed),
        };
        let mut features = |segments: &[&Segment]| match patches {
            Some(patches) if !patches.is_empty() => {
                feature_rows(&tower, patches).map(|rows| vec![rows]).map_err(policy_error)
            }
            _ => self.features(&tower, segments).map_err(policy_error),
        };
        run(&request, &mut features, &|_, turn| {
            *out.lock().unwrap_or_else(PoisonError::into_inner) = turn;
            Ok(Next::End)
        })?;
        Ok(out.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<D: Kernels> Policy for QwenPolicy<D> {
    fn encoder(&self) -> Arc<dyn Encoder> {
        Arc::clone(&self.codec) as Arc<dyn Encoder>
    }

    fn rollout(
        &mut self,
        prompts: &[PolicyPrompt],
        sampling: &Sampling,
        on_turn: &OnTurn<'_>,
    ) -> std::result::Result<(), PolicyError> {
        timed!("rollout");
        let (host, tower) = (HostModel::new(&self.model), self.model.for_rollouts());
        let tokenizer = &self.codec.tokenizer;
        let end_tokens = [&[self.codec.tokenizer.special().im_end], self.model.config.tokens.eos.as_slice()].concat();
        let request = Request {
            model: &host,
            prompts,
            sampling,
            never_sampled: &self.model.never_sampled,
            end_tokens: &end_tokens,
            text: &|ids| tokenizer.decode(ids, false).unwrap_or_default(),
            prefill_rows: self.limits.max_rows,
            stopped: &|| self.stop.load(Ordering::Relaxed),
        };
        run(&request, &mut |segments| self.features(&tower, segments).map_err(policy_error), on_turn)
    }

    fn score(
        &self,
        rows: &[ScoreRow<'_>],
        temperature: f32,
        weights: Which,
    ) -> std::result::Result<TokenScores, PolicyError> {
        let sequences: Vec<Sequence<'_>> = rows.iter().map(sequence).collect();
        self.score_sequences(&sequences, temperature, weights).map_err(policy_error)
    }

    fn update(
        &mut self,
        rows: &[ScoreRow<'_>],
        temperature: f32,
        loss: &mut dyn FnMut(&TokenScores) -> TokenLoss,
    ) -> std::result::Result<UpdateReport, PolicyError> {
        let sequences: Vec<Sequence<'_>> = rows.iter().map(sequence).collect();
        self.update_sequences(&sequences, temperature, loss)
    }
}

/// The codec of a checkpoint folder, and the tokens that its model never draws.
fn open_codec(dir: &Path) -> Result<(Codec, Vec<usize>)> {
    let codec = Codec::open(dir)?;
    let config = Config::open(dir)?;
    codec.check(&config, dir)?;
    let never = codec.tokenizer.never_sampled(config.text.vocab_size);
    Ok((codec, never.into_iter().map(|id| id as usize).collect()))
}

/// What an adapter's files call the model in a folder.
fn name(dir: &Path) -> String {
    dir.to_string_lossy().into_owned()
}

/// What the tower makes of each image, `[image tokens, hidden]`.
fn feature_rows<D: Kernels>(tower: &Qwen<D>, patches: &[Arc<Patches>]) -> Result<Vec<Arc<Vec<f32>>>> {
    let out = tower.vision(patches, NoneTape, &mut Trace::off())?.as_vec();
    let (d, merge) = (tower.config.text.hidden_size, tower.config.vision.spatial_merge_size);
    let mut at = 0;
    let rows = patches.iter().map(|image| {
        let start = at;
        at += image.grid.tokens(merge) * d;
        Arc::new(out[start..at].to_vec())
    });
    Ok(rows.collect())
}

/// A row of the core's as a sequence of ours.
pub fn sequence<'a>(row: &ScoreRow<'a>) -> Sequence<'a> {
    let trajectory = row.trajectory;
    let images = trajectory.spans.iter().filter_map(|span| {
        let pixels = Arc::clone(&trajectory.shelf.get(span.image)?.pixels);
        let span = GridSpan { start: span.start, rows: span.rows, columns: span.columns };
        Some(SequenceImage { span, pixels })
    });
    let target = |&position: &usize| Target {
        row: position - 1,
        id: trajectory.ids[position],
        suppress: trajectory.origins[position] == Origin::Sampled,
    };
    Sequence {
        ids: &trajectory.ids,
        images: images.collect(),
        prompt_len: trajectory.prompt_len,
        targets: row.positions.iter().map(target).collect(),
    }
}

/// d loss / d (log-probability, entropy), interleaved.
fn seed(loss: &TokenLoss) -> Vec<f32> {
    let entropies = loss.d_entropies.iter().copied().chain(std::iter::repeat(0.0));
    loss.d_logprobs.iter().zip(entropies).flat_map(|(&logprob, entropy)| [logprob, entropy]).collect()
}

fn extend(scores: &mut TokenScores, pairs: &[f32]) {
    for pair in pairs.chunks_exact(2) {
        scores.logprobs.push(pair[0]);
        scores.entropies.push(pair[1]);
    }
}

/// A model's error as the core's.
pub fn policy_error(error: ModelError) -> PolicyError {
    PolicyError::Model(error.to_string())
}
