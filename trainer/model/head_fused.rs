//! The head of fused kernels.

use candle_core::{Device, Result, Tensor};

use crate::model::head::{HeadGradients, chunks, weight};
use crate::model::parameters::Parameters;
use crate::model::plan::Plan;
use crate::model::step::{StepSettings, TargetLogprobs};
use crate::ops::fused::matrix::{Into, Matrix, MatrixMut, linear, multiply};
use crate::ops::fused::room::zeros;
use crate::ops::fused::{Values, rms_norm, token_logprob};

/// What the fused head keeps of its forward pass.
pub struct FusedHeadTape {
    /// The last layer's output at the targets' places, `[targets, hidden]`, and after the norm.
    input: Vec<f32>,
    normed: Vec<f32>,
    /// Of each target's logits, see [`token_logprob`].
    log_sums: Vec<f32>,
    /// Of the last chunk, with which the backward pass begins.
    logits: Vec<f32>,
}

/// As [`head::forward`](crate::model::head::forward).
///
/// # Errors
/// Weights or `x` that are not contiguous, f32, or on the CPU.
pub fn forward(
    parameters: &Parameters,
    x: &Tensor,
    plan: &Plan<'_>,
    settings: &StepSettings,
) -> Result<(TargetLogprobs, FusedHeadTape)> {
    let hidden = plan.config.hidden_size;
    let (x, weight) = (Values::of(x)?, weight(parameters));
    let (norm, weight) = (Values::of(&parameters.norm)?, Values::of(&weight)?);
    let targets = &plan.batch.targets;
    let at = |place: u32| &x[place as usize * hidden..][..hidden];
    let input: Vec<f32> = targets.iter().flat_map(|target| at(target.place)).copied().collect();
    let normed = rms_norm::forward(&input, &norm, plan.config.rms_norm_eps as f32);
    let ids: Vec<u32> = targets.iter().map(|target| target.id).collect();
    let (mut out, mut log_sums) = (TargetLogprobs::default(), Vec::with_capacity(ids.len()));
    let mut logits = Vec::new();
    for (from, len) in chunks(ids.len(), settings.logprob_chunk) {
        let rows = Matrix::new(&normed[from * hidden..(from + len) * hidden], hidden);
        logits = linear(rows, Matrix::new(&weight, hidden));
        let said = token_logprob::forward(&logits, &ids[from..from + len], settings.temperature);
        out.logprobs.extend(said.iter().map(|row| row.logprob));
        out.entropies.extend(said.iter().map(|row| row.entropy));
        log_sums.extend(said.iter().map(|row| row.log_sum));
    }
    Ok((out, FusedHeadTape { input, normed, log_sums, logits }))
}

impl FusedHeadTape {
    /// As [`HeadTape::backward`](crate::model::head::HeadTape::backward).
    ///
    /// # Errors
    /// As [`forward`].
    pub fn backward(
        self,
        parameters: &Parameters,
        derivatives: &[f32],
        plan: &Plan<'_>,
        settings: &StepSettings,
    ) -> Result<HeadGradients> {
        let hidden = plan.config.hidden_size;
        let targets = &plan.batch.targets;
        let rows = targets.iter().zip(derivatives).zip(&self.log_sums);
        let rows: Vec<_> = rows.map(|((target, &d), &log_sum)| (target.id, d, log_sum)).collect();
        let weight = weight(parameters);
        let (norm, values) = (Values::of(&parameters.norm)?, Values::of(&weight)?);
        let matrix = Matrix::new(&values, hidden);
        let mut d_weight = zeros(values.len());
        let mut d_normed = zeros(self.normed.len());
        let mut kept = Some(self.logits);
        let chunks: Vec<_> = chunks(rows.len(), settings.logprob_chunk).collect();
        for (from, len) in chunks.into_iter().rev() {
            let range = from * hidden..(from + len) * hidden;
            let normed = Matrix::new(&self.normed[range.clone()], hidden);
            let mut logits = kept.take().unwrap_or_else(|| linear(normed, matrix));
            token_logprob::backward(&mut logits, &rows[from..from + len], settings.temperature);
            let d_logits = Matrix::new(&logits, plan.config.vocab_size);
            let onto = MatrixMut::new(&mut d_weight, hidden);
            multiply(onto, Into::Add, 1.0, d_logits.transposed(), normed);
            let onto = MatrixMut::new(&mut d_normed[range], hidden);
            multiply(onto, Into::Overwrite, 1.0, d_logits, matrix);
        }
        let mut d_rows = zeros(self.input.len());
        let eps = plan.config.rms_norm_eps as f32;
        let d_norm = rms_norm::backward(&mut d_rows, &d_normed, &self.input, &norm, eps);
        let mut d_input = zeros(plan.tokens() * hidden);
        for (target, d_row) in targets.iter().zip(d_rows.chunks_exact(hidden)) {
            let d = &mut d_input[target.place as usize * hidden..][..hidden];
            d.iter_mut().zip(d_row).for_each(|(d, x)| *d += x);
        }
        Ok(HeadGradients {
            input: Tensor::from_vec(d_input, (plan.tokens(), hidden), &Device::Cpu)?,
            norm: Tensor::from_vec(d_norm, hidden, &Device::Cpu)?,
            weight: Tensor::from_vec(d_weight, weight.shape(), &Device::Cpu)?,
        })
    }
}
