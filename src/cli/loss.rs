//! `imagent loss`: one optimiser on given numbers, so that others can check it. Reads and writes padded tensors; packs
//! them as the train loop does.

use std::path::{Path, PathBuf};

use anyhow::Result;
use imagent::config::Document;
use imagent_core::{PolicyOptimizer, TokenBatch, TokenLoss};
use serde::Deserialize;

use super::print;
use super::tensors::{Tensor, TensorInput, TensorOutput};

/// Arguments of `imagent loss`.
///
/// FILE of --in: `new_logprobs`, `old_logprobs`, `mask` `[rows, T]` (old_logprobs left out: those of the new policy;
/// mask: loss weights, 0 for padding), `ref_logprobs`, `entropy` `[rows, T]` where used; `rewards` or `advantages`
/// `[rows]`; `group` `[rows]`, needed with rewards.
///
/// FILE of --out: `advantages` `[rows]`, `loss`, `kl` where there is a reference, `grad` `[rows, T]` = d loss / d
/// new_logprobs, `grad_entropy` `[rows, T]` = d loss / d entropy.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The optimiser: `type = "grpo"` and its fields, at the top or in a table `optimizer`
    #[arg(long, value_name = "OPT.toml")]
    optimizer: PathBuf,
    /// Numbers of a batch
    #[arg(long = "in", value_name = "FILE.safetensors")]
    input: PathBuf,
    /// Where to write loss and gradients
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<()> {
    let optimizer = optimizer(&args.optimizer)?;
    let padded = Padded::read(&TensorInput::open(&args.input)?, &*optimizer)?;
    let (batch, places) = padded.pack();
    let loss = optimizer.loss(&batch);
    write(&args.out, &padded, &places, &loss)?;
    let mut text = format!("{} rows, {} tokens: loss {}\n", batch.rows(), batch.len(), loss.value);
    for (name, value) in &loss.metrics {
        text += &format!("  {name} = {value}\n");
    }
    print(&text)
}

fn optimizer(path: &Path) -> Result<Box<dyn PolicyOptimizer>> {
    /// The part of a config that is meant here.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        optimizer: Box<dyn PolicyOptimizer>,
    }
    let document = Document::read(path).map_err(imagent::Error::from)?;
    let read = if document.table().contains_key("optimizer") {
        document.decode::<File>().map(|file| file.optimizer)
    } else {
        document.decode()
    };
    Ok(read.map_err(imagent::Error::from)?)
}

/// A batch as it is in the file.
struct Padded {
    rows: usize,
    columns: usize,
    logprobs: Vec<f32>,
    old_logprobs: Vec<f32>,
    ref_logprobs: Option<Vec<f32>>,
    entropies: Vec<f32>,
    mask: Vec<f32>,
    advantages: Vec<f32>,
    groups: Vec<usize>,
}

impl Padded {
    fn read(file: &TensorInput, optimizer: &dyn PolicyOptimizer) -> Result<Self> {
        let Some(Tensor { shape, values: logprobs }) = file.floats("new_logprobs")? else {
            return Err(file.refuse("tensor `new_logprobs` is missing"));
        };
        let [rows, columns] = shape[..] else {
            return Err(file.refuse(&format!("tensor `new_logprobs`: expected shape [rows, T], got {shape:?}")));
        };
        let padded = |name| shaped(file, name, &[rows, columns]);
        let ref_logprobs = padded("ref_logprobs")?;
        if optimizer.needs_reference() && ref_logprobs.is_none() {
            return Err(file.refuse("tensor `ref_logprobs` is missing: this optimizer needs it"));
        }
        let mask = padded("mask")?.ok_or_else(|| file.refuse("tensor `mask` is missing"))?;
        let group = file.integers("group")?;
        if let Some(group) = &group {
            check(file, "group", &group.shape, &[rows])?;
        }
        let groups = group.map(|group| dense(&group.values));
        let advantages = advantages(file, optimizer, rows, groups.as_deref())?;
        Ok(Self {
            old_logprobs: padded("old_logprobs")?.unwrap_or_else(|| logprobs.clone()),
            entropies: padded("entropy")?.unwrap_or_else(|| vec![0.0; rows * columns]),
            groups: groups.unwrap_or_else(|| (0..rows).collect()),
            logprobs,
            ref_logprobs,
            mask,
            advantages,
            rows,
            columns,
        })
    }

