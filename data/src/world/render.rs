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
/// What stands behind the objects: a ramp along each axis, and noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backdrop {
    /// Darkest and brightest value of the two ramps, before noise.
    ramp: (usize, usize),
    /// The value of the channel that has no ramp, before noise.
    level: u8,
    /// Noise is uniform on `0..=noise`, a channel at a time; one less than a power of two.
    noise: u64,
    /// The channels of the ramp along x, of the level, and of the ramp along y.
    channels: [usize; 3],
}

impl Backdrop {
    /// Red grows with x, blue with y.
    pub const FIRST: Self = Self { ramp: (30, 105), level: 45, noise: 7, channels: [0, 1, 2] };
    /// The second world's: green grows with x, red with y.
    pub const SECOND: Self = Self { ramp: (30, 85), level: 120, noise: 15, channels: [1, 2, 0] };

    fn ramp(&self, cell: usize) -> u8 {
        (self.ramp.0 + (self.ramp.1 - self.ramp.0) * cell / (CELLS - 1)) as u8
    }
}

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
    render_on(&Backdrop::FIRST, scene, seed)
}

/// The same on another background.
pub fn render_on(backdrop: &Backdrop, scene: &Scene, seed: u64) -> RgbImage {
    let mut image = RgbImage::new(SIDE, SIDE);
    background(backdrop, &mut image, seed);
    for object in &scene.objects {
        draw(&mut image, object);
    }
    image
}

fn background(backdrop: &Backdrop, pixels: &mut [u8], seed: u64) {
    let mut state = derive(seed, &[]) | 1;
    let mut line = vec![0u8; STRIDE];
    for (row, band) in pixels.chunks_exact_mut(STRIDE * CELL).enumerate() {
        let down = backdrop.ramp(row);
        for (column, cell) in line.chunks_exact_mut(3 * CELL).enumerate() {
            let noise = xorshift(&mut state);
            let values = [backdrop.ramp(column), backdrop.level, down];
            let mut colour = [0; 3];
            for ((&channel, value), shift) in backdrop.channels.iter().zip(values).zip([20, 30, 40]) {
                colour[channel] = value + (noise >> shift & backdrop.noise) as u8;
            }
            cell.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&colour));
        }
        band.chunks_exact_mut(STRIDE).for_each(|target| target.copy_from_slice(&line));
    }
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
