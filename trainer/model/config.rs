//! The shape of a model: config.json of a Hugging Face directory.

use std::io;
use std::path::Path;

use orcapack_tasks::defect::Defects;
use serde_json::{Value, json};

use crate::caps::{CONTEXT_TOKENS_MAX, LAYERS_MAX, WIDTH_MAX};
use crate::files;
use crate::json_file::JsonFile;
use crate::model::init::DEVIATION;
use crate::tensors::write::WeightType;

const ARCHITECTURE: &str = "Qwen3ForCausalLM";
const MODEL_TYPE: &str = "qwen3";
const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
/// What transformers' `Qwen3Config` takes where the key is absent.
const HEAD_DIM: usize = 128;
const RMS_NORM_EPS: f64 = 1e-6;

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
    pub fn read(path: &Path) -> Result<Self, Defects> {
        let mut file = JsonFile::read(path)?;
        refuse_what_is_not_built(&mut file);
        let mut config = Self {
            vocab_size: file.size("vocab_size", 1..=WIDTH_MAX),
            hidden_size: file.size("hidden_size", 1..=WIDTH_MAX),
            intermediate_size: file.size("intermediate_size", 1..=WIDTH_MAX),
            num_hidden_layers: file.size("num_hidden_layers", 1..=LAYERS_MAX),
            num_attention_heads: file.size("num_attention_heads", 1..=WIDTH_MAX),
            num_key_value_heads: file.size("num_key_value_heads", 1..=WIDTH_MAX),
            head_dim: match file.get("head_dim") {
                Some(_) => file.size("head_dim", 2..=WIDTH_MAX),
                None => HEAD_DIM,
            },
            rms_norm_eps: file.opt_positive("rms_norm_eps").unwrap_or(RMS_NORM_EPS),
            rope_theta: rope_theta(&mut file),
            tie_word_embeddings: file.flag_or("tie_word_embeddings", false),
            max_position_embeddings: file.size("max_position_embeddings", 1..=CONTEXT_TOKENS_MAX),
            eos_token_ids: Vec::new(),
        };
        config.refuse_misfits(&mut file);
        let mut defects = Defects::default();
        match config.read_eos(&path.with_file_name(GENERATION_CONFIG), &mut file) {
            Ok(ids) => config.eos_token_ids = ids,
            Err(of_generation) => defects = of_generation,
        }
        defects.0.splice(0..0, file.finish().0);
        defects.into_result(config)
    }

    fn refuse_misfits(&self, file: &mut JsonFile) {
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if kv_heads > 0 && !heads.is_multiple_of(kv_heads) {
            let expected = format!("a multiple of num_key_value_heads, which is {kv_heads}");
            file.refuse("num_attention_heads", expected);
        }
        if !self.head_dim.is_multiple_of(2) {
            file.refuse("head_dim", "an even number");
        }
        if heads.saturating_mul(self.head_dim) > WIDTH_MAX {
            let expected = format!("with head_dim {}, at most {WIDTH_MAX} together", self.head_dim);
            file.refuse("num_attention_heads", expected);
        }
    }

    /// The end tokens of generation_config.json where it names any, else of config.json.
    fn read_eos(&self, path: &Path, config: &mut JsonFile) -> Result<Vec<u32>, Defects> {
        const KEY: &str = "eos_token_id";
        let mut generation = if path.exists() { Some(JsonFile::read(path)?) } else { None };
        let file = match &mut generation {
            Some(generation) if generation.get(KEY).is_some() => generation,
            _ => config,
        };
        // A size that was refused says nothing of the ids.
        let vocab_size = if self.vocab_size > 0 { self.vocab_size } else { WIDTH_MAX };
        let expected = format!(
            "an id below vocab_size, which is {vocab_size}, or a list of ids, here or in \
             {GENERATION_CONFIG}"
        );
        let ids = file.value(KEY, &expected, |value| {
            let id = |value: &Value| {
                let id = u32::try_from(value.as_u64()?).ok()?;
                (usize::try_from(id).ok()? < vocab_size).then_some(id)
            };
            match value {
                Value::Array(ids) if !ids.is_empty() => ids.iter().map(id).collect(),
                id_alone => id(id_alone).map(|id| vec![id]),
            }
        });
        if file.get(KEY).is_none() {
            file.refuse(KEY, expected);
        }
        generation.map(JsonFile::finish).unwrap_or_default().into_result(ids.unwrap_or_default())
    }

    /// Writes config.json and generation_config.json, as transformers 4 and 5 read them: the base
    /// of the rotary embedding and the type of the weights stand where each looks for them.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, dir: &Path, weights: WeightType) -> io::Result<()> {
        let eos = match self.eos_token_ids.as_slice() {
            [id] => json!(id),
            ids => json!(ids),
        };
        let config = json!({
            "architectures": [ARCHITECTURE],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "dtype": weights.torch_name(),
            "eos_token_id": eos,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": DEVIATION,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": MODEL_TYPE,
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "rope_scaling": null,
            "rope_theta": self.rope_theta,
            "sliding_window": null,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": weights.torch_name(),
            "use_cache": true,
            "use_sliding_window": false,
            "vocab_size": self.vocab_size,
        });
        let generation = json!({"eos_token_id": eos});
        for (name, value) in [(GENERATION_CONFIG, generation), (CONFIG, config)] {
            files::write_text(&dir.join(name), &format!("{value:#}\n"))?;
        }
        Ok(())
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

fn refuse_what_is_not_built(file: &mut JsonFile) {
    if file.get("model_type").is_none() {
        file.refuse("model_type", format!("{MODEL_TYPE:?}"));
    }
    file.only("model_type", MODEL_TYPE, "");
    file.only("architectures", json!([ARCHITECTURE]), "");
    file.only("hidden_act", "silu", "");
    file.only("attention_bias", false, ": biases are not built");
    file.only("attention_dropout", 0.0, ": dropout is not built");
    file.only("use_sliding_window", false, ": sliding windows are not built");
    let is_full = |value: &Value| {
        let layers = value.as_array()?;
        layers.iter().all(|layer| layer == "full_attention").then_some(())
    };
    file.value("layer_types", "\"full_attention\" only: sliding windows are not built", is_full);
    for table in ["rope_parameters", "rope_scaling"] {
        for key in ["rope_type", "type"] {
            file.only(&format!("{table}.{key}"), "default", ": scaled rope is not built");
        }
    }
    file.only("rope_parameters.partial_rotary_factor", 1.0, ": all of a head is rotated");
    if file.get("quantization_config").is_some() {
        file.refuse("quantization_config", "no such key: weights are f32, f16 or bf16");
    }
}

/// transformers 4 writes it at the top, 5 in `rope_parameters`.
fn rope_theta(file: &mut JsonFile) -> f64 {
    const OUTER: &str = "rope_theta";
    const INNER: &str = "rope_parameters.rope_theta";
    match (file.opt_positive(OUTER), file.opt_positive(INNER)) {
        (Some(outer), Some(inner)) if outer.to_bits() != inner.to_bits() => {
            file.refuse(OUTER, format!("{inner}, as in {INNER}"));
            inner
        }
        (Some(theta), _) | (None, Some(theta)) => theta,
        (None, None) => {
            if file.get(OUTER).is_none() && file.get(INNER).is_none() {
                file.refuse(OUTER, format!("a number above 0, here or in {INNER}"));
            }
            0.0
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
