//! config.json as it is found in the wild, and as it must not be.

use serde_json::{Map, Value};

use super::*;

/// As transformers 4 writes it for a Qwen3.
fn sound() -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 1, "eos_token_id": 2, "head_dim": 16, "hidden_act": "silu",
        "hidden_size": 48, "initializer_range": 0.02, "intermediate_size": 96,
        "max_position_embeddings": 40960, "max_window_layers": 3, "model_type": "qwen3",
        "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1_000_000,
        "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
        "vocab_size": 128
    })
}

/// Sets the keys of `changes` in a sound config, removes those that are null, and reads it.
fn read_with(changes: Value, generation: Option<Value>) -> Result<ModelConfig, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let mut config: Map<String, Value> = sound().as_object().unwrap().clone();
    config.extend(changes.as_object().unwrap().clone());
    config.retain(|_, value| !value.is_null());
    std::fs::write(dir.path().join(CONFIG), json!(config).to_string()).unwrap();
    if let Some(generation) = generation {
        std::fs::write(dir.path().join(GENERATION_CONFIG), generation.to_string()).unwrap();
    }
    ModelConfig::read(&dir.path().join(CONFIG)).map_err(|defects| {
        let folder = format!("{}/", dir.path().display());
        defects.0.iter().map(|defect| defect.to_string().replace(&folder, "")).collect()
    })
}

#[test]
fn a_config_of_transformers_4_is_read() {
    let expected = ModelConfig {
        vocab_size: 128,
        hidden_size: 48,
        intermediate_size: 96,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 1e6,
        tie_word_embeddings: true,
        max_position_embeddings: 40960,
        eos_token_ids: vec![2],
    };
    assert_eq!(read_with(json!({}), None), Ok(expected));
}

#[test]
fn a_config_of_transformers_5_is_the_same() {
    let changes = json!({
        "rope_theta": null, "rope_scaling": null, "torch_dtype": null, "dtype": "bfloat16",
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
        "layer_types": ["full_attention", "full_attention", "full_attention"],
    });
    assert_eq!(read_with(changes, None), read_with(json!({}), None));
}

#[test]
fn what_is_absent_is_what_transformers_takes() {
    let absent = json!({"head_dim": null, "rms_norm_eps": null, "tie_word_embeddings": null});
    let config = read_with(absent, None).unwrap();
    assert_eq!(
        (config.head_dim, config.rms_norm_eps, config.tie_word_embeddings),
        (128, 1e-6, false)
    );
    let unscaled = json!({"rope_scaling": {"type": "default"}, "attention_dropout": 0});
    assert_eq!(read_with(unscaled, None), read_with(json!({}), None));
}

#[test]
fn end_tokens_come_from_the_generation_config_where_it_names_them() {
    let eos = |config: Value, generation: Option<Value>| {
        read_with(json!({"eos_token_id": config}), generation).map(|config| config.eos_token_ids)
    };
    assert_eq!(eos(json!(2), Some(json!({"eos_token_id": [5, 3]}))), Ok(vec![5, 3]));
    assert_eq!(eos(json!(2), Some(json!({"eos_token_id": 5}))), Ok(vec![5]));
    assert_eq!(eos(json!([2, 4]), Some(json!({"temperature": 0.6}))), Ok(vec![2, 4]));
    let expected = "expected an id below vocab_size, which is 128, or a list of ids, here or in \
                    generation_config.json";
    for (config, found) in [(json!(null), "nothing"), (json!(128), "128"), (json!([]), "[]")] {
        assert_eq!(
            eos(config, None),
            Err(vec![format!("config.json: eos_token_id: {expected}, found {found}")])
        );
    }
    let refused = eos(json!(2), Some(json!({"eos_token_id": [5, -1]}))).unwrap_err();
    assert_eq!(
        refused,
        [format!("generation_config.json: eos_token_id: {expected}, found [5,-1]")]
    );
}

