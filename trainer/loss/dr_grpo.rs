//! GRPO done right (arXiv:2503.20783, section 3.2): without its two biases, the division by a
//! sample's own length and by its group's deviation, and without the reference.

use crate::loss::aggregate::Aggregate;
use crate::loss::{LossKind, LossSettings, grpo};

pub(super) const SETTINGS: LossSettings = LossSettings {
    kind: LossKind::DrGrpo,
    kl_coef: 0.0,
    aggregate: Aggregate::SeqMeanTokenSumNorm,
    scale_by_std: false,
    ..grpo::SETTINGS
};
