//! A contact sheet: a row of thumbnails for each of the first samples, their boxes drawn in.

use std::sync::Arc;

use image::imageops::{replace, thumbnail};
use image::{Rgb, RgbImage};

use super::entry::{Entry, on_image};
use crate::folder::write::png;

/// Samples on a sheet.
const ROWS: usize = 12;
/// Images of a sample that are shown.
const COLUMNS: u32 = 6;
/// Side of a thumbnail, and space around it, in pixels.
const SIDE: u32 = 192;
const GAP: u32 = 8;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([230, 0, 40]);

/// A contact sheet in the making.
#[derive(Debug, Default)]
pub struct Preview {
    rows: Vec<Vec<RgbImage>>,
}

impl Preview {
    /// Takes in a sample, unless the sheet is full.
    pub fn add(&mut self, entry: &Entry, images: &[Arc<RgbImage>]) {
        if self.rows.len() < ROWS {
            let shown = images.iter().take(COLUMNS as usize).enumerate();
            self.rows.push(shown.map(|(nth, image)| tile(entry, nth + 1, images.len(), image)).collect());
        }
    }

    /// The sheet: as many rows as there are samples.
    pub fn sheet(&self) -> RgbImage {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
        let extent = |tiles: u32| tiles * (SIDE + GAP) + GAP;
        let mut sheet = RgbImage::from_pixel(extent(columns), extent(self.rows.len() as u32), PAPER);
        for (row, tiles) in (0u32..).zip(&self.rows) {
            for (column, tile) in (0u32..).zip(tiles) {
                replace(&mut sheet, tile, i64::from(extent(column)), i64::from(extent(row)));
            }
        }
        sheet
    }

    /// The sheet as a PNG file.
    ///
    /// # Errors
    /// A text that says why it cannot be one.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        png(&self.sheet())
    }
}

/// Image `number` of the entry, made small, with its boxes.
fn tile(entry: &Entry, number: usize, images: usize, image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let scale = f64::from(SIDE) / f64::from(width.max(height).max(1));
    let small = |side: u32| ((f64::from(side) * scale) as u32).clamp(1, SIDE);
    let mut tile = thumbnail(image, small(width), small(height));
    for region in entry.regions().filter(|region| region.image.unwrap_or(images) == number) {
        let b = on_image(region, (width, height));
        outline(&mut tile, [b.x1, b.y1, b.x2, b.y2].map(|edge| (edge * scale) as u32));
    }
    tile
}

fn outline(tile: &mut RgbImage, [x1, y1, x2, y2]: [u32; 4]) {
    let (right, bottom) = (tile.width() - 1, tile.height() - 1);
    let (x1, x2, y1, y2) = (x1.min(right), x2.min(right), y1.min(bottom), y2.min(bottom));
    for x in x1..=x2 {
        tile.put_pixel(x, y1, INK);
        tile.put_pixel(x, y2, INK);
    }
    for y in y1..=y2 {
        tile.put_pixel(x1, y, INK);
        tile.put_pixel(x2, y, INK);
    }
}
