//! What a loss is computed from.

use crate::loss::{LossError, LossSettings};

/// A batch's targets, and the step that it is part of. Log-probabilities are natural, one for each
/// target.
#[derive(Clone, Copy, Debug)]
pub struct LossInputs<'a> {
    /// Of the policy that is trained.
    pub logprobs: &'a [f32],
    /// Of the policy at the beginning of the step, by the same computation.
    pub old: &'a [f32],
    /// What the sampler said when it sampled them.
    pub sampler: &'a [f32],
    /// Of a fixed policy that this one is held to.
    pub reference: Option<&'a [f32]>,
    /// Of each target, the sample that it is of. A sample's targets are all in one batch.
    pub samples: &'a [u32],
    /// Of each sample of the step.
    pub advantages: &'a [f32],
    pub step: StepCounts,
}

/// Of all batches of a step together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepCounts {
    /// Targets.
    pub tokens: u64,
    /// Samples with targets.
    pub samples: u64,
}

impl StepCounts {
    /// Of targets, given the sample of each.
    pub fn of(samples: impl IntoIterator<Item = u32>) -> Self {
        let mut samples: Vec<u32> = samples.into_iter().collect();
        let tokens = samples.len() as u64;
        samples.sort_unstable();
        samples.dedup();
        Self { tokens, samples: samples.len() as u64 }
    }
}

impl LossInputs<'_> {
    pub(super) fn check(&self, settings: &LossSettings) -> Result<(), LossError> {
        let expected = self.logprobs.len();
        if expected == 0 || self.step.tokens == 0 || self.step.samples == 0 {
            return Err(LossError::Empty);
        }
        if settings.kl_coef > 0.0 && self.reference.is_none() {
            return Err(LossError::NoReference(settings.kl_coef));
        }
        let reference = self.reference.unwrap_or(self.logprobs);
        let lists = [
            ("logprobs", self.logprobs),
            ("old", self.old),
            ("sampler", self.sampler),
            ("reference", reference),
        ];
        for (name, list) in lists {
            check_length(name, expected, list.len())?;
            if let Some(target) = list.iter().position(|logprob| !logprob.is_finite()) {
                let found = f64::from(list[target]);
                return Err(LossError::NotFinite { name, target, found });
            }
        }
        check_length("samples", expected, self.samples.len())?;
        for (target, sample) in self.samples.iter().enumerate() {
            match self.advantages.get(*sample as usize) {
                None => return Err(LossError::NoAdvantage { target, sample: *sample }),
                Some(advantage) if !advantage.is_finite() => {
                    let found = f64::from(*advantage);
                    return Err(LossError::NotFinite { name: "advantage", target, found });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Of the target's sample.
    pub(super) fn advantage(&self, target: usize) -> f64 {
        let sample = self.samples[target] as usize;
        f64::from(self.advantages[sample])
    }

    /// Logarithm of the ratio of the policy's probability to the old one.
    pub(super) fn log_ratio(&self, target: usize) -> f64 {
        f64::from(self.logprobs[target]) - f64::from(self.old[target])
    }

    /// The targets of each sample in the batch.
    pub(super) fn by_sample(&self) -> impl Iterator<Item = Vec<usize>> {
        by_sample(self.samples)
    }
}

/// The targets of each sample, in the order in which the samples first come.
pub(super) fn by_sample(samples: &[u32]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let mut places = std::collections::HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (target, sample) in samples.iter().enumerate() {
        let place = *places.entry(*sample).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(target),
            None => groups.push(vec![target]),
        }
    }
    groups.into_iter()
}

/// What `seq-mean-token-sum-norm` divides by.
pub(super) fn check_norm(norm_tokens: u32) -> Result<(), LossError> {
    match norm_tokens {
        0 => Err(LossError::Setting { name: "norm_tokens", expected: "1 or more", found: 0.0 }),
        _ => Ok(()),
    }
}

pub(super) fn check_length(
    name: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), LossError> {
    match expected == found {
        true => Ok(()),
        false => Err(LossError::Length { name, expected, found }),
    }
}
