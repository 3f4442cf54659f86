//! A policy's directory with random weights, as small as the architecture goes.

use std::path::Path;

use candle_core::Device;
use orcapack_trainer::model::config::ModelConfig;
use orcapack_trainer::model::parameters::Parameters;
use orcapack_trainer::model::weights_write::WeightsFormat;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::text::CHATML_SPECIALS;
use orcapack_trainer::text::chat::ChatTemplate;
use orcapack_trainer::text::tokenizer::Tokenizer;

/// What its words are learnt from.
const TEXTS: [&str; 3] = [
    "solve the task and write the answer",
    "the answer is written, the task is solved",
    "hello, what is the task? write the answer to the file",
];
/// The specials, the bytes, and some words.
const VOCAB_SIZE: usize = 320;

/// Fills `dir`, which is empty; the same seed gives the same policy.
pub fn write(dir: &Path, seed: u64) {
    let tokenizer = Tokenizer::train(&TEXTS, VOCAB_SIZE, &CHATML_SPECIALS).unwrap();
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
    let policy = Policy { config, tokenizer, chat: ChatTemplate::chatml().unwrap() };
    policy.save(dir, &parameters, WeightsFormat::default()).unwrap();
}
