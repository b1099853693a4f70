//! Where the attention of a model's sampled tokens goes: what `imagent attention` measures, and evaluations of a run in short.

use imagent_analysis::EvalTable;
use imagent_analysis::attention::{Attention, LayerAttention, Layout, Part, SampledToken};
use imagent_analysis::stats::mean;
use imagent_core::ScoredTrajectory;
use imagent_models::error::ModelError;
use imagent_models::ops::Kernels;
use imagent_models::policy::QwenPolicy;
use imagent_models::qwen::probe::LayerProbe;
use rayon::prelude::*;

/// The attention of each sampled token of a finished trajectory in some layers, from what [`QwenPolicy::attention`] gives for it.
///
/// # Panics
/// If there is no such layer.
pub fn by_token<D: Kernels>(
    policy: &QwenPolicy<D>,
    scored: &ScoredTrajectory,
    probes: &[LayerProbe],
    layers: &[usize],
) -> Attention {
    let trajectory = &scored.trajectory;
    let layout = Layout::new(trajectory);
    let positions: Vec<usize> = trajectory.sampled().collect();
    let text =
        |position: usize| policy.codec().tokenizer.decode(&[trajectory.ids[position]], false).unwrap_or_default();
    let turn = |position: usize| trajectory.turns.iter().filter(|turn| turn.tokens.start <= position).count();
    let token = |&position: &usize| SampledToken { position, turn: turn(position), text: text(position) };
    let layer = |&layer: &usize| {
        let weights = |position: &usize| probes[layer].mean(position - 1);
        let of = |position: &usize| {
            let weights = weights(position);
            (layout.shares(&weights), layout.image_entropy(&weights))
        };
        let (shares, image_entropy) = positions.par_iter().map(of).unzip();
        LayerAttention { layer, shares, image_entropy }
    };
    Attention {
        sample: trajectory.sample.id.clone(),
        right: scored.score.parts.get("accuracy").map(|accuracy| *accuracy >= 0.5),
        tokens: positions.iter().map(token).collect(),
        layers: layers.iter().map(layer).collect(),
        parts: layout.parts,
    }
}

/// Means over some trajectories of the shares that their sampled tokens' attention has on images, over all layers:
/// `attention/images`, and `attention/sample_images` of those of the prompt alone.
///
/// # Errors
/// When an image does not fit the model.
pub fn image_shares<'a, D: Kernels>(
    policy: &QwenPolicy<D>,
    trajectories: impl IntoIterator<Item = &'a ScoredTrajectory>,
) -> Result<EvalTable, ModelError> {
    let layers: Vec<usize> = (0..policy.model.config.text.layers).collect();
    let (mut all, mut own) = (Vec::new(), Vec::new());
    for scored in trajectories {
        let probes = policy.attention(&scored.trajectory)?;
        let attention = by_token(policy, scored, &probes, &layers);
        all.extend(attention.mean_share(|part| part.is_image()));
        own.extend(attention.mean_share(|part| matches!(part, Part::Image(_))));
    }
    let means = [("attention/images", mean(&all)), ("attention/sample_images", mean(&own))];
    Ok(means.into_iter().filter_map(|(name, mean)| Some((name.to_owned(), mean?))).collect())
}
