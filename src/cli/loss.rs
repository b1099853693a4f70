//! `imagent loss`: one optimiser on given numbers, so that others can check it. Reads and writes padded tensors; packs
//! them as the train loop does.

use std::path::{Path, PathBuf};

use anyhow::Result;
use imagent::config::Document;
use imagent_core::{Advantages, Outcomes, PolicyOptimizer, TokenBatch, TokenLoss};
use serde::Deserialize;

use super::print;
use super::tensors::{Tensor, TensorInput, TensorOutput};

/// Arguments of `imagent loss`.
///
/// FILE of --in: `new_logprobs`, `old_logprobs`, `mask` `[rows, T]` (old_logprobs left out: those of the new policy;
/// mask: loss weights, 0 for padding), `ref_logprobs`, `entropy` `[rows, T]` where used; `rewards` or `advantages`,
/// `[rows]` or token by token `[rows, T]`; `group` `[rows]`, needed with rewards; `in_baseline` `[rows]`, 0 for rows that do
/// not count in means and deviations; `correction` `[rows, T]`, factors on the tokens' policy loss.
///
/// FILE of --out: `advantages` `[rows]` (where tokens differ, `token_advantages` `[rows, T]` and their means), `loss`, `kl`
/// where there is a reference, `grad` `[rows, T]` = d loss / d new_logprobs, `grad_entropy` `[rows, T]` = d loss / d entropy.
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
    let (mut batch, places) = padded.pack();
    let advantages = padded.advantages(&*optimizer, &batch, &places);
    batch.advantages.clone_from(&advantages.rows);
    batch.token_advantages = padded.corrected(&batch, &places, advantages.tokens.as_deref());
    let loss = optimizer.loss(&batch);
    write(&args.out, &padded, &places, &advantages, &loss)?;
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
    correction: Option<Vec<f32>>,
    worth: Worth,
    groups: Vec<usize>,
    in_baseline: Vec<bool>,
}

/// What rows are worth: one number each, or one for each token.
enum Worth {
    Rewards(Vec<f32>),
    TokenRewards(Vec<f32>),
    Advantages(Vec<f32>),
    TokenAdvantages(Vec<f32>),
}

impl Worth {
    fn read(file: &TensorInput, rows: usize, columns: usize) -> Result<Self> {
        let (name, tensor) = match (file.floats("rewards")?, file.floats("advantages")?) {
            (Some(tensor), None) => ("rewards", tensor),
            (None, Some(tensor)) => ("advantages", tensor),
            _ => return Err(file.refuse("expected one of the tensors `rewards` and `advantages`")),
        };
        let by_token = tensor.shape.len() == 2;
        let expected = [rows, columns];
        check(file, name, &tensor.shape, &expected[..if by_token { 2 } else { 1 }])?;
        Ok(match (name, by_token) {
            ("rewards", false) => Self::Rewards(tensor.values),
            ("rewards", true) => Self::TokenRewards(tensor.values),
            (_, false) => Self::Advantages(tensor.values),
            (_, true) => Self::TokenAdvantages(tensor.values),
        })
    }

