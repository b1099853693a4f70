//! Normalises bytes and cuts an image in patches, in the order the vision tower wants.

use image::RgbImage;

use super::{Grid, ImageProcessor, Patches};

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
    let mut values = Vec::with_capacity(grid.patches() * 3 * frames * p * p);
    for block in 0..grid.h / m * (grid.w / m) {
        let (block_row, block_column) = (block / (grid.w / m), block % (grid.w / m));
        for inner in 0..m * m {
            let top = (block_row * m + inner / m) * p;
            let left = (block_column * m + inner % m) * p;
            for (channel, table) in table.iter().enumerate() {
                let start = values.len();
                for y in top..top + p {
                    let row = &pixels[(y * width + left) * 3..(y * width + left + p) * 3];
                    values.extend(row.chunks_exact(3).map(|pixel| table[pixel[channel] as usize]));
                }
                let end = values.len();
                for _ in 1..frames {
                    values.extend_from_within(start..end);
                }
            }
        }
    }
    Patches { grid, values }
}
