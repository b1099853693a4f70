//! Grey pictures with a square in the top right corner.

use std::sync::Arc;

use imagent::prelude::*;

/// Side of a picture in pixels.
pub(crate) const SIDE: u32 = 28;
/// Side of the square.
pub(crate) const SQUARE: u32 = 7;

/// `count` samples; sample `i` has the answer `i mod 4`.
pub fn samples(count: usize) -> Vec<Arc<Sample>> {
    (0..count).map(|i| Arc::new(sample(i, i as u8 % 4))).collect()
}

fn sample(i: usize, answer: u8) -> Sample {
    let shade = |x: u32, y: u32| if x >= SIDE - SQUARE && y < SQUARE { 32 + 64 * answer } else { 136 };
    Sample {
        id: format!("square-{i}"),
        images: vec![Arc::new(RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb([shade(x, y); 3])))],
        later_images: Vec::new(),
        question: "Which shade?".to_owned(),
        answer: answer.to_string(),
        kind: String::new(),
        zooms_needed: Some(1),
        gold: Vec::new(),
        meta: Default::default(),
    }
}
