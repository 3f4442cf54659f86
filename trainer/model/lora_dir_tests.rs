//! Adapters written and read again, and as they must not be.

use candle_core::Tensor;
use serde_json::Map;
use tempfile::TempDir;

use super::*;
use crate::model::init::Normal;

fn config() -> ModelConfig {
    ModelConfig { num_hidden_layers: 1, ..ModelConfig::small(10, 1) }
}

fn adapters() -> Lora {
    let targets = BTreeSet::from([LoraTarget::Q, LoraTarget::Up]);
    let settings = LoraSettings { rank: 2, alpha: 3.5, targets };
    let lora = Lora::random(&config(), &settings, 4, &Device::Cpu).unwrap();
    for (_, var) in lora.named() {
        let draws = Normal::new(2, 0).draws(var.elem_count(), 0.1);
        var.set(&Tensor::from_vec(draws, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
    lora
}

fn bits(lora: &Lora) -> Vec<(String, Vec<u32>)> {
    let named = lora.named().into_iter().map(|(name, var)| {
        let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        (name, values.into_iter().map(f32::to_bits).collect())
    });
    named.collect()
}

/// A directory of adapters whose config has `changes`, without the keys that are null.
fn saved(changes: Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    adapters().save(dir.path(), "base").unwrap();
    let path = dir.path().join(CONFIG);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: Map<String, Value> = serde_json::from_str(&text).unwrap();
    config.extend(changes.as_object().unwrap().clone());
    config.retain(|_, value| !value.is_null());
    std::fs::write(&path, json!(config).to_string()).unwrap();
    dir
}

fn faults(dir: &TempDir) -> Vec<String> {
    let loaded = Lora::load(dir.path(), &config(), &Device::Cpu);
    let Err(defects) = loaded else { return Vec::new() };
    let folder = format!("{}/", dir.path().display());
    defects.0.iter().map(|defect| defect.to_string().replace(&folder, "")).collect()
}

#[test]
fn adapters_are_read_bit_for_bit_as_they_were_saved() {
    let (saved, lora) = (saved(json!({})), adapters());
    let loaded = Lora::load(saved.path(), &config(), &Device::Cpu).unwrap();
    assert_eq!(loaded.settings, lora.settings);
    assert_eq!(bits(&loaded), bits(&lora));
}

#[test]
fn what_peft_writes_of_its_defaults_is_read() {
    let dir = saved(json!({
        "alpha_pattern": {}, "rank_pattern": {}, "use_dora": false, "use_rslora": false,
        "init_lora_weights": true, "lora_dropout": 0.05, "lora_alpha": 16, "layers_to_transform": null,
    }));
    assert_eq!(faults(&dir), [""; 0]);
}

#[test]
fn what_is_not_built_is_refused_each_by_its_key() {
    let cases = [
        (json!({"peft_type": "IA3"}), "peft_type"),
        (json!({"peft_type": null}), "peft_type"),
        (json!({"use_dora": true}), "use_dora"),
        (json!({"use_rslora": true}), "use_rslora"),
        (json!({"bias": "all"}), "bias"),
        (json!({"alpha_pattern": {"q_proj": 4}}), "alpha_pattern"),
        (json!({"init_lora_weights": "pissa"}), "init_lora_weights"),
        (json!({"alora_invocation_tokens": [1]}), "alora_invocation_tokens"),
        (json!({"target_modules": "all-linear"}), "target_modules"),
        (json!({"target_modules": ["q_proj", "lm_head"]}), "target_modules"),
        (json!({"target_modules": []}), "target_modules"),
        (json!({"target_modules": null}), "target_modules"),
        (json!({"r": 0}), "r"),
        (json!({"r": 5000}), "r"),
        (json!({"lora_alpha": -1}), "lora_alpha"),
        (json!({"lora_alpha": null}), "lora_alpha"),
    ];
    for (changes, key) in cases {
        let faults = faults(&saved(changes.clone()));
        let prefix = format!("adapter_config.json: {key}: expected ");
        assert!(faults.len() == 1 && faults[0].starts_with(&prefix), "{changes}: {faults:?}");
    }
}

#[test]
fn tensors_that_do_not_fit_the_config_are_told_at_once() {
    let dir = saved(json!({"r": 3, "target_modules": ["q_proj", "v_proj"]}));
    let module = "adapter_model.safetensors: base_model.model.model.layers.0";
    assert_eq!(
        faults(&dir),
        [
            format!("{module}.self_attn.v_proj.lora_A.weight: expected the tensor, found nothing"),
            format!("{module}.self_attn.v_proj.lora_B.weight: expected the tensor, found nothing"),
            format!("{module}.mlp.up_proj.lora_A.weight: expected no such tensor, found [2, 128]"),
            format!("{module}.mlp.up_proj.lora_B.weight: expected no such tensor, found [384, 2]"),
            format!(
                "{module}.self_attn.q_proj.lora_A.weight: expected shape [3, 128], found [2, 128]"
            ),
            format!(
                "{module}.self_attn.q_proj.lora_B.weight: expected shape [128, 3], found [128, 2]"
            ),
        ]
    );
}
