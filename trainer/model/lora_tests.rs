//! Adapters against what autograd says of W + s B A.

use super::*;
use crate::model::fixture_tests::config;

fn settings(targets: &[LoraTarget]) -> LoraSettings {
    LoraSettings { rank: 3, alpha: 6.0, targets: targets.iter().copied().collect() }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn randomise(lora: &Lora) {
    for (stream, (_, var)) in lora.named().into_iter().enumerate() {
        let draws = Normal::new(9, stream as u64).draws(var.elem_count(), 0.3);
        var.set(&Tensor::from_vec(draws, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    let base = Parameters::random(&config(), 5, &Device::Cpu).unwrap();
    let lora = Lora::random(&config(), &settings(&LoraTarget::ALL), 1, &Device::Cpu).unwrap();
    assert_eq!(lora.named().len(), 2 * 7 * 2, "each of seven matrices in two layers");
    let effective = lora.effective(&base).unwrap();
    for ((name, found), (_, expected)) in effective.named().into_iter().zip(base.named()) {
        assert_eq!(values(found), values(expected), "{name}");
    }
}

#[test]
fn only_the_targets_are_adapted_and_the_base_stays() {
    let base = Parameters::random(&config(), 5, &Device::Cpu).unwrap();
    let before = base.duplicate().unwrap();
    let lora = settings(&[LoraTarget::V, LoraTarget::Down]);
    let lora = Lora::random(&config(), &lora, 1, &Device::Cpu).unwrap();
    randomise(&lora);
    let effective = lora.effective(&base).unwrap();
    for ((name, found), (_, expected)) in effective.named().into_iter().zip(before.named()) {
        let adapted = name.contains("v_proj") || name.contains("down_proj");
        assert_eq!(values(found) != values(expected), adapted, "{name}");
    }
    for ((name, found), (_, expected)) in base.named().into_iter().zip(before.named()) {
        assert_eq!(values(found), values(expected), "{name}");
    }
}

#[test]
fn a_seed_makes_the_same_adapters() {
    let random = |seed| {
        let settings = settings(&[LoraTarget::Q]);
        let lora = Lora::random(&config(), &settings, seed, &Device::Cpu).unwrap();
        lora.named().into_iter().map(|(name, var)| (name, values(var))).collect::<Vec<_>>()
    };
    assert_eq!(random(1), random(1));
    assert_ne!(random(1), random(2));
    let prefix = "base_model.model.model.layers.0.self_attn.q_proj";
    assert_eq!(random(1)[0].0, format!("{prefix}.lora_A.weight"));
    assert_eq!(random(1)[1].0, format!("{prefix}.lora_B.weight"));
}

/// A function whose gradient in each weight is known, G: the sum of the products of W and G. By
/// candle, its gradients in A and B are compared with those that are made of G.
#[test]
fn gradients_are_those_of_the_product() {
    let base = Parameters::random(&config(), 5, &Device::Cpu).unwrap();
    let targets = settings(&[LoraTarget::K, LoraTarget::O, LoraTarget::Gate]);
    let lora = Lora::random(&config(), &targets, 1, &Device::Cpu).unwrap();
    randomise(&lora);
    let d_weights: Vec<(usize, Tensor)> = base
        .named()
        .into_iter()
        .enumerate()
        .map(|(index, (_, var))| {
            let draws = Normal::new(3, index as u64).draws(var.elem_count(), 1.0);
            (index, Tensor::from_vec(draws, var.shape(), &Device::Cpu).unwrap())
        })
        .collect();
    let found = lora.gradients(&d_weights).unwrap();
    let named = lora.named();
    assert_eq!(found.len(), named.len());
    for (adapter, pair) in lora.adapters.iter().zip(found.chunks(2)) {
        let (_, gradient) = &d_weights[adapter.weight];
        let effective = (adapter.b.matmul(&adapter.a).unwrap() * 2.0).unwrap();
        let product = (effective * gradient).unwrap().sum_all().unwrap();
        let expected = product.backward().unwrap();
        for ((index, found), var) in pair.iter().zip([&adapter.a, &adapter.b]) {
            assert_eq!(named[*index].1.id(), var.id());
            let expected = values(expected.get(var).unwrap());
            for (found, expected) in values(found).iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
            assert!(expected.iter().any(|element| element.abs() > 1e-3));
        }
    }
}

#[test]
fn a_base_of_another_shape_is_refused() {
    let other = ModelConfig { hidden_size: 10, ..config() };
    let base = Parameters::random(&other, 5, &Device::Cpu).unwrap();
    let lora = Lora::random(&config(), &settings(&[LoraTarget::Q]), 1, &Device::Cpu).unwrap();
    assert!(lora.effective(&base).is_err());
}
