//! What a step has done, put together from what its ranks say.

use crate::collective::RankId;
use crate::loss::LossMetrics;
use crate::policy_step::{StepBatch, StepSums, Trainable};
use crate::ranks::group_events::Done;
use crate::ranks::replica::Prepared;

/// A step that every rank of its epoch has applied.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Of the optimizer; 1 is the first.
    pub step: u64,
    /// Ranks of the ring that made it.
    pub world_size: usize,
    /// Of that ring.
    pub epoch: u64,
    /// The ranks that have applied it, in order.
    pub members: Vec<RankId>,
    /// Why it was begun again, each time.
    pub aborts: Vec<String>,
    /// Before the step.
    pub loss: f64,
    pub metrics: LossMetrics,
    /// Of the policy's distribution at the trained tokens, mean, in nats.
    pub entropy: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
    /// Of the samples that were trained on, prompts too.
    pub tokens: usize,
    pub trained_tokens: usize,
    pub samples: usize,
    /// Samples that are longer than a row, and were left out.
    pub too_long: usize,
    /// Versions between a token's sampler and the policy that was trained: mean and most.
    pub staleness_mean: f64,
    pub staleness_max: u64,
    /// Forward and backward passes, on the slowest rank.
    pub compute_sec: f64,
    /// What the sums took beyond that, on the rank that waited the least: the others have waited
    /// for it, too.
    pub reduce_sec: f64,
    /// Of the weights behind the step, the same on every rank.
    pub digest: u64,
}

impl StepReport {
    /// `prepared` is of the ring, in its order.
    pub(super) fn new(
        done: Done,
        batch: &StepBatch,
        trainable: &Trainable,
        prepared: &[Prepared],
    ) -> Self {
        let mut sums = StepSums::default();
        for Prepared { sums: own, .. } in prepared {
            sums.loss += own.loss;
            sums.entropy += own.entropy;
            sums.metrics.add(&own.metrics);
        }
        let (staleness_mean, staleness_max) = staleness(batch, trainable);
        let tokens = trainable.counts.tokens;
        let slowest = |most: f64, it: &Prepared| most.max(it.compute_sec);
        let least = |least: f64, it: &Prepared| least.min(it.reduce_sec);
        Self {
            step: done.step,
            world_size: prepared.len(),
            epoch: done.epoch,
            members: done.members,
            aborts: done.aborts,
            loss: sums.loss,
            metrics: sums.metrics,
            entropy: sums.entropy / tokens as f64,
            grad_norm: prepared.first().map_or(0.0, |it| it.grad_norm),
            learning_rate: batch.learning_rate,
            tokens: trainable.tokens,
            trained_tokens: tokens as usize,
            samples: trainable.samples.len(),
            too_long: trainable.too_long,
            staleness_mean,
            staleness_max,
            compute_sec: prepared.iter().fold(0.0, slowest),
            reduce_sec: prepared.iter().fold(f64::INFINITY, least),
            digest: done.digest,
        }
    }
}

fn staleness(batch: &StepBatch, trainable: &Trainable) -> (f64, u64) {
    let trained = trainable.samples.iter().flat_map(|at| &batch.samples[*at].sample.trained);
    let ages = trained.map(|token| batch.version.saturating_sub(token.version));
    let (sum, most) = ages.fold((0, 0), |(sum, most): (u64, u64), age| (sum + age, most.max(age)));
    (sum as f64 / trainable.counts.tokens as f64, most)
}
