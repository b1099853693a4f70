//! What the golden tests share: the numbers that verl and TRL compute, by case. `IMAGENT_RL_GOLDEN` names another folder of
//! `make_rl_golden.py`, with another seed.
#![allow(dead_code, reason = "each test binary uses its share")]

use std::path::{Path, PathBuf};

use imagent_core::{TokenBatch, TokenLoss};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The numbers of one seed.
pub(crate) struct Golden {
    bytes: Vec<u8>,
    pub(crate) cases: Vec<Value>,
    /// The commit of verl.
    pub(crate) verl: String,
}

impl Golden {
    pub(crate) fn open() -> Self {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rl");
        let folder = std::env::var_os("IMAGENT_RL_GOLDEN").map_or(own, PathBuf::from);
        let manifest: Value = serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        let bytes = std::fs::read(folder.join("rl_golden.safetensors")).unwrap();
        let verl = manifest["verl_commit"].as_str().unwrap().to_owned();
        Self { bytes, cases: manifest["cases"].as_array().unwrap().clone(), verl }
    }

    pub(crate) fn tensor(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap_or_else(|_| panic!("no tensor {name}"));
        match view.dtype() {
            Dtype::F32 => view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::I64 => {
                view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            other => panic!("{name}: {other:?}"),
        }
    }

    pub(crate) fn input(&self, case: &Value, name: &str) -> Vec<f32> {
        let listed = case["inputs"].get(name).and_then(Value::as_str);
        let set = case["set"].as_str().unwrap();
        match listed {
            Some(full) if full.contains('/') => self.tensor(full),
            Some(short) => self.tensor(&format!("{set}/in/{short}")),
            None => self.tensor(&format!("{set}/in/{name}")),
        }
    }

    pub(crate) fn output(&self, case: &Value, name: &str) -> Vec<f32> {
        self.tensor(case["outputs"][name].as_str().unwrap())
    }

    /// All rows with all their tokens; masked ones have weight 0.
    pub(crate) fn batch(&self, case: &Value) -> TokenBatch {
        let loss_mask = self.input(case, "response_mask");
        let set = case["set"].as_str().unwrap();
        let rows = self.tensor(&format!("{set}/in/group")).len();
        let width = loss_mask.len() / rows;
        let mut tokens = TokenBatch {
            offsets: (0..=rows).map(|row| row * width).collect(),
            logprobs: self.input(case, "new_logprobs"),
            old_logprobs: self.input(case, "old_logprobs"),
            ref_logprobs: None,
            entropies: vec![0.0; loss_mask.len()],
            groups: self.tensor(&format!("{set}/in/group")).iter().map(|&group| group as usize).collect(),
            advantages: vec![0.0; rows],
            token_advantages: None,
            loss_mask,
        };
        if case["inputs"].get("advantages").is_some() {
            let given = self.input(case, "advantages");
            tokens.advantages = if given.len() == rows {
                given
            } else {
                let counted = |row| tokens.row(row).find(|&i| tokens.loss_mask[i] > 0.0);
                (0..rows).map(|row| counted(row).map_or(0.0, |i| given[i])).collect()
            };
        }
        tokens
    }
}

#[track_caller]
pub(crate) fn assert_close(name: &str, got: f64, want: f32) {
    let want = f64::from(want);
    let bound = 2e-5 * want.abs() + 2e-6;
    assert!((got - want).abs() <= bound, "{name}: got {got}, want {want}");
}

pub(crate) fn assert_all_close(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        assert_close(&format!("{name}[{i}]"), f64::from(got), want);
    }
}

pub(crate) fn number(case: &Value, key: &str) -> Option<f32> {
    case["hyper"].get(key).and_then(Value::as_f64).map(|value| value as f32)
}

pub(crate) fn check_loss(name: &str, loss: &TokenLoss, tokens: &TokenBatch, want: f32, gradient: &[f32]) {
    assert_close(&format!("{name}/loss"), loss.value, want);
    assert_all_close(&format!("{name}/grad"), &loss.d_logprobs, gradient);
    for (slope, weight) in loss.d_logprobs.iter().zip(&tokens.loss_mask) {
        assert!(*weight > 0.0 || slope.to_bits() == 0, "{name}: masked gradient {slope}");
    }
}
