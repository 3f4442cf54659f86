//! A policy's directory with random weights, as small as the architecture goes.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use orcapack_trainer::model::config::ModelConfig;
use orcapack_trainer::model::parameters::Parameters;
use orcapack_trainer::tensors::write::WeightType;
use orcapack_trainer::text::tokenizer::Tokenizer;

/// What its words are learnt from.
const TEXTS: [&str; 3] = [
    "solve the task and write the answer",
    "the answer is written, the task is solved",
    "hello, what is the task? write the answer to the file",
];
const SPECIALS: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];
/// The specials, the bytes, and some words.
const VOCAB_SIZE: usize = 320;

const TEMPLATE: &str = "\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
'<|im_end|>' + '\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Fills `dir`; the same seed gives the same policy.
pub fn write(dir: &Path, seed: u64) {
    let tokenizer = Tokenizer::train(&TEXTS, VOCAB_SIZE, &SPECIALS).unwrap();
    let end = tokenizer.id("<|im_end|>").unwrap();
    let config = ModelConfig {
        hidden_size: 32,
        intermediate_size: 64,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 16,
        max_position_embeddings: 32_768,
        ..ModelConfig::small(VOCAB_SIZE, end)
    };
    let parameters = Parameters::random(&config, seed, &Device::Cpu).unwrap();
    config.write(dir, WeightType::F32).unwrap();
    let named: HashMap<String, Tensor> =
        parameters.named().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect();
    candle_core::safetensors::save(&named, dir.join("model.safetensors")).unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer.to_json().unwrap()).unwrap();
    fs::write(dir.join("chat_template.jinja"), TEMPLATE).unwrap();
}
