//! The model of `peers/trainer.py`: 4 layers that are 256 wide.

use orcapack_trainer::model::config::ModelConfig;

pub const VOCAB_SIZE: usize = 2048;

pub fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: VOCAB_SIZE,
        hidden_size: 256,
        intermediate_size: 768,
        num_hidden_layers: 4,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 32,
        ..ModelConfig::small(VOCAB_SIZE, 0)
    }
}