    /// The numbers without padding (each row up to its last token that has weight), and where each token was.
    fn pack(&self) -> (TokenBatch, Vec<usize>) {
        let mut places = Vec::new();
        let mut offsets = vec![0];
        for (row, mask) in self.mask.chunks(self.columns.max(1)).enumerate() {
            let len = mask.iter().rposition(|&weight| weight != 0.0).map_or(0, |last| last + 1);
            places.extend((0..len).map(|column| row * self.columns + column));
            offsets.push(places.len());
        }
        offsets.resize(self.rows + 1, 0);
        let pick = |values: &[f32]| places.iter().map(|&place| values[place]).collect::<Vec<f32>>();
        let batch = TokenBatch {
            offsets,
            logprobs: pick(&self.logprobs),
            old_logprobs: pick(&self.old_logprobs),
            ref_logprobs: self.ref_logprobs.as_deref().map(pick),
            entropies: pick(&self.entropies),
            loss_mask: pick(&self.mask),
            advantages: self.advantages.clone(),
            groups: self.groups.clone(),
        };
        (batch, places)
    }
}

/// Given, or made from rewards group by group.
fn advantages(
    file: &TensorInput,
    optimizer: &dyn PolicyOptimizer,
    rows: usize,
    groups: Option<&[usize]>,
) -> Result<Vec<f32>> {
    let rewards = match (shaped(file, "rewards", &[rows])?, shaped(file, "advantages", &[rows])?) {
        (None, Some(advantages)) => return Ok(advantages),
        (Some(rewards), None) => rewards,
        _ => return Err(file.refuse("expected one of the tensors `rewards` and `advantages`")),
    };
    let groups = groups.ok_or_else(|| file.refuse("tensor `group` is missing: rewards need it"))?;
    let mut advantages = vec![0.0; rows];
    for group in 0..groups.iter().max().map_or(0, |last| last + 1) {
        let members: Vec<usize> = (0..rows).filter(|&row| groups[row] == group).collect();
        let rewards: Vec<f32> = members.iter().map(|&row| rewards[row]).collect();
        let own = optimizer.advantages_of(&rewards, &vec![true; rewards.len()]);
        members.into_iter().zip(own).for_each(|(row, advantage)| advantages[row] = advantage);
    }
    Ok(advantages)
}

/// Groups numbered by first appearance.
fn dense(groups: &[i64]) -> Vec<usize> {
    let mut known: Vec<i64> = Vec::new();
    let number = |group: &i64| {
        known.iter().position(|other| other == group).unwrap_or_else(|| {
            known.push(*group);
            known.len() - 1
        })
    };
    groups.iter().map(number).collect()
}

fn shaped(file: &TensorInput, name: &str, expected: &[usize]) -> Result<Option<Vec<f32>>> {
    let Some(Tensor { shape, values }) = file.floats(name)? else { return Ok(None) };
    check(file, name, &shape, expected)?;
    Ok(Some(values))
}

fn check(file: &TensorInput, name: &str, shape: &[usize], expected: &[usize]) -> Result<()> {
    if shape == expected {
        return Ok(());
    }
    Err(file.refuse(&format!("tensor `{name}`: expected shape {expected:?}, got {shape:?}")))
}

fn write(path: &Path, padded: &Padded, places: &[usize], loss: &TokenLoss) -> Result<()> {
    let shape = [padded.rows, padded.columns];
    let spread = |values: &[f32]| {
        let mut all = vec![0.0; padded.rows * padded.columns];
        places.iter().zip(values).for_each(|(&place, value)| all[place] = *value);
        all
    };
    if loss.d_logprobs.len() != places.len() {
        let (got, tokens) = (loss.d_logprobs.len(), places.len());
        anyhow::bail!("the optimizer gave {got} derivatives for {tokens} tokens");
    }
    let mut out = TensorOutput::default();
    out.floats("advantages", &[padded.rows], &padded.advantages);
    out.floats("loss", &[], &[loss.value as f32]);
    if let (Some(kl), true) = (loss.metrics.get("kl"), padded.ref_logprobs.is_some()) {
        out.floats("kl", &[], &[*kl as f32]);
    }
    out.floats("grad", &shape, &spread(&loss.d_logprobs));
    out.floats("grad_entropy", &shape, &spread(&loss.d_entropies));
    out.save(path)
}
