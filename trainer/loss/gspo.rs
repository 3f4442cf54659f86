//! Group sequence policy optimization (arXiv:2507.18071, equation 5): the ratio is of a whole
//! sample of `n` tokens, and so is the clip.
//!
//! ```text
//! s = exp(mean of its tokens' log ratios)
//! surrogate(s, A) = -min(s A, clip(s) A)
//! ```
//!
//! The clip's bounds are those of the paper's section 5.1. What corrects for the sampler is the
//! mean over the sample's tokens.

use crate::loss::aggregate::Aggregate;
use crate::loss::{LossInputs, LossKind, LossSettings, Surrogate, clipped, grpo};

pub(super) const SETTINGS: LossSettings = LossSettings {
    kind: LossKind::Gspo,
    clip_low: 3e-4,
    clip_high: 4e-4,
    kl_coef: 0.0,
    aggregate: Aggregate::SeqMeanTokenMean,
    ..grpo::SETTINGS
};

/// `weights` is the factor of each target; a sample's is their sum.
pub(super) fn surrogate(
    settings: &LossSettings,
    inputs: &LossInputs<'_>,
    weights: &[f64],
) -> Surrogate {
    let mut all = Surrogate { value: 0.0, d_logprobs: vec![0.0; weights.len()], clipped: 0 };
    for targets in inputs.by_sample() {
        let mean = |of: &dyn Fn(usize) -> f64| {
            targets.iter().map(|target| of(*target)).sum::<f64>() / targets.len() as f64
        };
        let log_ratio = mean(&|target| inputs.log_ratio(target));
        let mean_weight = mean(&|target| weights[target]);
        let advantage = targets.first().map_or(0.0, |target| inputs.advantage(*target));
        let (loss, d_loss) = clipped::term(settings, log_ratio, advantage);
        all.value += mean_weight * targets.len() as f64 * loss;
        match d_loss {
            Some(d_loss) => {
                targets.iter().for_each(|target| all.d_logprobs[*target] = mean_weight * d_loss);
            }
            None => all.clipped += targets.len() as u64,
        }
    }
    all
}
