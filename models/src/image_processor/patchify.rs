//! Normalises bytes and cuts an image in patches, in the order the vision tower wants.

use std::mem::MaybeUninit;

use image::RgbImage;
use rayon::prelude::*;

use super::{Grid, ImageProcessor, Patches};

/// Images of fewer values stay on the calling thread.
const SERIAL: usize = 1 << 18;

/// The value of each of 256 levels in each channel: `(level / 255 - mean) / std`, rounded where transformers (Pillow
/// backend) rounds: the product `level · (1/255)` in f64 then to f32, the rest in f32.
fn levels(processor: &ImageProcessor) -> [[f32; 256]; 3] {
    let mut table = [[0.0; 256]; 3];
    for (channel, values) in table.iter_mut().enumerate() {
        let (mean, std) = (processor.mean[channel] as f32, processor.std[channel] as f32);
        for (level, value) in values.iter_mut().enumerate() {
            let unit = (level as f64 * (1.0 / 255.0)) as f32;
            *value = (unit - mean) / std;
        }
    }
    table
}

/// See [`ImageProcessor::patchify`]; the sides are multiples of the factor.
pub(super) fn patchify(processor: &ImageProcessor, image: &RgbImage) -> Patches {
    let (p, m, frames) =
        (processor.patch_size as usize, processor.merge_size as usize, processor.temporal_patch_size as usize);
    let table = levels(processor);
    let (width, pixels) = (image.width() as usize, image.as_raw().as_slice());
    let grid = Grid { t: 1, h: image.height() as usize / p, w: width / p };
    let plane = p * p;
    let fill = |block: usize, patches: &mut [MaybeUninit<f32>]| {
        let (block_row, block_column) = (block / (grid.w / m), block % (grid.w / m));
        for (inner, patch) in patches.chunks_exact_mut(3 * frames * plane).enumerate() {
            let top = (block_row * m + inner / m) * p;
            let left = (block_column * m + inner % m) * p;
            for (channel, (values, table)) in patch.chunks_exact_mut(frames * plane).zip(&table).enumerate() {
                let (first, others) = values.split_at_mut(plane);
                for (y, row) in first.chunks_exact_mut(p).enumerate() {
                    let pixels = &pixels[((top + y) * width + left) * 3..][..p * 3];
                    for (value, pixel) in row.iter_mut().zip(pixels.chunks_exact(3)) {
                        value.write(table[pixel[channel] as usize]);
                    }
                }
                others.chunks_exact_mut(plane).for_each(|frame| frame.copy_from_slice(first));
            }
        }
    };
    let block = m * m * 3 * frames * plane;
    let len = grid.patches() * 3 * frames * plane;
    let mut values = Vec::with_capacity(len);
    let room = &mut values.spare_capacity_mut()[..len];
    if len < SERIAL {
        room.chunks_exact_mut(block).enumerate().for_each(|(i, patches)| fill(i, patches));
    } else {
        room.par_chunks_exact_mut(block).enumerate().for_each(|(i, patches)| fill(i, patches));
    }
    // SAFETY: the sides are multiples of the factor, so blocks are whole, and `fill` writes every value of a block: all rows of
    // the first frame, and copies of it.
    unsafe { values.set_len(len) };
    Patches { grid, values }
}
