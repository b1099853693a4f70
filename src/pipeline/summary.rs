//! What a pipeline did: how many items each step had, why it rejected some, and what it cost.

use std::collections::BTreeMap;

use imagent_analysis::table;
use serde::{Deserialize, Serialize};

use super::journal::Cost;

/// What a million tokens of a served model cost, in whatever currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Of what is asked.
    pub prompt: f64,
    /// Of what is replied.
    pub completion: f64,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSummary {
    /// The role.
    pub name: String,
    /// Items that came to it.
    pub items: usize,
    /// Items that went on.
    pub kept: usize,
    /// Items that did not, by reason, without what stands in brackets.
    pub rejected: BTreeMap<String, usize>,
    /// What served models were asked.
    pub cost: Cost,
    /// What that cost, where the price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
}

impl StepSummary {
    /// Of items, each with the reason why it did not go on, if it did not.
    pub(super) fn of<'a>(name: &str, lines: impl Iterator<Item = Option<&'a str>>) -> Self {
        let (rejected, cost) = (BTreeMap::new(), Cost::default());
        let mut step = Self { name: name.to_owned(), items: 0, kept: 0, rejected, cost, price: None };
        for why in lines {
            step.items += 1;
            match why {
                None => step.kept += 1,
                Some(why) => {
                    let word = why.split(" (").next().unwrap_or(why).to_owned();
                    *step.rejected.entry(word).or_default() += 1;
                }
            }
        }
        step
    }

    /// The same with what it cost.
    pub(super) fn costing(self, cost: Cost, price: Option<&Price>) -> Self {
        let of = |tokens: usize, price: f64| tokens as f64 * price / 1e6;
        let price =
            price.map(|price| of(cost.prompt_tokens, price.prompt) + of(cost.completion_tokens, price.completion));
        Self { cost, price, ..self }
    }
}

/// All steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// In order; the last one keeps the samples of the dataset.
    pub steps: Vec<StepSummary>,
}

impl Summary {
    /// Samples of the dataset.
    pub fn samples(&self) -> usize {
        self.steps.last().map_or(0, |step| step.kept)
    }

    /// As a table, with reasons below.
    pub fn table(&self) -> String {
        let row = |step: &StepSummary| {
            let Cost { requests, prompt_tokens, completion_tokens, seconds } = step.cost;
            let numbers = [step.items, step.kept, step.items - step.kept, requests, prompt_tokens, completion_tokens];
            let price = step.price.map_or_else(String::new, |price| format!("{price:.4}"));
            [step.name.clone()]
                .into_iter()
                .chain(numbers.map(|n| n.to_string()))
                .chain([format!("{seconds:.1}"), price])
                .collect()
        };
        let rows: Vec<Vec<String>> = self.steps.iter().map(row).collect();
        let header =
            ["step", "items", "kept", "rejected", "requests", "prompt tokens", "reply tokens", "seconds", "price"];
        let reasons = self.steps.iter().flat_map(|step| {
            step.rejected.iter().map(|(why, count)| vec![step.name.clone(), why.clone(), count.to_string()])
        });
        let reasons: Vec<Vec<String>> = reasons.collect();
        let below =
            if reasons.is_empty() { String::new() } else { table(&["step", "rejected for", "count"], &reasons) };
        format!("{}\n{below}", table(&header, &rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_without_what_stands_in_brackets() {
        let cost = Cost { requests: 4, prompt_tokens: 2_000_000, completion_tokens: 1_000_000, seconds: 1.5 };
        let lines = [None, Some("easy (1 of 4)"), Some("easy (2 of 4)")];
        let price = Price { prompt: 2.0, completion: 4.0 };
        let step = StepSummary::of("a", lines.into_iter()).costing(cost, Some(&price));
        assert_eq!((step.items, step.kept, step.rejected["easy"], step.cost.requests), (3, 1, 2, 4));
        assert_eq!(step.price, Some(8.0));
        let text = Summary { steps: vec![step] }.table();
        assert!(text.contains("8.0000") && text.contains("easy"), "{text}");
    }
}
