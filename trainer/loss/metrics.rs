//! What is worth seeing of a loss.

use bincode::{Decode, Encode};

use crate::loss::{LossInputs, LossSettings};

/// Sums over targets, which those of several batches add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode)]
pub struct LossMetrics {
    pub tokens: u64,
    clipped: u64,
    /// Whose weight for their sampler is cut at the cap.
    capped: u64,
    ratios: f64,
    ratio_max: f64,
    sampler_k1: f64,
    sampler_k3: f64,
    reference_k3: Option<f64>,
}

impl LossMetrics {
    pub(super) fn of(settings: &LossSettings, inputs: &LossInputs<'_>, clipped: u64) -> Self {
        let mut metrics = Self { clipped, ..Self::default() };
        for (target, logprob) in inputs.logprobs.iter().enumerate() {
            let ratio = inputs.log_ratio(target).exp();
            let log_ratio_to = |other: &[f32]| f64::from(*logprob) - f64::from(other[target]);
            let to_sampler = log_ratio_to(inputs.sampler);
            let weight = (f64::from(inputs.old[target]) - f64::from(inputs.sampler[target])).exp();
            metrics.tokens += 1;
            metrics.capped += u64::from(settings.tis_cap.is_some_and(|cap| weight > cap));
            metrics.ratios += ratio;
            metrics.ratio_max = metrics.ratio_max.max(ratio);
            metrics.sampler_k1 -= to_sampler;
            metrics.sampler_k3 += k3(to_sampler);
            if let Some(reference) = inputs.reference {
                *metrics.reference_k3.get_or_insert(0.0) += k3(-log_ratio_to(reference));
            }
        }
        metrics
    }

    /// Takes in another batch of the step.
    pub fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.clipped += other.clipped;
        self.capped += other.capped;
        self.ratios += other.ratios;
        self.ratio_max = self.ratio_max.max(other.ratio_max);
        self.sampler_k1 += other.sampler_k1;
        self.sampler_k3 += other.sampler_k3;
        if let Some(sum) = other.reference_k3 {
            *self.reference_k3.get_or_insert(0.0) += sum;
        }
    }

    /// Of the tokens, those whose ratio the clip has changed the loss of.
    pub fn clip_fraction(&self) -> f64 {
        self.mean(self.clipped as f64)
    }

    /// Of the tokens, those whose weight for their sampler is cut at the cap.
    pub fn tis_cap_fraction(&self) -> f64 {
        self.mean(self.capped as f64)
    }

    /// Of the policy's probability to that at the beginning of the step.
    pub fn ratio_mean(&self) -> f64 {
        self.mean(self.ratios)
    }

    pub fn ratio_max(&self) -> f64 {
        self.ratio_max
    }

    /// The divergence of the policy from its samplers, estimated by `log sampler - log policy`:
    /// without bias, may be negative.
    pub fn kl_to_sampler_k1(&self) -> f64 {
        self.mean(self.sampler_k1)
    }

    /// The same, estimated by `r - 1 - log r` with `r = policy / sampler`: never negative.
    pub fn kl_to_sampler_k3(&self) -> f64 {
        self.mean(self.sampler_k3)
    }

    /// The divergence from the reference, where there is one.
    pub fn kl_to_reference_k3(&self) -> Option<f64> {
        self.reference_k3.map(|sum| self.mean(sum))
    }

    fn mean(&self, sum: f64) -> f64 {
        if self.tokens == 0 { 0.0 } else { sum / self.tokens as f64 }
    }
}

/// Schulman's third estimator, of a log ratio.
fn k3(log_ratio: f64) -> f64 {
    log_ratio.exp() - 1.0 - log_ratio
}
