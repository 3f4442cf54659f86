//! The weights of a model, by their Hugging Face names.

use std::convert::Infallible;

use candle_core::{DType, Device, Var};

use crate::model::config::ModelConfig;
use crate::model::init::{DEVIATION, Normal};

/// All weights, each a variable of its own in the layout of the files (`[out, in]`, row-major,
/// contiguous).
///
/// `W` is what is known of each weight: the weight itself, or its shape.
pub struct Parameters<W = Var> {
    pub config: ModelConfig,
    /// `model.embed_tokens.weight` `[vocab, hidden]`.
    pub embed: W,
    pub layers: Vec<LayerParameters<W>>,
    /// `model.norm.weight` `[hidden]`.
    pub norm: W,
    /// `lm_head.weight` `[vocab, hidden]`; `None` where it is the embedding.
    pub head: Option<W>,
}

/// Of layer i, below `model.layers.i.`.
pub struct LayerParameters<W = Var> {
    /// `input_layernorm.weight` `[hidden]`.
    pub input_norm: W,
    /// `self_attn.q_proj.weight` `[heads * head_dim, hidden]`.
    pub q_proj: W,
    /// `self_attn.k_proj.weight` `[kv_heads * head_dim, hidden]`.
    pub k_proj: W,
    /// `self_attn.v_proj.weight` `[kv_heads * head_dim, hidden]`.
    pub v_proj: W,
    /// `self_attn.o_proj.weight` `[hidden, heads * head_dim]`.
    pub o_proj: W,
    /// `self_attn.q_norm.weight` `[head_dim]`.
    pub q_norm: W,
    /// `self_attn.k_norm.weight` `[head_dim]`.
    pub k_norm: W,
    /// `post_attention_layernorm.weight` `[hidden]`.
    pub post_norm: W,
    /// `mlp.gate_proj.weight` `[intermediate, hidden]`.
    pub gate_proj: W,
    /// `mlp.up_proj.weight` `[intermediate, hidden]`.
    pub up_proj: W,
    /// `mlp.down_proj.weight` `[hidden, intermediate]`.
    pub down_proj: W,
}

pub(crate) const EMBED: &str = "model.embed_tokens.weight";
pub(crate) const HEAD: &str = "lm_head.weight";
const NORM: &str = "model.norm.weight";
/// Of one layer.
pub(crate) const LAYER_WEIGHTS: usize = 11;
const LAYERS: &str = "model.layers";

impl<W> Parameters<W> {
    /// Each weight is what `make` gives for its name and shape; asked in the order of
    /// [`Parameters::named`].
    ///
    /// # Errors
    /// The first of `make`.
    pub fn build<E>(
        config: &ModelConfig,
        mut make: impl FnMut(&str, &[usize]) -> Result<W, E>,
    ) -> Result<Self, E> {
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let embed = make(EMBED, &[vocab, hidden])?;
        let layers = (0..config.num_hidden_layers).map(|layer| {
            LayerParameters::build(config, |name, shape| {
                make(&format!("{LAYERS}.{layer}.{name}"), shape)
            })
        });
        let layers = layers.collect::<Result<_, E>>()?;
        let norm = make(NORM, &[hidden])?;
        let untied = !config.tie_word_embeddings;
        let head = untied.then(|| make(HEAD, &[vocab, hidden])).transpose()?;
        Ok(Self { config: config.clone(), embed, layers, norm, head })
    }

    /// Every weight by its name, in one fixed order: embedding, layers from the first (in the
    /// order of [`LayerParameters`]), norm, head.
    pub fn named(&self) -> Vec<(String, &W)> {
        let layers = self.layers.iter().enumerate().flat_map(|(layer, parameters)| {
            let named = parameters.named().into_iter();
            named.map(move |(name, var)| (format!("{LAYERS}.{layer}.{name}"), var))
        });
        let mut all = vec![(EMBED.to_owned(), &self.embed)];
        all.extend(layers);
        all.push((NORM.to_owned(), &self.norm));
        all.extend(self.head.iter().map(|head| (HEAD.to_owned(), head)));
        all
    }
}

impl<W> Parameters<W> {
    /// Indices in [`Parameters::named`] of the weights in each group of a backward pass, in the
    /// order in which the groups come.
    pub(crate) fn groups(&self) -> Vec<Vec<usize>> {
        let norm = 1 + LAYER_WEIGHTS * self.layers.len();
        let head = [norm].into_iter().chain(self.head.as_ref().map(|_| norm + 1)).collect();
        let layers = (0..self.layers.len()).rev().map(|layer| {
            let first = 1 + LAYER_WEIGHTS * layer;
            (first..first + LAYER_WEIGHTS).collect()
        });
        [head].into_iter().chain(layers).chain([vec![0]]).collect()
    }
}

impl Parameters<Vec<usize>> {
    pub fn shapes(config: &ModelConfig) -> Self {
        let Ok(shapes) = Self::build(config, |_, shape| Ok::<_, Infallible>(shape.to_vec()));
        shapes
    }
}

