//! What a rank teaches, and how: the same wherever it lives.

use std::path::Path;

use candle_core::Device;
use orcapack_tasks::{Defect, Defects};
use orcapack_trainer::learner::{Learner, Trainee};
use orcapack_trainer::policy::Policy;
use orcapack_trainer::policy_step::RlSettings;

use crate::train::config::TrainConfig;

/// Of each rank; `temperature` is that of the samples.
pub fn settings(config: &TrainConfig, temperature: f32) -> RlSettings {
    let TrainConfig { train, loss, ranks, .. } = config;
    let learning = &train.learning;
    RlSettings {
        loss: loss.0,
        micro_batch: learning.micro_batch(),
        clip_norm: learning.clip_norm,
        adamw: learning.adamw(),
        step: learning.step(temperature),
        old: train.old_logprobs,
        overlap: ranks.overlap,
        shard_optimizer: ranks.shard_optimizer,
        bucket_bytes: ranks.bucket_kb << 10,
    }
}

/// A copy of the policy that learns: as it is in a checkpoint of so many steps of the optimizer, or
/// at its beginning.
///
/// # Errors
/// Faults of the weights' files.
pub fn make(
    config: &TrainConfig,
    policy: &Policy,
    checkpoint: Option<(u64, &Path)>,
) -> Result<Learner, Defects> {
    let base = &config.policy.base;
    let dir = checkpoint.map_or(base.as_path(), |(_, dir)| dir);
    let trainee = Trainee::Full(policy.load(dir, &Device::Cpu)?);
    let made = Learner::new(trainee, config.train.learning.adamw());
    let mut learner = made.map_err(|error| Defect::new(dir, "weights", error.to_string()))?;
    if let Some((steps, dir)) = checkpoint {
        learner.restore(dir, steps)?;
    }
    if config.loss.0.kl_coef > 0.0 {
        learner = learner.with_reference(policy.load(base, &Device::Cpu)?);
    }
    Ok(learner)
}
