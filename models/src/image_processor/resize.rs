//! Bicubic resize with antialias on bytes, equal bit for bit to `PIL.Image.resize(size, BICUBIC)` of Pillow ≤ 12.
//!
//! Two passes, horizontal first, rounded to bytes in between; weights are fixed-point numbers of 22 bits. Pillow 13 may
//! go vertical first, and SIMD libraries (`fast_image_resize`, Pillow-SIMD) use 16-bit weights: both differ by a few levels.
//! Both passes run through one loop over 96 neighbouring bytes, which compilers vectorise: the horizontal pass
//! transposes blocks of 32 rows first. Blocks of a large image go to several threads.

use image::RgbImage;
use rayon::prelude::*;

/// Bytes that go through the inner loop together: 32 pixels of 3 channels.
const LANES: usize = 96;
/// Rows in a transposed block.
const BLOCK: usize = LANES / 3;
/// Bits behind the point of a weight: 32, less 8 of a byte, less 2 of headroom.
const PRECISION: u32 = 22;
/// Images of fewer bytes stay on the calling thread.
const SERIAL: usize = 1 << 17;
/// Radius of the cubic kernel, in source pixels at scale 1.
const SUPPORT: f64 = 2.0;

/// Resizes to `width × height` pixels; a copy if the image has that size.
///
/// # Panics
/// Never; a side of 0 gives an empty image.
pub fn resize_bicubic(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (in_w, in_h) = (image.width() as usize, image.height() as usize);
    let (out_w, out_h) = (width as usize, height as usize);
    if in_w == 0 || in_h == 0 || out_w == 0 || out_h == 0 {
        return RgbImage::new(width, height);
    }
    let mut pixels = std::borrow::Cow::Borrowed(image.as_raw());
    if out_w != in_w {
        pixels = std::borrow::Cow::Owned(horizontal(&pixels, in_w, in_h, &Taps::new(in_w, out_w)));
    }
    if out_h != in_h {
        let mut out = vec![0; out_w * 3 * out_h];
        pass(&pixels, out_w * 3, &Taps::new(in_h, out_h), &mut out);
        pixels = std::borrow::Cow::Owned(out);
    }
    RgbImage::from_raw(width, height, pixels.into_owned()).unwrap_or_else(|| RgbImage::new(width, height))
}

/// For every output position, where its window of source positions starts, and the fixed-point weights.
struct Taps {
    windows: Vec<(usize, usize)>,
    weights: Vec<i32>,
    stride: usize,
}

impl Taps {
    /// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`, operation by operation.
    fn new(input: usize, output: usize) -> Self {
        let scale = input as f64 / output as f64;
        let filter_scale = scale.max(1.0);
        let support = SUPPORT * filter_scale;
        let stride = support.ceil() as usize * 2 + 1;
        let inverse = 1.0 / filter_scale;
        let mut taps = Self { windows: Vec::with_capacity(output), weights: vec![0; stride * output], stride };
        let mut window = vec![0.0; stride];
        for position in 0..output {
            let center = (position as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(input);
            let window = &mut window[..last - first];
            let mut sum = 0.0;
            for (x, weight) in window.iter_mut().enumerate() {
                *weight = cubic(((x + first) as f64 - center + 0.5) * inverse);
                sum += *weight;
            }
            let fixed = &mut taps.weights[position * stride..];
            for (weight, fixed) in window.iter().zip(fixed) {
                *fixed = to_fixed(if sum != 0.0 { weight / sum } else { *weight });
            }
            taps.windows.push((first, last - first));
        }
        taps
    }
}

/// Keys' cubic with a = -0.5 (Catmull-Rom).
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Rounded half away from zero.
fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << PRECISION);
    if weight < 0.0 { (scaled - 0.5) as i32 } else { (scaled + 0.5) as i32 }
}