    fn needs_groups(&self) -> bool {
        matches!(self, Self::Rewards(_) | Self::TokenRewards(_))
    }
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
        let worth = Worth::read(file, rows, columns)?;
        let groups = groups(file, rows)?;
        if worth.needs_groups() && groups.is_none() {
            return Err(file.refuse("tensor `group` is missing: rewards need it"));
        }
        let in_baseline = shaped(file, "in_baseline", &[rows])?.unwrap_or_else(|| vec![1.0; rows]);
        Ok(Self {
            old_logprobs: padded("old_logprobs")?.unwrap_or_else(|| logprobs.clone()),
            entropies: padded("entropy")?.unwrap_or_else(|| vec![0.0; rows * columns]),
            correction: padded("correction")?,
            groups: groups.unwrap_or_else(|| (0..rows).collect()),
            in_baseline: in_baseline.iter().map(|&counts| counts != 0.0).collect(),
            logprobs,
            ref_logprobs,
            mask,
            worth,
            rows,
            columns,
        })
    }

    /// The numbers without padding (each row up to its last token that has weight), and where each token was. There are no
    /// advantages yet.
    fn pack(&self) -> (TokenBatch, Vec<usize>) {
        let mut places = Vec::new();
        let mut offsets = vec![0];
        for (row, mask) in self.mask.chunks(self.columns.max(1)).enumerate() {
            let len = mask.iter().rposition(|&weight| weight != 0.0).map_or(0, |last| last + 1);
            places.extend((0..len).map(|column| row * self.columns + column));
            offsets.push(places.len());
        }
        offsets.resize(self.rows + 1, 0);
        let pick = |values: &[f32]| pick(values, &places);
        let batch = TokenBatch {
            offsets,
            logprobs: pick(&self.logprobs),
            old_logprobs: pick(&self.old_logprobs),
            ref_logprobs: self.ref_logprobs.as_deref().map(pick),
            entropies: pick(&self.entropies),
            loss_mask: pick(&self.mask),
            advantages: vec![0.0; self.rows],
            token_advantages: None,
            groups: self.groups.clone(),
        };
        (batch, places)
    }

    /// Given, or made from rewards.
    fn advantages(&self, optimizer: &dyn PolicyOptimizer, batch: &TokenBatch, places: &[usize]) -> Advantages {
        let (rewards, token_rewards) = match &self.worth {
            Worth::Advantages(rows) => return Advantages { rows: rows.clone(), tokens: None },
            Worth::TokenAdvantages(tokens) => {
                let tokens = pick(tokens, places);
                return Advantages { rows: means(batch, &tokens), tokens: Some(tokens) };
            }
            Worth::Rewards(rows) => (rows.clone(), None),
            Worth::TokenRewards(tokens) => {
                let sums =
                    tokens.chunks(self.columns.max(1)).map(|row| row.iter().map(|&x| f64::from(x)).sum::<f64>() as f32);
                (sums.collect(), Some(pick(tokens, places)))
            }
        };
        let outcomes = Outcomes {
            offsets: batch.offsets.clone(),
            groups: self.groups.clone(),
            in_baseline: self.in_baseline.clone(),
            rewards,
            token_rewards,
            loss_mask: batch.loss_mask.clone(),
            old_logprobs: Some(batch.old_logprobs.clone()),
            ref_logprobs: batch.ref_logprobs.clone(),
        };
        let by_group = || Advantages { rows: by_group(optimizer, &outcomes), tokens: None };
        optimizer.batch_advantages(&outcomes).unwrap_or_else(by_group)
    }

    /// The advantages of tokens, where they differ within rows, with the corrections in them.
    fn corrected(&self, batch: &TokenBatch, places: &[usize], tokens: Option<&[f32]>) -> Option<Vec<f32>> {
        let Some(correction) = &self.correction else { return tokens.map(<[f32]>::to_vec) };
        let factors = pick(correction, places);
        let rows = (0..batch.rows()).flat_map(|row| batch.row(row).map(move |i| (row, i)));
        Some(rows.map(|(row, i)| factors[i] * tokens.map_or(batch.advantages[row], |all| all[i])).collect())
    }
}

fn pick(values: &[f32], places: &[usize]) -> Vec<f32> {
    places.iter().map(|&place| values[place]).collect()
}

/// The mean of each row's tokens by loss weight; 0 for a row without weight.
fn means(batch: &TokenBatch, tokens: &[f32]) -> Vec<f32> {
    let mean = |row: usize| {
        let mass: f64 = batch.loss_mask[batch.row(row)].iter().map(|&weight| f64::from(weight)).sum();
        let sum: f64 = batch.row(row).map(|i| f64::from(batch.loss_mask[i]) * f64::from(tokens[i])).sum();
        if mass > 0.0 { (sum / mass) as f32 } else { 0.0 }
    };
    (0..batch.rows()).map(mean).collect()
}

/// The advantages of each group by itself.
fn by_group(optimizer: &dyn PolicyOptimizer, outcomes: &Outcomes) -> Vec<f32> {
    let Outcomes { groups, rewards, in_baseline, .. } = outcomes;
    let mut advantages = vec![0.0; rewards.len()];
    for group in 0..groups.iter().max().map_or(0, |last| last + 1) {
        let members: Vec<usize> = (0..rewards.len()).filter(|&row| groups[row] == group).collect();
        let own: Vec<f32> = members.iter().map(|&row| rewards[row]).collect();
        let counts: Vec<bool> = members.iter().map(|&row| in_baseline[row]).collect();
        let values = optimizer.advantages_of(&own, &counts);
        members.into_iter().zip(values).for_each(|(row, advantage)| advantages[row] = advantage);
    }
    advantages
}

fn groups(file: &TensorInput, rows: usize) -> Result<Option<Vec<usize>>> {
    let Some(group) = file.integers("group")? else { return Ok(None) };
    check(file, "group", &group.shape, &[rows])?;
    Ok(Some(dense(&group.values)))
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

fn write(path: &Path, padded: &Padded, places: &[usize], advantages: &Advantages, loss: &TokenLoss) -> Result<()> {
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
    out.floats("advantages", &[padded.rows], &advantages.rows);
    if let Some(tokens) = &advantages.tokens {
        out.floats("token_advantages", &shape, &spread(tokens));
    }
    out.floats("loss", &[], &[loss.value as f32]);
    if let (Some(kl), true) = (loss.metrics.get("kl"), padded.ref_logprobs.is_some()) {
        out.floats("kl", &[], &[*kl as f32]);
    }
    out.floats("grad", &shape, &spread(&loss.d_logprobs));
    out.floats("grad_entropy", &shape, &spread(&loss.d_entropies));
    out.save(path)
}
