//! The end of the model: last norm, vocabulary, and the log-probabilities of the targets.
//!
//! Only the targets' places are computed, and of their logits only a chunk is there at a time: all
//! of them would be the largest tensor of a step (20 GB for 32k tokens of a large vocabulary).

use candle_core::{Result, Tensor, Var};

use crate::model::head_fused::{self, FusedHeadTape};
use crate::model::layer::taken;
use crate::model::parameters::Parameters;
use crate::model::plan::{AttentionPlan, Plan};
use crate::model::step::{StepSettings, TargetLogprobs};
use crate::ops::composed;

/// What the head keeps of its forward pass.
pub enum HeadTape {
    Composed(ComposedHeadTape),
    Fused(FusedHeadTape),
}

pub struct ComposedHeadTape {
    /// Places and ids of the targets, `[targets]` each.
    places: Tensor,
    ids: Tensor,
    /// The last layer's output at the targets' places, `[targets, hidden]`; a leaf.
    input: Var,
    /// The same after the norm, with its graph.
    normed: Tensor,
}

/// Derivatives of the loss.
pub struct HeadGradients {
    /// By the last layer's output, `[tokens, hidden]`.
    pub input: Tensor,
    /// `[hidden]`.
    pub norm: Tensor,
    /// Of the head, or of the embedding in its stead: `[vocab, hidden]`.
    pub weight: Tensor,
}

/// Log-probabilities of the batch's targets from the last layer's output `x` `[tokens, hidden]`.
///
/// # Errors
/// The device's.
pub fn forward(
    parameters: &Parameters,
    x: &Tensor,
    plan: &Plan<'_>,
    settings: &StepSettings,
) -> Result<(TargetLogprobs, HeadTape)> {
    Ok(match plan.attention {
        AttentionPlan::Composed(_) => {
            let (targets, tape) = composed_forward(parameters, x, plan, settings)?;
            (targets, HeadTape::Composed(tape))
        }
        AttentionPlan::Fused(_) => {
            let (targets, tape) = head_fused::forward(parameters, x, plan, settings)?;
            (targets, HeadTape::Fused(tape))
        }
    })
}

fn composed_forward(
    parameters: &Parameters,
    x: &Tensor,
    plan: &Plan<'_>,
    settings: &StepSettings,
) -> Result<(TargetLogprobs, ComposedHeadTape)> {
    let targets = &plan.batch.targets;
    let column = |values: Vec<u32>| Tensor::from_vec(values, targets.len(), x.device());
    let places = column(targets.iter().map(|target| target.place).collect())?;
    let ids = column(targets.iter().map(|target| target.id).collect())?;
    let input = Var::from_tensor(&x.index_select(&places, 0)?)?;
    let normed = composed::rms_norm(&input, &parameters.norm, parameters.config.rms_norm_eps)?;
    let tape = ComposedHeadTape { places, ids, input, normed };
    let mut out = TargetLogprobs::default();
    for (from, len) in chunks(targets.len(), settings.logprob_chunk) {
        let logits = tape.logits(parameters, from, len, settings)?;
        let ids = tape.ids.narrow(0, from, len)?;
        let (logprobs, entropies, _) = composed::token_logprobs(&logits, &ids)?;
        out.logprobs.extend(composed::to_host(&logprobs)?);
        out.entropies.extend(composed::to_host(&entropies)?);
    }
    Ok((out, tape))
}

impl HeadTape {
    /// `derivatives`: of the loss, by each target's log-probability.
    ///
    /// # Errors
    /// The device's.
    pub fn backward(
        self,
        parameters: &Parameters,
        derivatives: &[f32],
        plan: &Plan<'_>,
        settings: &StepSettings,
    ) -> Result<HeadGradients> {
        match self {
            Self::Composed(tape) => tape.backward(parameters, derivatives, plan, settings),
            Self::Fused(tape) => tape.backward(parameters, derivatives, plan, settings),
        }
    }
}

impl ComposedHeadTape {
    fn backward(
        self,
        parameters: &Parameters,
        derivatives: &[f32],
        plan: &Plan<'_>,
        settings: &StepSettings,
    ) -> Result<HeadGradients> {
        let weight = weight(parameters);
        let scale = 1.0 / settings.temperature;
        let derivatives: Vec<f32> = derivatives.iter().map(|d| d * scale).collect();
        let derivatives = Tensor::from_vec(derivatives, (self.ids.dims1()?, 1), weight.device())?;
        let mut d_weight = weight.zeros_like()?;
        let mut d_normed = Vec::new();
        for (from, len) in chunks(self.ids.dims1()?, settings.logprob_chunk) {
            let logits = self.logits(parameters, from, len, settings)?;
            let (ids, d) = (self.ids.narrow(0, from, len)?, derivatives.narrow(0, from, len)?);
            let (_, _, probabilities) = composed::token_logprobs(&logits, &ids)?;
            // d log p(id) / d logit(j) = [j = id] - p(j)
            let d_logits = probabilities.broadcast_mul(&d.neg()?)?;
            let d_logits = d_logits.scatter_add(&ids.unsqueeze(1)?, &d, 1)?;
            let normed = self.normed.detach().narrow(0, from, len)?;
            d_weight = (d_weight + d_logits.t()?.matmul(&normed)?)?;
            d_normed.push(d_logits.matmul(&weight)?);
        }
        let zeros = Tensor::zeros(
            (plan.tokens(), parameters.config.hidden_size),
            weight.dtype(),
            weight.device(),
        )?;
        if d_normed.is_empty() {
            let norm = parameters.norm.zeros_like()?.detach();
            return Ok(HeadGradients { input: zeros, norm, weight: d_weight });
        }
        let d_normed = Tensor::cat(&d_normed, 0)?.detach();
        let gradients = (&self.normed * d_normed)?.sum_all()?.backward()?;
        let d_input = taken(&gradients, "the head's input", &self.input)?;
        let norm = taken(&gradients, "the last norm", &parameters.norm)?;
        Ok(HeadGradients {
            input: zeros.index_add(&self.places, &d_input, 0)?,
            norm,
            weight: d_weight,
        })
    }

    /// Divided by the temperature, `[len, vocab]`.
    fn logits(
        &self,
        parameters: &Parameters,
        from: usize,
        len: usize,
        settings: &StepSettings,
    ) -> Result<Tensor> {
        let normed = self.normed.detach().narrow(0, from, len)?;
        composed::linear(&normed, &weight(parameters))? / f64::from(settings.temperature)
    }
}

/// The head's own, or the embedding.
pub(super) fn weight(parameters: &Parameters) -> Tensor {
    parameters.head.as_ref().unwrap_or(&parameters.embed).as_detached_tensor()
}

/// First and length of each chunk.
pub(super) fn chunks(targets: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..targets).step_by(len).map(move |from| (from, len.min(targets - from)))
}