impl Parameters {
    /// Drawn from `seed`, from normal distributions: the layers' matrices with deviation
    /// `1 / sqrt(inputs)` (LeCun et al. 1998, "Efficient BackProp"), without which a narrow policy
    /// is slow to learn to copy; embedding and head with 0.02. Norms are 1. The same seed gives the
    /// same bytes on every machine.
    ///
    /// # Errors
    /// The device's.
    pub fn random(config: &ModelConfig, seed: u64, device: &Device) -> candle_core::Result<Self> {
        let mut stream = 0;
        Self::build(config, |name, shape| {
            stream += 1;
            let deviation = match shape {
                [_, inputs] if name.contains(".layers.") => (*inputs as f64).sqrt().recip(),
                [_, _] => DEVIATION,
                _ => return Var::ones(shape, DType::F32, device),
            };
            let draws = Normal::new(seed, stream).draws(shape.iter().product(), deviation);
            Var::from_vec(draws, shape, device)
        })
    }

    /// A copy with variables of its own: a reference policy, or what evaluates while this trains.
    ///
    /// # Errors
    /// The device's.
    pub fn duplicate(&self) -> candle_core::Result<Self> {
        let mut vars = self.named().into_iter();
        Self::build(&self.config, |name, _| match vars.next() {
            Some((_, var)) => Var::from_tensor(&var.as_detached_tensor()),
            None => candle_core::bail!("{name}: not in the model"),
        })
    }
}

impl<W> LayerParameters<W> {
    fn build<E>(
        config: &ModelConfig,
        mut make: impl FnMut(&str, &[usize]) -> Result<W, E>,
    ) -> Result<Self, E> {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let head = config.head_dim;
        let (queries, keys) =
            (config.num_attention_heads * head, config.num_key_value_heads * head);
        Ok(Self {
            input_norm: make("input_layernorm.weight", &[hidden])?,
            q_proj: make("self_attn.q_proj.weight", &[queries, hidden])?,
            k_proj: make("self_attn.k_proj.weight", &[keys, hidden])?,
            v_proj: make("self_attn.v_proj.weight", &[keys, hidden])?,
            o_proj: make("self_attn.o_proj.weight", &[hidden, queries])?,
            q_norm: make("self_attn.q_norm.weight", &[head])?,
            k_norm: make("self_attn.k_norm.weight", &[head])?,
            post_norm: make("post_attention_layernorm.weight", &[hidden])?,
            gate_proj: make("mlp.gate_proj.weight", &[intermediate, hidden])?,
            up_proj: make("mlp.up_proj.weight", &[intermediate, hidden])?,
            down_proj: make("mlp.down_proj.weight", &[hidden, intermediate])?,
        })
    }

    /// In the order of [`LayerParameters::build`].
    pub(crate) fn named(&self) -> [(&'static str, &W); LAYER_WEIGHTS] {
        [
            ("input_layernorm.weight", &self.input_norm),
            ("self_attn.q_proj.weight", &self.q_proj),
            ("self_attn.k_proj.weight", &self.k_proj),
            ("self_attn.v_proj.weight", &self.v_proj),
            ("self_attn.o_proj.weight", &self.o_proj),
            ("self_attn.q_norm.weight", &self.q_norm),
            ("self_attn.k_norm.weight", &self.k_norm),
            ("post_attention_layernorm.weight", &self.post_norm),
            ("mlp.gate_proj.weight", &self.gate_proj),
            ("mlp.up_proj.weight", &self.up_proj),
            ("mlp.down_proj.weight", &self.down_proj),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(parameters: &Parameters) -> Vec<(String, Vec<u32>)> {
        let named = parameters.named().into_iter().map(|(name, var)| {
            let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
            (name, values.into_iter().map(f32::to_bits).collect())
        });
        named.collect()
    }

    #[test]
    fn weights_are_listed_as_they_are_built_and_counted() {
        for tie_word_embeddings in [false, true] {
            let config = ModelConfig { tie_word_embeddings, ..ModelConfig::small(96, 1) };
            let mut built = Vec::new();
            let parameters = Parameters::build(&config, |name, shape| {
                built.push((name.to_owned(), shape.to_vec()));
                Var::zeros(shape, DType::F32, &Device::Cpu)
            });
            let parameters = parameters.unwrap();
            let listed: Vec<(String, Vec<usize>)> = parameters
                .named()
                .into_iter()
                .map(|(name, var)| (name, var.dims().to_vec()))
                .collect();
            assert_eq!(listed, built);
            let elements: usize =
                listed.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(config.parameters(), elements);
        }
    }

    #[test]
    fn a_seed_makes_the_same_weights_and_another_seed_others() {
        let config = ModelConfig::small(96, 1);
        let random = |seed| bytes(&Parameters::random(&config, seed, &Device::Cpu).unwrap());
        assert_eq!(random(1), random(1));
        let (first, second) = (random(1), random(2));
        for ((name, first), (_, second)) in first.iter().zip(&second) {
            let is_norm = name.ends_with("norm.weight");
            assert_eq!(first == second, is_norm, "{name}");
        }
    }

    #[test]
    fn a_copy_does_not_change_with_its_original() {
        let parameters = Parameters::random(&ModelConfig::small(96, 1), 1, &Device::Cpu).unwrap();
        let (before, copy) = (bytes(&parameters), parameters.duplicate().unwrap());
        for (_, var) in parameters.named() {
            var.set(&var.zeros_like().unwrap()).unwrap();
        }
        assert_eq!(bytes(&copy), before);
    }
}
