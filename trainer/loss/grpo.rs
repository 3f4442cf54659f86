//! Group relative policy optimization (DeepSeekMath, arXiv:2402.03300, equation 3): PPO's clipped
//! surrogate, advantages relative to the group instead of a critic, and a divergence from a
//! reference in the loss. Its coefficient 0.04 is the paper's; the clip is PPO's.

use crate::loss::aggregate::Aggregate;
use crate::loss::{LossKind, LossSettings};

pub(super) const SETTINGS: LossSettings = LossSettings {
    kind: LossKind::Grpo,
    clip_low: 0.2,
    clip_high: 0.2,
    tis_cap: None,
    kl_coef: 0.04,
    aggregate: Aggregate::SeqMeanTokenMean,
    norm_tokens: 4096,
    scale_by_std: true,
};
