//! AdamW against `torch.optim.AdamW` with `clip_grad_norm_` and a `LambdaLR` schedule, step by step
//! (`tests/parity/make_adamw_golden.py`).
#![allow(clippy::unwrap_used)]

use std::path::Path;

use imagent_models::adamw::{AdamW, AdamWConfig, Group};
use serde_json::Value;

/// Name in the golden, part of the model, whether it is a matrix.
const PARAMETERS: [(&str, Group, bool); 3] =
    [("visual", Group::Vision, true), ("language", Group::Language, true), ("norm", Group::Language, false)];

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn several_steps_equal_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/adamw/cases.json");
    let cases: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let config: AdamWConfig = serde_json::from_value(case["settings"].clone()).unwrap();
        config.validate().unwrap();
        let mut weights: Vec<Vec<f32>> = PARAMETERS.iter().map(|(name, ..)| floats(&case["start"][name])).collect();
        let mut adam = AdamW::new(config, weights.iter().map(Vec::len));
        let (mut worst, mut clipped) = (0.0f32, 0);
        let steps = case["gradients"].as_array().unwrap().iter().zip(case["after"].as_array().unwrap());
        for (step, (gradients, after)) in steps.enumerate() {
            let gradients: Vec<Vec<f32>> = PARAMETERS.iter().map(|(name, ..)| floats(&gradients[name])).collect();
            let norm = AdamW::norm(&gradients);
            let expected = case["norms"][step].as_f64().unwrap();
            assert!((norm - expected).abs() <= 1e-6 * expected, "{}: norm {norm} for {expected}", case["name"]);
            let update = adam.begin(norm);
            clipped += usize::from(update.factor < 1.0);
            for (i, (name, group, is_matrix)) in PARAMETERS.into_iter().enumerate() {
                adam.apply(i, &mut weights[i], &gradients[i], update, group, is_matrix);
                for (ours, theirs) in weights[i].iter().zip(floats(&after[name])) {
                    worst = worst.max((ours - theirs).abs());
                }
            }
        }
        println!("{}: {worst:.1e}, {clipped} of 8 steps clipped", case["name"]);
        assert!(worst <= 1e-6, "{}: {worst}", case["name"]);
    }
}
