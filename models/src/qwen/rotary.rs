//! Cosines and sines of both rotary embeddings, `[tokens, head_dim / 2]`, computed in f32 as transformers does.

use crate::config::{TextConfig, VisionConfig};

/// Cosines and sines of some tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Angles {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

impl Angles {
    fn push(&mut self, angle: f32) {
        self.cos.push(angle.cos());
        self.sin.push(angle.sin());
    }
}

fn inverse_frequencies(theta: f64, dim: usize) -> Vec<f32> {
    (0..dim / 2).map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / dim as f32)).collect()
}

/// M-RoPE: the half head dimension is split into consecutive sections for time, height and width.
pub(crate) fn text(config: &TextConfig, axes: [&[u32]; 3]) -> Angles {
    let frequencies = inverse_frequencies(config.rope_theta, config.head_dim());
    let axis_of = (0..3).flat_map(|axis| std::iter::repeat_n(axis, config.mrope_section[axis]));
    let channels: Vec<(usize, f32)> = axis_of.zip(frequencies).collect();
    let mut angles = Angles::default();
    let [time, heights, widths] = axes;
    for ((&t, &h), &w) in time.iter().zip(heights).zip(widths) {
        let position = [t as f32, h as f32, w as f32];
        channels.iter().for_each(|&(axis, frequency)| angles.push(position[axis] * frequency));
    }
    angles
}

/// 2-D rotary of the tower: a quarter of the head dimension for the patch's row, a quarter for its column.
pub(crate) fn vision(config: &VisionConfig, patches: &[(u32, u32)]) -> Angles {
    let frequencies = inverse_frequencies(10_000.0, config.head_dim() / 2);
    let mut angles = Angles::default();
    for &(row, column) in patches {
        frequencies.iter().for_each(|f| angles.push(row as f32 * f));
        frequencies.iter().for_each(|f| angles.push(column as f32 * f));
    }
    angles
}
