//! Low-rank adapters (LoRA, <https://arxiv.org/abs/2106.09685>, section 4.1): W + alpha / rank B A,
//! of which only A and B are trained.
//!
//! ```text
//! base, adapters --effective--> parameters --the usual step--> dW --gradients--> dA, dB
//! ```

use std::collections::BTreeSet;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::config::ModelConfig;
use super::init::Normal;
use super::parameters::Parameters;

/// A matrix of each layer that may have an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoraTarget {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl LoraTarget {
    pub const ALL: [Self; 7] =
        [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// As the architecture and adapter_config.json call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// At least 1.
    pub rank: usize,
    /// What is added to a weight is alpha / rank times the product.
    pub alpha: f64,
    /// At least one.
    pub targets: BTreeSet<LoraTarget>,
}

/// The adapters of a model's targets.
pub struct Lora<W = Var> {
    pub settings: LoraSettings,
    pub(super) adapters: Vec<Adapter<W>>,
}

pub(super) struct Adapter<W> {
    /// Index in [`Parameters::named`].
    weight: usize,
    /// Name of the weight, without `.weight`.
    module: String,
    /// `[rank, in]`.
    a: W,
    /// `[out, rank]`.
    b: W,
}

/// Before the name of each tensor, as PEFT has it.
const PREFIX: &str = "base_model.model.";

impl<W> Lora<W> {
    /// Each matrix is what `make` gives for its name and shape; asked in the order of
    /// [`Lora::named`].
    ///
    /// # Errors
    /// The first of `make`.
    pub(super) fn build<E>(
        config: &ModelConfig,
        settings: &LoraSettings,
        mut make: impl FnMut(&str, &[usize]) -> std::result::Result<W, E>,
    ) -> std::result::Result<Self, E> {
        let mut adapters = Vec::new();
        for (weight, (name, shape)) in Parameters::shapes(config).named().into_iter().enumerate() {
            let (Some(module), [out, width]) = (name.strip_suffix(".weight"), shape.as_slice())
            else {
                continue;
            };
            let target = module.rsplit('.').next().and_then(LoraTarget::of);
            if target.is_some_and(|target| settings.targets.contains(&target)) {
                let [a, b] = names(module);
                adapters.push(Adapter {
                    weight,
                    module: module.to_owned(),
                    a: make(&a, &[settings.rank, *width])?,
                    b: make(&b, &[*out, settings.rank])?,
                });
            }
        }
        Ok(Self { settings: settings.clone(), adapters })
    }

    /// Every trained matrix by PEFT's name, in one fixed order: as the weights of
    /// [`Parameters::named`], of each A, then B.
    pub fn named(&self) -> Vec<(String, &W)> {
        let both = self.adapters.iter().flat_map(|adapter| {
            let [a, b] = names(&adapter.module);
            [(a, &adapter.a), (b, &adapter.b)]
        });
        both.collect()
    }
}

fn names(module: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|matrix| format!("{PREFIX}{module}.{matrix}.weight"))
}

impl Lora {
    /// A is drawn from `seed`, with the variance of PEFT's (Kaiming's for uniform draws, with
    /// a = sqrt 5: 1 / (3 in)); B is 0, so that the model starts as its base.
    ///
    /// # Errors
    /// The device's.
    pub fn random(
        config: &ModelConfig,
        settings: &LoraSettings,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut stream = 0;
        Self::build(config, settings, |name, shape| {
            stream += 1;
            let [rank, width] = *shape else { candle_core::bail!("{name}: not a matrix") };
            if name.contains("lora_B") {
                return Var::zeros(shape, DType::F32, device);
            }
            let deviation = (3.0 * width as f64).sqrt().recip();
            Var::from_vec(Normal::new(seed, stream).draws(rank * width, deviation), shape, device)
        })
    }

    /// The model with its adapters merged: to train with, to sample from, to save. Weights without
    /// an adapter are those of `base`, not copies.
    ///
    /// # Errors
    /// A base of another shape, or the device's.
    pub fn effective(&self, base: &Parameters) -> Result<Parameters> {
        let weights = base.named();
        let mut adapters = self.adapters.iter().peekable();
        let mut index = 0;
        Parameters::build(&base.config, |name, _| {
            let Some((_, weight)) = weights.get(index) else {
                candle_core::bail!("{name}: not in the base");
            };
            let adapter = adapters.next_if(|adapter| adapter.weight == index);
            index += 1;
            let Some(Adapter { a, b, .. }) = adapter else {
                return Ok(Var::clone(weight));
            };
            let product = b.as_detached_tensor().matmul(&a.as_detached_tensor())?;
            let scaled = product.affine(self.scale(), 0.0)?;
            Var::from_tensor(&(weight.as_detached_tensor() + scaled)?)
        })
    }

    /// From gradients of effective weights, by index in [`Parameters::named`], those of the
    /// adapters, by index in [`Lora::named`]. Gradients of other weights are let go.
    ///
    /// With s = alpha / rank: dA = s Bᵀ dW, dB = s dW Aᵀ.
    ///
    /// # Errors
    /// Gradients of another shape, or the device's.
    pub fn gradients(&self, gradients: &[(usize, Tensor)]) -> Result<Vec<(usize, Tensor)>> {
        let mut of_adapters = Vec::new();
        for (weight, gradient) in gradients {
            let found = self.adapters.binary_search_by_key(weight, |adapter| adapter.weight);
            let Some((at, Adapter { a, b, .. })) =
                found.ok().and_then(|at| Some((at, self.adapters.get(at)?)))
            else {
                continue;
            };
            let (a, b) = (a.as_detached_tensor(), b.as_detached_tensor());
            let d_a = b.t()?.matmul(gradient)?.affine(self.scale(), 0.0)?;
            let d_b = gradient.matmul(&a.t()?)?.affine(self.scale(), 0.0)?;
            of_adapters.extend([(2 * at, d_a), (2 * at + 1, d_b)]);
        }
        Ok(of_adapters)
    }

    /// Indices in [`Lora::named`] of what the gradients of `weights`, indices in
    /// [`Parameters::named`], become.
    pub(crate) fn trained_of(&self, weights: &[usize]) -> Vec<usize> {
        let found = weights.iter().filter_map(|weight| {
            self.adapters.binary_search_by_key(weight, |adapter| adapter.weight).ok()
        });
        found.flat_map(|at| [2 * at, 2 * at + 1]).collect()
    }

    fn scale(&self) -> f64 {
        self.settings.alpha / self.settings.rank as f64
    }
}

#[cfg(test)]
#[path = "lora_tests.rs"]
mod tests;
