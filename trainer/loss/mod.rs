//! Losses: from the log-probabilities of sampled tokens to a value and its gradient.
//!
//! Pure functions on the host: the model gives each trained token's log-probability, a loss gives
//! its derivative, and the model goes on from there.
//!
//! With `r = exp(logprob - old)` the ratio of a token's probability to that at the beginning of the
//! step, `A` the advantage of its sample, `a` the part of the step that it is ([`aggregate`]) and
//! `w = min(exp(old - sampler), tis_cap)` what corrects for who sampled it, a loss is
//!
//! ```text
//! sum over tokens of  a w surrogate(r, A)  +  kl_coef a (exp(reference - logprob)
//!                                                        - (reference - logprob) - 1)
//! ```
//!
//! The surrogate is the algorithm's. `w` (truncated importance sampling: Yao et al., "Your
//! Efficient RL Framework Secretly Brings You Off-Policy RL Training", 2025) and `A` have no
//! gradient. The last term is the k3 estimator of the divergence from a reference (Schulman,
//! "Approximating KL Divergence", 2020).
//!
//! A step may be computed batch by batch: the values and gradients of its batches add up to the
//! step's, as each batch is told of the whole step ([`StepCounts`]).

pub mod advantage;
pub mod aggregate;
mod clipped;

pub mod cispo;
pub mod dapo;
pub mod dr_grpo;
pub mod grpo;
pub mod gspo;

pub mod sft;

mod inputs;
mod metrics;

pub use inputs::{LossInputs, StepCounts};
pub use metrics::LossMetrics;

use aggregate::Aggregate;

/// The losses, by their usual names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    Grpo,
    DrGrpo,
    Dapo,
    Gspo,
    Cispo,
}

/// How a loss is computed. Each algorithm has its own defaults: [`LossSettings::of`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossSettings {
    pub kind: LossKind,
    /// Ratios are clipped to `[1 - clip_low, 1 + clip_high]`.
    pub clip_low: f64,
    pub clip_high: f64,
    /// Above 0; `None` leaves out who has sampled.
    pub tis_cap: Option<f64>,
    /// 0 needs no reference.
    pub kl_coef: f64,
    pub aggregate: Aggregate,
    /// What `seq-mean-token-sum-norm` divides by, in tokens: the longest completion that could be.
    pub norm_tokens: u32,
    /// Whether a group's advantages are divided by its deviation ([`advantage::group`]).
    pub scale_by_std: bool,
}

