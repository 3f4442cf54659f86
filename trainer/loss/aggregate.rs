//! What part of a step's loss each token is.

use crate::loss::StepCounts;
use crate::loss::inputs::by_sample;

/// From the losses of tokens to the loss of a step with `T` tokens in `N` samples. By the names
/// that verl and others give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The mean of all tokens: `1 / T` each. Long samples weigh more.
    TokenMean,
    /// The mean of the samples' sums: `1 / N` each.
    SeqMeanTokenSum,
    /// The mean of the samples' means: `1 / (N n)` for each of a sample's `n` tokens.
    SeqMeanTokenMean,
    /// The mean of the samples' sums over a constant: `1 / (N norm_tokens)` each.
    SeqMeanTokenSumNorm,
}

impl Aggregate {
    pub const NAMES: [(&str, Self); 4] = [
        ("token-mean", Self::TokenMean),
        ("seq-mean-token-sum", Self::SeqMeanTokenSum),
        ("seq-mean-token-mean", Self::SeqMeanTokenMean),
        ("seq-mean-token-sum-norm", Self::SeqMeanTokenSumNorm),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenMean => "token-mean",
            Self::SeqMeanTokenSum => "seq-mean-token-sum",
            Self::SeqMeanTokenMean => "seq-mean-token-mean",
            Self::SeqMeanTokenSumNorm => "seq-mean-token-sum-norm",
        }
    }

    /// The factor of each target's loss, given its sample.
    pub(super) fn parts(self, samples: &[u32], step: StepCounts, norm_tokens: u32) -> Vec<f64> {
        let (all_tokens, all_samples) = (step.tokens as f64, step.samples as f64);
        let same = match self {
            Self::TokenMean => 1.0 / all_tokens,
            Self::SeqMeanTokenSum | Self::SeqMeanTokenMean => 1.0 / all_samples,
            Self::SeqMeanTokenSumNorm => 1.0 / (all_samples * f64::from(norm_tokens)),
        };
        let mut parts = vec![same; samples.len()];
        if self == Self::SeqMeanTokenMean {
            for targets in by_sample(samples) {
                let own = same / targets.len() as f64;
                targets.into_iter().for_each(|target| parts[target] = own);
            }
        }
        parts
    }
}
