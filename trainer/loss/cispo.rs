//! Clipped importance sampling policy optimization (MiniMax-M1, arXiv:2506.13585, equations 4 and
//! 5): what is clipped is the weight of a token and not its update, so that every token has a
//! gradient.
//!
//! ```text
//! surrogate(r, A) = -stop(clip(r)) A logprob
//! ```
//!
//! As in the paper there is no lower bound, and all tokens of the step weigh the same. The paper
//! does not tell its upper bound; 0.2 is that of verl's example.

use crate::loss::aggregate::Aggregate;
use crate::loss::{LossInputs, LossKind, LossSettings, Surrogate, grpo};

pub(super) const SETTINGS: LossSettings = LossSettings {
    kind: LossKind::Cispo,
    clip_low: 1.0,
    kl_coef: 0.0,
    aggregate: Aggregate::TokenMean,
    ..grpo::SETTINGS
};

/// `weights` is the factor of each target's surrogate.
pub(super) fn surrogate(
    settings: &LossSettings,
    inputs: &LossInputs<'_>,
    weights: &[f64],
) -> Surrogate {
    let mut all =
        Surrogate { value: 0.0, d_logprobs: Vec::with_capacity(weights.len()), clipped: 0 };
    for (target, weight) in weights.iter().enumerate() {
        let ratio = inputs.log_ratio(target).exp();
        let clipped = settings.clip(ratio);
        let d_loss = -weight * clipped * inputs.advantage(target);
        all.clipped += u64::from(clipped != ratio);
        all.value += d_loss * f64::from(inputs.logprobs[target]);
        all.d_logprobs.push(d_loss);
    }
    all
}
