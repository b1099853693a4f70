//! Conversations as tokens, and the loss of a supervised batch, against transformers; `tests/parity/make_sft_golden.py` made the
//! figures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dfdx::prelude::Cpu;
use image::RgbImage;
use imagent_core::{Content, Message, Role, TokenLoss, TokenScores};
use imagent_models::adamw::AdamWConfig;
use imagent_models::conversation::Conversation;
use imagent_models::policy::QwenPolicy;
use imagent_models::qwen::positions::GridSpan;
use imagent_models::qwen::{Sequence, SequenceImage, Target};
use serde_json::{Value, json};

fn parity() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity")
}

fn policy() -> QwenPolicy<Cpu> {
    QwenPolicy::open(&parity().join("single_image/checkpoint"), Cpu::default(), AdamWConfig::default()).unwrap()
}

/// The golden conversations: messages and images.
fn conversations() -> Vec<(Vec<Message>, Vec<Arc<RgbImage>>)> {
    let text = std::fs::read_to_string(parity().join("sft/samples.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| {
        let open = |name: &Value| {
            let image = image::open(parity().join("sft").join(name.as_str().unwrap())).unwrap();
            Arc::new(image.to_rgb8())
        };
        let images: Vec<_> = row["images"].as_array().unwrap().iter().map(open).collect();
        let turns = row["meta"]["conversation"].as_array().unwrap();
        let mut messages: Vec<Message> = turns.iter().map(message).collect();
        let marked = messages.iter().any(|message| message.content.contains(&Content::Image));
        if !marked {
            messages[0].content.splice(0..0, images.iter().map(|_| Content::Image));
        }
        (messages, images)
    })
    .collect()
}

fn message(turn: &Value) -> Message {
    let role: Role = serde_json::from_value(turn["role"].clone()).unwrap();
    let mut content = Vec::new();
    for (nth, text) in turn["content"].as_str().unwrap().split("<image>").enumerate() {
        content.extend((nth > 0).then_some(Content::Image));
        content.extend((!text.is_empty()).then(|| Content::text(text)));
    }
    Message { role, content }
}

fn sequence(said: &Conversation) -> Sequence<'_> {
    let images = said.segment.images.iter().map(|image| SequenceImage {
        span: GridSpan { start: image.start, rows: image.rows, columns: image.columns },
        pixels: Arc::clone(&image.pixels),
    });
    let ids = &said.segment.ids;
    let target = |p: usize| Target { row: p - 1, id: ids[p], suppress: false };
    let targets = said.taught.iter().cloned().flatten().map(target).collect();
    Sequence { ids, images: images.collect(), prompt_len: 0, targets }
}

fn mean(scores: &TokenScores) -> TokenLoss {
    let count = scores.logprobs.len() as f64;
    TokenLoss {
        value: -scores.logprobs.iter().map(|&logprob| f64::from(logprob)).sum::<f64>() / count,
        d_logprobs: vec![(-1.0 / count) as f32; scores.logprobs.len()],
        d_entropies: Vec::new(),
        metrics: BTreeMap::new(),
    }
}

#[test]
fn tokens_loss_and_gradient_of_a_batch_are_those_of_transformers() {
    let golden: Value = serde_json::from_slice(&std::fs::read(parity().join("sft/golden.json")).unwrap()).unwrap();
    let codec = Arc::clone(policy().codec());
    let said: Vec<Conversation> =
        conversations().iter().map(|(messages, images)| codec.conversation(messages, &[], images).unwrap()).collect();
    let mut expected: Vec<f64> = Vec::new();
    for (said, wanted) in said.iter().zip(golden["conversations"].as_array().unwrap()) {
        assert_eq!(json!(said.segment.ids), wanted["ids"], "{}", wanted["id"]);
        let taught: Vec<usize> = said.taught.iter().cloned().flatten().collect();
        assert_eq!(json!(taught), wanted["taught"], "{}", wanted["id"]);
        expected.extend(wanted["logprobs"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()));
    }
    let sequences: Vec<_> = said.iter().map(sequence).collect();
    let (loss, norm) = (golden["loss"].as_f64().unwrap(), golden["grad_norm"].as_f64().unwrap());
    // In one pass, and in parts that are scored first and then run again.
    for max_rows in [16_384, 100] {
        let mut policy = policy();
        policy.limits.max_rows = max_rows;
        let mut worst = 0.0f64;
        let report = policy.update_sequences(&sequences, 1.0, &mut |scores| {
            assert_eq!(scores.logprobs.len(), expected.len());
            let apart = scores.logprobs.iter().zip(&expected).map(|(own, wanted)| (f64::from(*own) - wanted).abs());
            worst = apart.fold(0.0, f64::max);
            mean(scores)
        });
        let report = report.unwrap();
        println!(
            "{max_rows} rows: loss {} for {loss}, tokens {worst:.2e}, norm {} for {norm}",
            report.loss.value, report.grad_norm
        );
        assert!(worst < 1e-4, "a token is {worst} off");
        assert!((report.loss.value - loss).abs() < 1e-4);
        assert!((report.grad_norm / norm - 1.0).abs() < 1e-3);
    }
}

#[test]
fn conversations_that_cannot_be_taught_are_refused() {
    let policy = policy();
    let image = Arc::new(RgbImage::new(56, 56));
    let said = |messages: &[Message], images: &[Arc<RgbImage>]| {
        policy
            .codec()
            .conversation(messages, &[], images)
            .map(|said| said.taught.len())
            .map_err(|error| error.to_string())
    };
    let asked = |content: Vec<Content>| Message { role: Role::User, content };
    let answer = Message::text(Role::Assistant, "yes");
    let one = asked(vec![Content::Image, Content::text("?")]);
    assert_eq!(said(&[one.clone(), answer.clone()], std::slice::from_ref(&image)), Ok(1));
    assert_eq!(said(std::slice::from_ref(&one), &[]), Ok(0));
    let both = [Arc::clone(&image), image];
    assert!(said(&[one.clone(), answer.clone()], &both).unwrap_err().contains("1 image placeholders, but 2 images"));
    assert!(said(&[one.clone(), answer], &[]).unwrap_err().contains("1 image placeholders, but 0 images"));
    let drawn = Message { role: Role::Assistant, content: vec![Content::Image] };
    assert!(said(&[one, drawn], &both).unwrap_err().contains("an assistant's turn has an image"));
}