#[test]
fn what_is_not_built_is_refused_each_by_its_key() {
    let cases = [
        (json!({"model_type": "llama"}), "model_type"),
        (json!({"model_type": null}), "model_type"),
        (json!({"architectures": ["Qwen3MoeForCausalLM"]}), "architectures"),
        (json!({"hidden_act": "gelu"}), "hidden_act"),
        (json!({"attention_bias": true}), "attention_bias"),
        (json!({"attention_dropout": 0.1}), "attention_dropout"),
        (json!({"use_sliding_window": true}), "use_sliding_window"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), "rope_scaling.rope_type"),
        (json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.type"),
        (
            json!({"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn"}}),
            "rope_parameters.rope_type",
        ),
        (
            json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
            "rope_parameters.partial_rotary_factor",
        ),
        (json!({"rope_parameters": {"rope_theta": 1e4}}), "rope_theta"),
        (json!({"rope_theta": null}), "rope_theta"),
        (json!({"rope_theta": 0}), "rope_theta"),
        (json!({"quantization_config": {"bits": 4}}), "quantization_config"),
        (json!({"head_dim": 15}), "head_dim"),
        (json!({"num_key_value_heads": 3}), "num_attention_heads"),
        (json!({"num_hidden_layers": 0}), "num_hidden_layers"),
        (json!({"num_hidden_layers": 1025}), "num_hidden_layers"),
        (json!({"num_attention_heads": 1_000_000}), "num_attention_heads"),
        (json!({"vocab_size": 2_000_000}), "vocab_size"),
        (json!({"hidden_size": -1}), "hidden_size"),
        (json!({"hidden_size": 4.5}), "hidden_size"),
        (json!({"intermediate_size": "96"}), "intermediate_size"),
        (json!({"max_position_embeddings": null}), "max_position_embeddings"),
        (json!({"rms_norm_eps": -1.0}), "rms_norm_eps"),
        (json!({"tie_word_embeddings": 1}), "tie_word_embeddings"),
    ];
    for (changes, key) in cases {
        let faults = read_with(changes.clone(), None).unwrap_err();
        let prefix = format!("config.json: {key}: expected ");
        assert!(faults.len() == 1 && faults[0].starts_with(&prefix), "{changes}: {faults:?}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let changes = json!({
        "model_type": "qwen2", "attention_bias": true, "hidden_size": null, "head_dim": 7,
        "rope_theta": "big", "eos_token_id": 1000,
    });
    let expected = [
        "config.json: model_type: expected \"qwen3\", found \"qwen2\"",
        "config.json: attention_bias: expected false: biases are not built, found true",
        "config.json: hidden_size: expected a whole number in 1..=1048576, found nothing",
        "config.json: rope_theta: expected a number above 0, found \"big\"",
        "config.json: head_dim: expected an even number, found 7",
        "config.json: eos_token_id: expected an id below vocab_size, which is 128, or a list of \
         ids, here or in generation_config.json, found 1000",
    ];
    assert_eq!(read_with(changes, None).unwrap_err(), expected);
}

#[test]
fn what_is_no_object_in_json_is_told_by_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(CONFIG);
    let first = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let defects = ModelConfig::read(&file).unwrap_err();
        let defect = defects.0.first().unwrap();
        (defect.line, defect.expected.clone())
    };
    assert_eq!(first("{\n\"a\": }"), (Some(2), "JSON".to_owned()));
    assert_eq!(first("[1]"), (None, "an object".to_owned()));
    assert_eq!(first(&"[".repeat(100_000)), (Some(1), "JSON".to_owned()), "and no stack is spent");
}

#[test]
fn a_config_that_is_written_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for eos_token_ids in [vec![7], vec![3, 9]] {
        let config = ModelConfig {
            rope_theta: 1e6,
            rms_norm_eps: 1.5e-5,
            eos_token_ids,
            ..ModelConfig::small(96, 1)
        };
        config.write(dir.path(), WeightType::Bf16).unwrap();
        assert_eq!(ModelConfig::read(&dir.path().join(CONFIG)), Ok(config));
    }
}