/// Resizes rows `in_w` wide to `taps`' number of outputs.
fn horizontal(source: &[u8], in_w: usize, rows: usize, taps: &Taps) -> Vec<u8> {
    let out_w = taps.windows.len();
    let mut out = vec![0; out_w * 3 * rows];
    let buffers = || (vec![0u8; in_w * LANES], vec![0u8; out_w * LANES]);
    let block = |(columns, resized): &mut (Vec<u8>, Vec<u8>), (input, output): (&[u8], &mut [u8])| {
        for (row, pixels) in input.chunks_exact(in_w * 3).enumerate() {
            for (column, pixel) in columns.chunks_exact_mut(LANES).zip(pixels.chunks_exact(3)) {
                column[row * 3..row * 3 + 3].copy_from_slice(pixel);
            }
        }
        outputs(columns, LANES, taps, 0, resized);
        for (row, pixels) in output.chunks_exact_mut(out_w * 3).enumerate() {
            for (column, pixel) in resized.chunks_exact(LANES).zip(pixels.chunks_exact_mut(3)) {
                pixel.copy_from_slice(&column[row * 3..row * 3 + 3]);
            }
        }
    };
    if source.len() < SERIAL {
        let (mut buffers, blocks) = (buffers(), source.chunks(BLOCK * in_w * 3));
        blocks.zip(out.chunks_mut(BLOCK * out_w * 3)).for_each(|pair| block(&mut buffers, pair));
    } else {
        let blocks = source.par_chunks(BLOCK * in_w * 3).zip(out.par_chunks_mut(BLOCK * out_w * 3));
        blocks.with_min_len(4).for_each_init(buffers, block);
    }
    out
}

/// Weighted sums of whole rows of `row` bytes: `[inputs, row]` to `[outputs, row]`.
fn pass(source: &[u8], row: usize, taps: &Taps, out: &mut [u8]) {
    if out.len() < SERIAL {
        return outputs(source, row, taps, 0, out);
    }
    let chunks = out.par_chunks_mut(BLOCK * row).enumerate();
    chunks.for_each(|(chunk, out)| outputs(source, row, taps, chunk * BLOCK, out));
}

/// [`pass`] for the outputs from `start` on that `out` has room for.
fn outputs(source: &[u8], row: usize, taps: &Taps, start: usize, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has the features, the only requirement of a safe function compiled for them.
            return unsafe { outputs_avx512(source, row, taps, start, out) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { outputs_avx2(source, row, taps, start, out) };
        }
    }
    outputs_any(source, row, taps, start, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn outputs_avx512(source: &[u8], row: usize, taps: &Taps, start: usize, out: &mut [u8]) {
    outputs_any(source, row, taps, start, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn outputs_avx2(source: &[u8], row: usize, taps: &Taps, start: usize, out: &mut [u8]) {
    outputs_any(source, row, taps, start, out);
}

#[inline(always)]
fn outputs_any(source: &[u8], row: usize, taps: &Taps, start: usize, out: &mut [u8]) {
    for (position, out) in out.chunks_exact_mut(row).enumerate().map(|(i, out)| (start + i, out)) {
        let (first, len) = taps.windows[position];
        let weights = &taps.weights[position * taps.stride..][..len];
        let window = &source[first * row..(first + len) * row];
        let mut at = 0;
        while at + LANES <= row {
            lanes(window, row, at, weights, &mut out[at..at + LANES]);
            at += LANES;
        }
        for (lane, out) in out.iter_mut().enumerate().skip(at) {
            let start = 1i32 << (PRECISION - 1);
            let sum = weights.iter().zip(window.chunks_exact(row)).fold(start, |s, (w, r)| s + w * i32::from(r[lane]));
            *out = (sum >> PRECISION).clamp(0, 255) as u8;
        }
    }
}

#[inline(always)]
fn lanes(window: &[u8], row: usize, at: usize, weights: &[i32], out: &mut [u8]) {
    let mut sums = [1i32 << (PRECISION - 1); LANES];
    for (weight, source) in weights.iter().zip(window.chunks_exact(row)) {
        for (sum, byte) in sums.iter_mut().zip(&source[at..at + LANES]) {
            *sum += weight * i32::from(*byte);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = (sum >> PRECISION).clamp(0, 255) as u8;
    }
}
