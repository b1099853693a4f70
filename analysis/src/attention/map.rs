//! Weights over the cells of an image, drawn over its pixels.

use std::io::Cursor;

use image::imageops::FilterType;
use image::{ImageFormat, Rgb, RgbImage};

use crate::error::AnalysisError;

/// Longest side of a map.
const SIDE: u32 = 448;
/// From none to most: dark violet, red, yellow.
const COLORS: [[f32; 3]; 4] = [[20.0, 12.0, 50.0], [120.0, 28.0, 109.0], [237.0, 105.0, 37.0], [252.0, 255.0, 164.0]];
/// How much of the image shows through.
const GLASS: f32 = 0.35;

/// A PNG of the image in grey under its weights, `rows × columns` in reading order: the largest is the brightest.
///
/// # Errors
/// When the PNG cannot be made.
pub fn heat_map(pixels: &RgbImage, (rows, columns): (usize, usize), weights: &[f64]) -> Result<Vec<u8>, AnalysisError> {
    let scale = f64::from(SIDE) / f64::from(pixels.width().max(pixels.height()).max(1));
    let side = |side: u32| (f64::from(side) * scale).round().max(1.0) as u32;
    let mut image = image::imageops::resize(pixels, side(pixels.width()), side(pixels.height()), FilterType::Triangle);
    let most = weights.iter().copied().fold(0.0, f64::max);
    let (width, height) = (image.width(), image.height());
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let cell =
            |at: u32, side: u32, count: usize| (at as usize * count / side as usize).min(count.saturating_sub(1));
        let at = cell(y, height, rows) * columns + cell(x, width, columns);
        let weight = weights.get(at).copied().unwrap_or(0.0);
        let heat = color(if most > 0.0 { (weight / most) as f32 } else { 0.0 });
        let [r, g, b] = pixel.0.map(f32::from);
        let grey = 0.299 * r + 0.587 * g + 0.114 * b;
        *pixel = Rgb(heat.map(|c| (GLASS * grey + (1.0 - GLASS) * c).round() as u8));
    }
    let mut bytes = Vec::new();
    let written = image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png);
    written.map(|()| bytes).map_err(|source| AnalysisError::Image { index: 0, source })
}

fn color(heat: f32) -> [f32; 3] {
    let at = heat.clamp(0.0, 1.0) * (COLORS.len() - 1) as f32;
    let below = (at.floor() as usize).min(COLORS.len() - 2);
    let (a, b, t) = (COLORS[below], COLORS[below + 1], at - below as f32);
    [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_cell_is_the_brightest() {
        let png = heat_map(&RgbImage::new(20, 10), (1, 2), &[0.1, 0.4]).unwrap();
        let map = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!((map.width(), map.height()), (448, 224));
        let bright = |x: u32| map.get_pixel(x, 100).0.iter().map(|&c| u32::from(c)).sum::<u32>();
        assert!(bright(400) > 2 * bright(30), "{} {}", bright(400), bright(30));
        assert!(heat_map(&RgbImage::new(3, 3), (0, 0), &[]).is_ok());
    }
}
