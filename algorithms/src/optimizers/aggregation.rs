//! How the losses of tokens become one number.

use imagent_core::TokenBatch;
use serde::{Deserialize, Serialize};

/// The weight of each token's loss. With `w` the loss mask, `N` the rows and `N₊` the rows that have any weight:
///
/// | variant | weight of token t of row i | known as |
/// |---|---|---|
/// | `token_mean` | `w_t / Σ w` | DAPO; verl `token-mean`; TRL `bnpo`, `dapo` |
/// | `seq_mean_token_mean` | `w_t / (Σ_{row i} w · N₊)` | GRPO as published; verl `seq-mean-token-mean` |
/// | `all_seq_mean_token_mean` | `w_t / (Σ_{row i} w · N)` | TRL `grpo`; verl `seq-mean-token-mean` with a given `global_batch_size` |
/// | `seq_mean_token_sum` | `w_t / N₊` | verl `seq-mean-token-sum` |
/// | `constant` | `w_t / (length · N)` | Dr.GRPO; TRL `dr_grpo` |
///
/// Rows whose every token is masked do not count in `N₊`, as in verl. They count in `N`, as in TRL. verl's `seq-mean-token-sum-norm` divides by a factor alone: `length = factor / N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Aggregation {
    /// Every token counts alike.
    #[default]
    TokenMean,
    /// Every row counts alike, and within it every token.
    SeqMeanTokenMean,
    /// The same; rows without weight count too, with loss 0.
    AllSeqMeanTokenMean,
    /// Rows count by their length.
    SeqMeanTokenSum,
    /// A divisor that does not depend on lengths or masks.
    Constant {
        /// Tokens a row is taken to have; above 0.
        length: f64,
    },
}

impl Aggregation {
    /// `d loss / d (loss of a token)` for every token of the batch.
    pub fn weights(self, tokens: &TokenBatch) -> Vec<f64> {
        let row_mass = |row| tokens.loss_mask[tokens.row(row)].iter().map(|&w| f64::from(w)).sum::<f64>();
        let mass: Vec<f64> = (0..tokens.rows()).map(row_mass).collect();
        let live = mass.iter().filter(|&&m| m > 0.0).count() as f64;
        let total: f64 = mass.iter().sum();
        let mut weights = vec![0.0; tokens.len()];
        for (row, &mass) in mass.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
            let divisor = match self {
                Self::TokenMean => total,
                Self::SeqMeanTokenMean => mass * live,
                Self::AllSeqMeanTokenMean => mass * tokens.rows() as f64,
                Self::SeqMeanTokenSum => live,
                Self::Constant { length } => length * tokens.rows() as f64,
            };
            tokens.row(row).for_each(|i| weights[i] = f64::from(tokens.loss_mask[i]) / divisor);
        }
        weights
    }
}
