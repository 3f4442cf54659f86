//! Supervised fine-tuning: cross entropy with what a teacher said.

use crate::loss::aggregate::Aggregate;
use crate::loss::inputs::{check_length, check_norm};
use crate::loss::{LossError, StepCounts};

/// Of a batch: its part of the step's loss, `-sum of a logprob`, and the derivative of that by each
/// target's log-probability. `samples` is the sample of each target; all of a sample's targets are
/// in one batch.
///
/// # Errors
/// No targets, lists of other lengths, a log-probability that is not finite, no `norm_tokens`.
pub fn loss(
    logprobs: &[f32],
    samples: &[u32],
    step: StepCounts,
    aggregate: Aggregate,
    norm_tokens: u32,
) -> Result<(f64, Vec<f32>), LossError> {
    if logprobs.is_empty() || step.tokens == 0 || step.samples == 0 {
        return Err(LossError::Empty);
    }
    check_norm(norm_tokens)?;
    check_length("samples", logprobs.len(), samples.len())?;
    if let Some(target) = logprobs.iter().position(|logprob| !logprob.is_finite()) {
        let found = f64::from(logprobs[target]);
        return Err(LossError::NotFinite { name: "logprobs", target, found });
    }
    let parts = aggregate.parts(samples, step, norm_tokens);
    let value = parts.iter().zip(logprobs).map(|(part, logprob)| -part * f64::from(*logprob)).sum();
    Ok((value, parts.into_iter().map(|part| -part as f32).collect()))
}
