//! Scenes to pixels.

use image::RgbImage;
use imagent_core::derive;

use super::font;
use super::scene::{Object, SIDE, Scene};

/// Side of a background cell: noise and ramps are constant on it, so that they survive the model's resize to a
/// quarter and a PNG stays small.
const CELL: usize = 4;
const CELLS: usize = SIDE as usize / CELL;
const STRIDE: usize = SIDE as usize * 3;
/// Darkest and brightest value of the two ramps, before noise.
const RAMP: (usize, usize) = (30, 105);
const GREEN: usize = 45;
/// Noise is uniform on `0..=NOISE`, a channel at a time.
const NOISE: u64 = 7;

/// The scene's image, 448×448; `seed` decides on the background noise and nothing else.
///
/// ```
/// use imagent_data::world::{Scene, render};
/// let image = render(&Scene::default(), 1);
/// assert_eq!(image.dimensions(), (448, 448));
/// assert!(image.get_pixel(447, 0)[0] > image.get_pixel(0, 0)[0] + 50, "red grows with x");
/// assert!(image.get_pixel(0, 447)[2] > image.get_pixel(0, 0)[2] + 50, "blue grows with y");
/// ```
pub fn render(scene: &Scene, seed: u64) -> RgbImage {
    let mut image = RgbImage::new(SIDE, SIDE);
    background(&mut image, seed);
    for object in &scene.objects {
        draw(&mut image, object);
    }
    image
}

fn background(pixels: &mut [u8], seed: u64) {
    let mut state = derive(seed, &[]) | 1;
    let mut line = vec![0u8; STRIDE];
    for (row, band) in pixels.chunks_exact_mut(STRIDE * CELL).enumerate() {
        let blue = ramp(row);
        for (column, cell) in line.chunks_exact_mut(3 * CELL).enumerate() {
            let noise = xorshift(&mut state);
            let colour = [
                ramp(column) + (noise >> 20 & NOISE) as u8,
                GREEN as u8 + (noise >> 30 & NOISE) as u8,
                blue + (noise >> 40 & NOISE) as u8,
            ];
            cell.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&colour));
        }
        band.chunks_exact_mut(STRIDE).for_each(|target| target.copy_from_slice(&line));
    }
}

fn ramp(cell: usize) -> u8 {
    (RAMP.0 + (RAMP.1 - RAMP.0) * cell / (CELLS - 1)) as u8
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn draw(image: &mut RgbImage, object: &Object) {
    let span = |centre: u32| centre.saturating_sub(object.half)..centre.saturating_add(object.half).min(SIDE);
    for y in span(object.centre.1) {
        for x in span(object.centre.0) {
            if object.covers(x, y) {
                image.put_pixel(x, y, image::Rgb(object.colour.rgb()));
            }
        }
    }
    let (left, top) = object.digit_at;
    for y in 0..font::HEIGHT {
        for x in 0..font::WIDTH {
            if font::is_set(object.digit, x, y)
                && let Some(pixel) = image.get_pixel_mut_checked(left.saturating_add(x), top.saturating_add(y))
            {
                *pixel = image::Rgb([255; 3]);
            }
        }
    }
}
