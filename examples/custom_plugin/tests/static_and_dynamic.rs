//! The plug-ins composed at compile time and named in the config: the same rollouts, losses and weights, to the bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use custom_plugin::{MarginZoom, Price, Vanilla};
use imagent::models::adamw::AdamWConfig;
use imagent::prelude::*;

/// What a run shows: figures of each step without their times, and every token sampled with its log-probability.
type Shown = Vec<(String, Vec<(u32, u32)>)>;

fn train<T, R, M, O>(experiment: &mut Experiment<QwenPolicy<impl imagent::models::ops::Kernels>, T, R, M, O>) -> Shown
where
    T: Toolbox + ?Sized,
    R: Reward + ?Sized,
    M: MaskSet + ?Sized,
    O: PolicyOptimizer + ?Sized,
{
    let mut shown = Shown::new();
    experiment
        .train(0, &mut |_: &mut _, report: &StepReport, batch: &TrainBatch| {
            let rows = batch.rows.iter().map(|row| &row.scored.trajectory);
            let tokens = rows.flat_map(|t| t.ids.iter().zip(&t.logprobs).map(|(id, logprob)| (*id, logprob.to_bits())));
            shown.push((format!("{:?}", report.metrics), tokens.collect()));
            Ok(Flow::Continue)
        })
        .unwrap();
    shown
}

fn config() -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/margin.toml");
    Config::read(&path, &["train.steps=3", "train.prompts_per_step=4"]).unwrap()
}

fn world() -> WorldSource {
    WorldSource::new(WorldConfig { images: [2, 3], ..WorldConfig::default() }, 5, 16).unwrap()
}

#[test]
fn static_and_dynamic_composition_give_equal_bits() {
    let config = config();
    let settings = config.settings();
    let mut named = config.build_with(Box::new(world()), None).unwrap();
    let dynamic = train(&mut named.experiment);

    let adamw = AdamWConfig { learning_rate: 5e-5, beta2: 0.95, warmup_steps: 2, ..AdamWConfig::default() };
    let model = open_model(&ModelConfig::default(), &adamw).unwrap();
    let reward = Sum {
        offset: 0.0,
        terms: vec![Term::new(1.0, Price { price: 0.02, ..Price::default() }), Term::new(0.2, Format {})],
    };
    let tools = (MarginZoom { margin: 0.1, ..MarginZoom::default() }, LookBack::default());
    let parts = ((tools, reward), (ActionMask::default(), Vanilla::default()));
    let mut composed = Experiment::new(model.policy, parts.0, parts.1, world(), settings);
    let compiled = train(&mut composed);

    assert_eq!((dynamic.len(), dynamic[0].1.is_empty()), (3, false));
    assert!(dynamic[2].0.contains("term_1"), "{}", dynamic[2].0);
    assert_eq!(dynamic, compiled);
    // The second and third step have other rollouts than the first because the weights changed, in both alike.
    assert_ne!(dynamic[0].1, dynamic[1].1);
}

#[test]
fn the_config_names_the_plug_ins() {
    let text = config().to_toml();
    for tag in ["margin_zoom", "price", "vanilla"] {
        assert!(text.contains(&format!("type = \"{tag}\"")), "{text}");
    }
    let slip = Config::parse("reward = { type = \"price\", prize = 1 }", None, &[]).unwrap_err().to_string();
    assert!(slip.contains("prize") && slip.contains("price"), "{slip}");
}

#[test]
fn a_margin_widens_the_box() {
    let mut shelf = ImageShelf::new();
    shelf.push(std::sync::Arc::new(RgbImage::new(112, 112)), Size::new(112, 112), None);
    let call = |text: &str| {
        let imagent::core::Action::Call(call) = imagent::core::parse_turn(text) else { panic!("{text}") };
        Tool::call(&MarginZoom::default(), &call.arguments, &shelf)
    };
    let good = r#"<tool_call>{"name": "zoom_in", "arguments": {"image": 1, "bbox_2d": [20, 20, 40, 60]}}</tool_call>"#;
    assert_eq!(call(good).unwrap().images[0].origin.unwrap().bbox.to_array(), [15.0, 10.0, 45.0, 70.0]);
    let bad = good.replace("60]", "\"60\"]");
    assert_eq!(call(&bad).unwrap_err().name(), "wrong_argument");
}

#[test]
fn the_loss_has_its_exact_derivative() {
    let vanilla = Vanilla {};
    let mut tokens = TokenBatch {
        offsets: vec![0, 2, 5],
        logprobs: vec![-0.5, -1.0, -0.25, -2.0, -0.125],
        loss_mask: vec![1.0, 0.0, 1.0, 1.0, 1.0],
        advantages: vanilla.advantages_of(&[1.0, 0.25], &[true, true]),
        ..TokenBatch::default()
    };
    let loss = vanilla.loss(&tokens);
    assert_eq!(loss.d_logprobs[1], 0.0);
    for i in 0..5 {
        let step = 0.5;
        tokens.logprobs[i] += step;
        let slope = (vanilla.loss(&tokens).value - loss.value) / f64::from(step);
        tokens.logprobs[i] -= step;
        assert!((slope - f64::from(loss.d_logprobs[i])).abs() < 1e-6, "{i}: {slope}");
    }
}
