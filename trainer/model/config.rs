//! The shape of a model: config.json of a Hugging Face directory.

use std::path::Path;

use orcapack_tasks::defect::Defects;

/// A decoder of the Qwen3 architecture: grouped-query attention with normalised queries and keys,
/// rotary positions, SwiGLU, RMSNorm before each part; no biases.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    /// Of queries; a multiple of `num_key_value_heads`.
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    /// Even. `num_attention_heads * head_dim` need not be `hidden_size`.
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    pub max_position_embeddings: usize,
    /// Any of them ends an answer. From generation_config.json where that is there.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// Reads config.json, and generation_config.json beside it where there is one.
    ///
    /// # Errors
    /// Each key that is missing, of another type, out of range, or asks for what is not built
    /// (another architecture, scaled rope, sliding windows, biases).
    pub fn read(_file: &Path) -> Result<Self, Defects> {
        todo!()
    }

    /// Elements of all weights together; a tied head counts once.
    pub fn parameters(&self) -> usize {
        todo!()
    }
}
