//! Samples of the components to colours: libjpeg's triangle filters over chroma, its fixed-point conversion from YCbCr,
//! and Pillow's from CMYK.

use image::RgbImage;

use super::frame::{Component, Frame};
use super::{Problem, Result};

/// What the file says of its colours besides the components.
#[derive(Default)]
pub(super) struct ColourHints {
    /// There is a JFIF block.
    pub(super) jfif: bool,
    /// The transform that Adobe's block names.
    adobe: Option<u8>,
}

impl ColourHints {
    /// Reads application data 14.
    pub(super) fn see_adobe(&mut self, body: &[u8]) {
        if let (true, Some(&transform)) = (body.starts_with(b"Adobe"), body.get(11)) {
            self.adobe = Some(transform);
        }
    }

    /// Whether three components are red, green and blue.
    fn is_rgb(&self, ids: [u8; 3]) -> bool {
        match (self.jfif, self.adobe) {
            (true, _) => false,
            (false, Some(transform)) => transform == 0,
            (false, None) => ids == *b"RGB",
        }
    }
}

/// How a component's samples are stretched to the picture's.
#[derive(Clone, Copy)]
enum Stretch {
    None,
    /// Twice in x.
    X,
    /// Twice in y.
    Y,
    /// Twice in both.
    XY,
    /// Repeated so often in x and y.
    Repeat(usize, usize),
}

impl Stretch {
    fn of(component: &Component, most: (usize, usize)) -> Result<Self> {
        let (x, y) = component.sampling;
        if !most.0.is_multiple_of(x) || !most.1.is_multiple_of(y) {
            return Err(Problem::Unsupported("sampling by fractions"));
        }
        let wide = component.width > 2;
        Ok(match (most.0 / x, most.1 / y) {
            (1, 1) => Self::None,
            (2, 1) if wide => Self::X,
            (1, 2) => Self::Y,
            (2, 2) if wide => Self::XY,
            (x, y) => Self::Repeat(x, y),
        })
    }

    /// Row `y` of the picture into `out`, which has room for whole samples.
    fn row(self, component: &Component, y: usize, out: &mut [u8], sums: &mut Vec<u16>) {
        let stride = component.stride();
        let line = |y: usize| &component.samples[y * stride..][..component.width];
        // The row that y lies in, and the one that it is next to.
        let pair = |y: usize| {
            let near = (y / 2).min(component.height - 1);
            let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(component.height - 1) };
            line(near).iter().zip(line(far)).map(|(&a, &b)| 3 * u16::from(a) + u16::from(b))
        };
        match self {
            Self::None => out[..component.width].copy_from_slice(line(y)),
            Self::Repeat(dx, dy) => {
                for (chunk, &sample) in out.chunks_mut(dx).zip(line(y / dy)) {
                    chunk.fill(sample);
                }
            }
            Self::Y => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                out.iter_mut().zip(pair(y)).for_each(|(out, sum)| *out = ((sum + bias) >> 2) as u8);
            }
            Self::X => {
                sums.clear();
                sums.extend(line(y).iter().map(|&sample| u16::from(sample)));
                triangle(sums, out, (1, 2), 2);
            }
            Self::XY => {
                sums.clear();
                sums.extend(pair(y));
                triangle(sums, out, (8, 7), 4);
            }
        }
    }
}

/// Two values for each of `sums`, a quarter of the way to its neighbours, shifted down by `shift`; `bias` rounds the left
/// and the right one.
fn triangle(sums: &[u16], out: &mut [u8], bias: (u16, u16), shift: u32) {
    let last = sums.len() - 1;
    for (i, (out, &sum)) in out.as_chunks_mut::<2>().0.iter_mut().zip(sums).enumerate() {
        let left = sums[i.saturating_sub(1)];
        let right = sums[(i + 1).min(last)];
        *out = [((3 * sum + left + bias.0) >> shift) as u8, ((3 * sum + right + bias.1) >> shift) as u8];
    }
}

/// The picture of a frame whose samples are complete.
pub(super) fn to_rgb(frame: &Frame, hints: &ColourHints) -> Result<RgbImage> {
    let stretches = frame.components.iter().map(|component| Stretch::of(component, frame.sampling));
    let stretches = stretches.collect::<Result<Vec<_>>>()?;
    let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
    let room = frame.components.iter().map(|c| c.stride()).max().unwrap_or(0) * 4;
    let mut rows = vec![vec![0u8; room]; frame.components.len()];
    let mut sums = Vec::new();
    let mut image = RgbImage::new(frame.width as u32, frame.height as u32);
    for (y, line) in image.as_mut().chunks_exact_mut(3 * frame.width).enumerate() {
        for ((component, stretch), row) in frame.components.iter().zip(&stretches).zip(&mut rows) {
            stretch.row(component, y, row, &mut sums);
        }
        let line = line.as_chunks_mut::<3>().0;
        match rows.as_slice() {
            [grey] => line.iter_mut().zip(grey).for_each(|(pixel, &level)| *pixel = [level; 3]),
            [a, b, c] => {
                let rgb = hints.is_rgb([ids[0], ids[1], ids[2]]);
                for (pixel, ((&a, &b), &c)) in line.iter_mut().zip(a.iter().zip(b).zip(c)) {
                    *pixel = if rgb { [a, b, c] } else { from_ycc(a, b, c) };
                }
            }
            [a, b, c, k] => {
                let ycck = hints.adobe == Some(2);
                for (pixel, (((&a, &b), &c), &k)) in line.iter_mut().zip(a.iter().zip(b).zip(c).zip(k)) {
                    let cmy = if ycck { from_ycc(a, b, c).map(|x| 255 - x) } else { [a, b, c] };
                    *pixel = cmy.map(|x| from_ink(255 - x, 255 - k));
                }
            }
            _ => {}
        }
    }
    Ok(image)
}

/// libjpeg's conversion, sixteen bits behind the point.
fn from_ycc(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91_881 * cr + 32_768) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + 32_768) >> 16);
    let blue = y + ((116_130 * cb + 32_768) >> 16);
    [red, green, blue].map(|level| level.clamp(0, 255) as u8)
}

/// Pillow's: what an ink and the black leave of white.
fn from_ink(ink: u8, black: u8) -> u8 {
    let white = 255 - i32::from(black);
    let product = i32::from(ink) * white + 128;
    (white - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
}
