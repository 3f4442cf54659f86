//! The weights of a model, by their Hugging Face names.

use std::path::Path;

use candle_core::{Device, Var};
use orcapack_tasks::defect::Defects;

use crate::model::config::ModelConfig;

/// All weights, each a variable of its own in the layout of the files (`[out, in]`, row-major,
/// contiguous).
pub struct Parameters {
    pub config: ModelConfig,
    /// `model.embed_tokens.weight` `[vocab, hidden]`.
    pub embed: Var,
    pub layers: Vec<LayerParameters>,
    /// `model.norm.weight` `[hidden]`.
    pub norm: Var,
    /// `lm_head.weight` `[vocab, hidden]`; `None` where it is the embedding.
    pub head: Option<Var>,
}

/// Of layer i, below `model.layers.i.`.
pub struct LayerParameters {
    /// `input_layernorm.weight` `[hidden]`.
    pub input_norm: Var,
    /// `self_attn.q_proj.weight` `[heads * head_dim, hidden]`.
    pub q_proj: Var,
    /// `self_attn.k_proj.weight` `[kv_heads * head_dim, hidden]`.
    pub k_proj: Var,
    /// `self_attn.v_proj.weight` `[kv_heads * head_dim, hidden]`.
    pub v_proj: Var,
    /// `self_attn.o_proj.weight` `[hidden, heads * head_dim]`.
    pub o_proj: Var,
    /// `self_attn.q_norm.weight` `[head_dim]`.
    pub q_norm: Var,
    /// `self_attn.k_norm.weight` `[head_dim]`.
    pub k_norm: Var,
    /// `post_attention_layernorm.weight` `[hidden]`.
    pub post_norm: Var,
    /// `mlp.gate_proj.weight` `[intermediate, hidden]`.
    pub gate_proj: Var,
    /// `mlp.up_proj.weight` `[intermediate, hidden]`.
    pub up_proj: Var,
    /// `mlp.down_proj.weight` `[hidden, intermediate]`.
    pub down_proj: Var,
}

impl Parameters {
    /// Drawn from `seed`: matrices from a normal distribution with deviation 0.02, norms 1. The
    /// same seed gives the same bytes on every machine.
    pub fn random(
        _config: &ModelConfig,
        _seed: u64,
        _device: &Device,
    ) -> candle_core::Result<Self> {
        todo!()
    }

    /// See [`crate::policy::Policy::load`].
    ///
    /// # Errors
    /// Names, shapes, dtypes, sizes, overlaps, values that are not finite: all at once.
    pub fn load(_dir: &Path, _config: &ModelConfig, _device: &Device) -> Result<Self, Defects> {
        todo!()
    }

    /// Every weight by its name, in one fixed order: embedding, layers from the first (in the
    /// order of [`LayerParameters`]), norm, head.
    pub fn named(&self) -> Vec<(String, &Var)> {
        todo!()
    }
}
