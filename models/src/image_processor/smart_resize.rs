//! The size at which Qwen2.5-VL is shown an image: both sides multiples of a factor, the area within limits.

use crate::error::{ModelError, Result};

/// Largest ratio of the longer to the shorter side.
pub const MAX_ASPECT_RATIO: u32 = 200;

/// Size `(height, width)` in pixels at which an image of `height × width` pixels is shown.
///
/// Each side is rounded to the nearest multiple of `factor` (ties to even, as Python rounds). If the area is then above
/// `max_pixels` or below `min_pixels`, both sides are scaled by the same number and rounded down or up instead. The aspect
/// ratio is kept as far as the rounding allows.
///
/// Source: `smart_resize` of transformers' `image_processing_qwen2_vl.py`, all of whose results it reproduces. The function
/// of the same name in `qwen_vl_utils` differs where a side is rounded to 0.
///
/// # Errors
/// `AspectRatio` if the longer side is above 200 times the shorter one, or a side is 0.
///
/// ```
/// # use imagent_models::image_processor::smart_resize;
/// assert_eq!(smart_resize(1080, 1920, 28, 3136, 12_845_056).unwrap(), (1092, 1932));
/// assert_eq!(smart_resize(42, 42, 28, 3136, 12_845_056).unwrap(), (56, 56)); // 1.5 rounds to 2
/// ```
pub fn smart_resize(height: u32, width: u32, factor: u32, min_pixels: u64, max_pixels: u64) -> Result<(u32, u32)> {
    let (h, w, f) = (f64::from(height), f64::from(width), f64::from(factor));
    let short = h.min(w);
    if short == 0.0 || h.max(w) / short > f64::from(MAX_ASPECT_RATIO) {
        return Err(ModelError::AspectRatio { width, height, limit: MAX_ASPECT_RATIO });
    }
    let (min, max) = (min_pixels as f64, max_pixels as f64);
    let rounded = ((h / f).round_ties_even() * f, (w / f).round_ties_even() * f);
    let area = rounded.0 * rounded.1;
    let (h, w) = if area > max {
        let beta = (h * w / max).sqrt();
        let down = |side: f64| f.max((side / beta / f).floor() * f);
        (down(h), down(w))
    } else if area < min {
        let beta = (min / (h * w)).sqrt();
        let up = |side: f64| (side * beta / f).ceil() * f;
        (up(h), up(w))
    } else {
        rounded
    };
    Ok((h as u32, w as u32))
}
