//! The figures of `footprint` against an allocator that counts: what a forward pass leaves for the backward pass.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use dfdx::prelude::*;
use image::RgbImage;
use imagent_models::config::{Config, Dtype};
use imagent_models::footprint::Footprint;
use imagent_models::image_processor::ImageProcessor;
use imagent_models::memory::Counting;
use imagent_models::published::Size;
use imagent_models::qwen::positions::GridSpan;
use imagent_models::qwen::{Qwen, Sequence, SequenceImage, Trace, Weights};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Published form, small, with few words.
fn config() -> Config {
    let mut config = Size::B3.config();
    let text = &mut config.text;
    (text.hidden_size, text.intermediate_size, text.layers, text.heads, text.kv_heads) = (128, 320, 3, 8, 2);
    (text.mrope_section, text.vocab_size) = ([2, 3, 3], 64);
    let vision = &mut config.vision;
    (vision.depth, vision.hidden_size, vision.intermediate_size, vision.heads) = (3, 64, 176, 4);
    (vision.out_hidden_size, vision.fullatt_block_indexes) = (128, vec![1]);
    config.dtype = Dtype::F32;
    config
}

/// Bytes that a forward pass with a tape holds, beside the model.
fn held(model: &Qwen<Cpu>, ids: &[u32], images: Vec<SequenceImage>) -> usize {
    let processor = ImageProcessor::default();
    let sequence = Sequence { ids, images, prompt_len: 0, targets: Vec::new() };
    let packed = model.pack(&[sequence]).unwrap();
    let patches: Vec<_> = packed.images.iter().map(|image| Arc::new(processor.patches(image).unwrap())).collect();
    let before = Counting::in_use();
    let tape = OwnedTape::<f32, Cpu>::default();
    let hidden = model.hidden(&packed, &patches, tape, &mut Trace::off()).unwrap();
    let held = Counting::in_use() - before;
    drop(hidden);
    held
}

fn image(model: &Qwen<Cpu>, side: u32) -> (Vec<u32>, Vec<SequenceImage>) {
    let cells = (side / 28) as usize;
    let ids = vec![model.config.tokens.image; cells * cells];
    let pixels = Arc::new(RgbImage::new(side, side));
    (ids, vec![SequenceImage { span: GridSpan { start: 0, rows: cells, columns: cells }, pixels }])
}

#[test]
fn activations_are_what_the_footprint_says() {
    // One thread: which of several takes a tile, and keeps working space for it, is chance.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(compare);
}

fn compare() {
    let mut config = config();
    config.tokens.image = 60;
    let weights = Weights::build(&config, &Cpu::default(), |_, shape| Ok(vec![0.01; shape.iter().product()])).unwrap();
    let model = Qwen::new(config, Cpu::default(), weights, Vec::new()).unwrap();
    let footprint = Footprint::of(&model.config);
    // Threads keep the working space of products from their first use on.
    let (ids, images) = image(&model, 16 * 28);
    held(&model, &ids, images);
    held(&model, &[5; 512], Vec::new());
    // Two lengths: what does not grow with the tokens drops out.
    let per = |few: usize, many: usize, tokens: usize| (many - few) as f64 / tokens as f64;
    let text = per(held(&model, &[5; 256], Vec::new()), held(&model, &[5; 512], Vec::new()), 256);
    let said = footprint.activations_per_token as f64;
    assert!((text / said - 1.0).abs() < 0.1, "{text} bytes a text token, said {said}");
    let ((few, one), (many, other)) = (image(&model, 8 * 28), image(&model, 16 * 28));
    let tokens = many.len() - few.len();
    let image = per(held(&model, &few, one), held(&model, &many, other), tokens);
    let said = footprint.activations_per_image_token as f64;
    assert!((image / said - 1.0).abs() < 0.1, "{image} bytes an image token, said {said}");
}