/// Of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LossOutput {
    pub value: f64,
    /// Of the value, by each target's log-probability.
    pub d_logprobs: Vec<f32>,
    pub metrics: LossMetrics,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LossError {
    #[error("no token to train")]
    Empty,
    #[error("{name}: expected {expected} values, found {found}")]
    Length { name: &'static str, expected: usize, found: usize },
    #[error("{name}: expected {expected}, found {found}")]
    Setting { name: &'static str, expected: &'static str, found: f64 },
    #[error("kl_coef is {0}, and there is no reference")]
    NoReference(f64),
    #[error("target {target} is of sample {sample}, which has no advantage")]
    NoAdvantage { target: usize, sample: u32 },
    #[error("{name} of target {target}: expected a finite number, found {found}")]
    NotFinite { name: &'static str, target: usize, found: f64 },
    #[error("loss: expected a finite number, found {0}")]
    Value(f64),
}

impl LossKind {
    pub const NAMES: [(&str, Self); 5] = [
        ("grpo", Self::Grpo),
        ("dr_grpo", Self::DrGrpo),
        ("dapo", Self::Dapo),
        ("gspo", Self::Gspo),
        ("cispo", Self::Cispo),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpo => "grpo",
            Self::DrGrpo => "dr_grpo",
            Self::Dapo => "dapo",
            Self::Gspo => "gspo",
            Self::Cispo => "cispo",
        }
    }
}

impl LossSettings {
    /// Those of the algorithm's paper.
    pub fn of(kind: LossKind) -> Self {
        match kind {
            LossKind::Grpo => grpo::SETTINGS,
            LossKind::DrGrpo => dr_grpo::SETTINGS,
            LossKind::Dapo => dapo::SETTINGS,
            LossKind::Gspo => gspo::SETTINGS,
            LossKind::Cispo => cispo::SETTINGS,
        }
    }

    /// # Errors
    /// The first setting that is out of range.
    pub fn check(&self) -> Result<(), LossError> {
        inputs::check_norm(self.norm_tokens)?;
        let not_negative = "a finite number, 0 or more";
        let tis_cap = self.tis_cap.unwrap_or(1.0);
        let settings = [
            ("clip_low", not_negative, self.clip_low, self.clip_low >= 0.0),
            ("clip_high", not_negative, self.clip_high, self.clip_high >= 0.0),
            ("kl_coef", not_negative, self.kl_coef, self.kl_coef >= 0.0),
            ("tis_cap", "a finite number above 0", tis_cap, tis_cap > 0.0),
        ];
        let wrong = settings.into_iter().find(|(.., value, holds)| !value.is_finite() || !holds);
        wrong.map_or(Ok(()), |(name, expected, found, _)| {
            Err(LossError::Setting { name, expected, found })
        })
    }

    /// A ratio within the clip.
    fn clip(&self, ratio: f64) -> f64 {
        ratio.min(1.0 + self.clip_high).max(1.0 - self.clip_low)
    }
}

/// The surrogate's part of a batch's loss.
struct Surrogate {
    value: f64,
    d_logprobs: Vec<f64>,
    /// Tokens whose ratio the clip has changed the loss of.
    clipped: u64,
}

/// The loss of a batch, with the settings' algorithm.
///
/// # Errors
/// Settings out of range, inputs that do not fit together or are not finite, an empty batch, and a
/// loss or a gradient that is not finite.
pub fn loss(settings: &LossSettings, inputs: &LossInputs<'_>) -> Result<LossOutput, LossError> {
    settings.check()?;
    inputs.check(settings)?;
    let counts = inputs.step;
    let parts = settings.aggregate.parts(inputs.samples, counts, settings.norm_tokens);
    let weights = settings.weights(inputs);
    let surrogate = match settings.kind {
        LossKind::Grpo | LossKind::DrGrpo | LossKind::Dapo => clipped::surrogate,
        LossKind::Gspo => gspo::surrogate,
        LossKind::Cispo => cispo::surrogate,
    };
    let weighted: Vec<f64> =
        parts.iter().zip(&weights).map(|(part, weight)| part * weight).collect();
    let Surrogate { mut value, mut d_logprobs, clipped } = surrogate(settings, inputs, &weighted);
    if let Some(reference) = inputs.reference.filter(|_| settings.kl_coef > 0.0) {
        for (target, part) in parts.iter().enumerate() {
            let away = f64::from(reference[target]) - f64::from(inputs.logprobs[target]);
            value += settings.kl_coef * part * (away.exp() - away - 1.0);
            d_logprobs[target] += settings.kl_coef * part * (1.0 - away.exp());
        }
    }
    let d_logprobs: Vec<f32> = d_logprobs.into_iter().map(|d| d as f32).collect();
    if let Some(target) = d_logprobs.iter().position(|d| !d.is_finite()) {
        let found = f64::from(d_logprobs[target]);
        return Err(LossError::NotFinite { name: "gradient", target, found });
    }
    if !value.is_finite() {
        return Err(LossError::Value(value));
    }
    let metrics = LossMetrics::of(settings, inputs, clipped);
    Ok(LossOutput { value, d_logprobs, metrics })
}

impl LossSettings {
    /// Of each token, for who sampled it.
    fn weights(&self, inputs: &LossInputs<'_>) -> Vec<f64> {
        let Some(cap) = self.tis_cap else { return vec![1.0; inputs.logprobs.len()] };
        let pairs = inputs.old.iter().zip(inputs.sampler);
        pairs.map(|(old, sampler)| (f64::from(*old) - f64::from(*sampler)).exp().min(cap)).collect()
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
