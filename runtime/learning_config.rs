//! How weights learn, `[train]`: what `sft` and `train` have in common. Every key, its default and
//! its range.

use candle_core::Device;
use orcapack_tasks::toml_section::Section;
use orcapack_trainer::model::step::{Activations, StepSettings};
use orcapack_trainer::ops::Ops;
use orcapack_trainer::optimizer::adamw::AdamWSettings;
use orcapack_trainer::optimizer::schedule::{Decay, Schedule};
use orcapack_trainer::samples::packing::PackSettings;
use serde::{Serialize, Serializer};

use crate::config_read::{count_or, small_or};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LearningConfig {
    /// In one forward and backward pass; a batch is cut into as many as it takes.
    pub micro_batch_tokens: usize,
    /// Samples that are longer are left out, and counted.
    pub sample_tokens_max: usize,
    /// Learning rate at its peak.
    pub lr: f64,
    #[serde(serialize_with = "decay")]
    pub schedule: Decay,
    pub warmup_steps: usize,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Of the global gradient norm.
    pub clip_norm: f64,
    /// Of the order of the data.
    pub seed: u64,
    /// Of layers: kept for the backward pass, or computed again.
    #[serde(serialize_with = "activations")]
    pub activations: Activations,
    /// Of each rank.
    pub threads: usize,
}

/// Those keys that a resumed run may change.
pub const FREE: [&str; 2] = ["threads", "activations"];

/// Targets whose logits are there at a time: 128 MiB with a vocabulary of 150,000.
const LOGPROB_CHUNK: usize = 224;

impl LearningConfig {
    pub fn defaults(lr: f64, threads: usize) -> Self {
        Self {
            micro_batch_tokens: 8192,
            sample_tokens_max: 8192,
            lr,
            schedule: Decay::Linear,
            warmup_steps: 50,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            clip_norm: 1.0,
            seed: 0,
            activations: Activations::Keep,
            threads,
        }
    }

    pub fn read(section: &Section<'_>, base: Self) -> Self {
        let count = |key, base, max| count_or(section, key, base, 1..=max);
        let share = |key, base| section.f64_or(key, base, 0.0..=0.999_999);
        Self {
            micro_batch_tokens: count("micro_batch_tokens", base.micro_batch_tokens, 1 << 24),
            sample_tokens_max: count("sample_tokens_max", base.sample_tokens_max, 1 << 20),
            lr: section.f64_or("lr", base.lr, 0.0..=10.0),
            schedule: section.one_of_or("schedule", base.schedule, &DECAYS),
            warmup_steps: count_or(section, "warmup_steps", base.warmup_steps, 0..=1_000_000),
            weight_decay: section.f64_or("weight_decay", base.weight_decay, 0.0..=10.0),
            beta1: share("beta1", base.beta1),
            beta2: share("beta2", base.beta2),
            eps: section.f64_or("eps", base.eps, 1e-20..=1.0),
            clip_norm: section.f64_or("clip_norm", base.clip_norm, 1e-9..=1e9),
            seed: section.u64_or("seed", base.seed, 0..=i64::MAX as u64),
            activations: section.one_of_or("activations", base.activations, &ACTIVATIONS),
            threads: small_or(section, "threads", base.threads as u32, 1..=1024) as usize,
        }
    }

    /// Of a run of so many steps.
    pub fn schedule(&self, steps: u64) -> Schedule {
        let Self { lr, warmup_steps, schedule, .. } = *self;
        Schedule { lr, warmup_steps: warmup_steps as u64, steps, decay: schedule }
    }

    pub fn adamw(&self) -> AdamWSettings {
        let Self { beta1, beta2, eps, weight_decay, .. } = *self;
        AdamWSettings { beta1, beta2, eps, weight_decay }
    }

    pub fn micro_batch(&self) -> PackSettings {
        let row_tokens_max = self.sample_tokens_max.min(self.micro_batch_tokens);
        let rows_max = (self.micro_batch_tokens / row_tokens_max).max(1);
        PackSettings { row_tokens_max, rows_max }
    }

    /// `temperature` is that of the samples.
    pub fn step(&self, temperature: f32) -> StepSettings {
        StepSettings {
            ops: Ops::for_device(&Device::Cpu),
            activations: self.activations,
            logprob_chunk: LOGPROB_CHUNK,
            temperature,
        }
    }
}

const DECAYS: [(&str, Decay); 3] =
    [("constant", Decay::Constant), ("linear", Decay::Linear), ("cosine", Decay::Cosine)];
const ACTIVATIONS: [(&str, Activations); 2] =
    [("keep", Activations::Keep), ("recompute", Activations::Recompute)];

fn decay<S: Serializer>(value: &Decay, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name_of(value, &DECAYS))
}

fn activations<S: Serializer>(value: &Activations, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name_of(value, &ACTIVATIONS))
}

/// By its name in `names`.
pub(crate) fn name_of<T: PartialEq>(value: &T, names: &[(&'static str, T)]) -> &'static str {
    names.iter().find(|(_, named)| named == value).map_or("", |(name, _)| name)
}
