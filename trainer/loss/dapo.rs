//! Decoupled clip and dynamic sampling policy optimization (arXiv:2503.14476, equation 8): GRPO
//! with a higher upper clip, every token of the step with the same weight, and no reference.
//! (Groups without signal are left out by whoever makes the step: [`crate::loss::advantage`] tells
//! them.)

use crate::loss::aggregate::Aggregate;
use crate::loss::{LossKind, LossSettings, grpo};

pub(super) const SETTINGS: LossSettings = LossSettings {
    kind: LossKind::Dapo,
    clip_high: 0.28,
    kl_coef: 0.0,
    aggregate: Aggregate::TokenMean,
    ..grpo::SETTINGS
};
