//! A small model for tests, its heads not as wide as its layers.

use crate::model::config::ModelConfig;

pub(crate) fn config() -> ModelConfig {
    ModelConfig {
        hidden_size: 8,
        intermediate_size: 12,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 6,
        ..ModelConfig::small(10, 1)
    }
}
