use candle_core::Device;

use super::*;
use crate::model::config::ModelConfig;

fn group(parameters: &Parameters, value: f64) -> GradientGroup {
    let all = parameters.named().into_iter().enumerate();
    let gradients = all.map(|(index, (_, var))| {
        let ones = var.ones_like().unwrap();
        (index, (ones * value).unwrap().detach())
    });
    GradientGroup { name: "all".to_owned(), gradients: gradients.collect() }
}

fn small() -> Parameters {
    Parameters::random(&ModelConfig::small(11, 0), 1, &Device::Cpu).unwrap()
}

#[test]
fn micro_batches_add_up_and_are_clipped_to_the_norm() {
    let parameters = small();
    let elements = parameters.config.parameters() as f64;
    let mut gradients = Gradients::new(&parameters);
    gradients.add(group(&parameters, 1.0)).unwrap();
    gradients.add(group(&parameters, 2.0)).unwrap();
    let norm = 3.0 * elements.sqrt();
    assert!((gradients.clip(0.5).unwrap() / norm - 1.0).abs() < 1e-12);
    assert!((gradients.norm().unwrap() - 0.5).abs() < 1e-6);
    let below = gradients.clip(1.0).unwrap();
    assert_eq!(gradients.norm().unwrap(), below);
}

#[test]
fn what_is_not_finite_or_not_there_is_named() {
    let parameters = small();
    let mut gradients = Gradients::new(&parameters);
    let error = gradients.norm().unwrap_err().to_string();
    assert_eq!(error, "model.embed_tokens.weight has no gradient");
    gradients.add(group(&parameters, 1.0)).unwrap();
    let mut one = group(&parameters, f64::NAN);
    one.gradients.truncate(3);
    one.gradients.drain(..2);
    gradients.add(one).unwrap();
    let error = gradients.clip(1.0).unwrap_err().to_string();
    assert!(error.contains("model.layers.0.self_attn.q_proj.weight is not finite"), "{error}");
}
