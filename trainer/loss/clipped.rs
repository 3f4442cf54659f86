//! The clipped surrogate of PPO (arXiv:1707.06347, equation 7), token by token.
//!
//! ```text
//! surrogate(r, A) = -min(r A, clip(r) A)
//! ```

use crate::loss::{LossInputs, LossSettings, Surrogate};

/// `weights` is the factor of each target's surrogate.
pub(super) fn surrogate(
    settings: &LossSettings,
    inputs: &LossInputs<'_>,
    weights: &[f64],
) -> Surrogate {
    let mut all = Surrogate { value: 0.0, d_logprobs: vec![0.0; weights.len()], clipped: 0 };
    for (target, weight) in weights.iter().enumerate() {
        let (loss, d_loss) = term(settings, inputs.log_ratio(target), inputs.advantage(target));
        all.value += weight * loss;
        match d_loss {
            Some(d_loss) => all.d_logprobs[target] = weight * d_loss,
            None => all.clipped += 1,
        }
    }
    all
}

/// The surrogate of one ratio, and its derivative by the ratio's logarithm; `None` where it is
/// clipped, which is 0.
pub(super) fn term(settings: &LossSettings, log_ratio: f64, advantage: f64) -> (f64, Option<f64>) {
    let ratio = log_ratio.exp();
    let (free, clipped) = (ratio * advantage, settings.clip(ratio) * advantage);
    match clipped < free {
        true => (-clipped, None),
        false => (-free, Some(-free)),
    }
}
