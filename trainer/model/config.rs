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

    /// The least that learns the built-in families of tasks: 0.43 M parameters with a vocabulary
    /// of bytes.
    pub fn small(vocab_size: usize, eos_token_id: u32) -> Self {
        Self {
            vocab_size,
            hidden_size: 128,
            intermediate_size: 384,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 32,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
            max_position_embeddings: 4096,
            eos_token_ids: vec![eos_token_id],
        }
    }

    /// Elements of all weights together; a tied head counts once.
    pub fn parameters(&self) -> usize {
        let (hidden, head) = (self.hidden_size, self.head_dim);
        let queries = self.num_attention_heads * head;
        let keys = self.num_key_value_heads * head;
        let attention = 2 * hidden * (queries + keys) + 2 * head;
        let mlp = 3 * hidden * self.intermediate_size;
        let layer = attention + mlp + 2 * hidden;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        tables * self.vocab_size * hidden + self.num_hidden_layers * layer + hidden
    }
}
