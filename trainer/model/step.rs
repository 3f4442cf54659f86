//! A training step's forward and backward pass, one layer at a time.
//!
//! Every layer is a segment with its own small graph: its input is a leaf, its backward pass is
//! seeded with the derivative of its output, and the graph is dropped with it. So memory is bound
//! by what one layer needs (and by what is kept of the others), and a layer's gradients are final
//! while earlier layers still compute, so that they can be sent on at once.

use candle_core::{DeviceLocation, Tensor};

use crate::model::head;
use crate::model::layer::{self, LayerTape};
use crate::model::parameters::{LAYER_WEIGHTS, Parameters};
use crate::model::plan::Plan;
use crate::ops::Ops;
use crate::samples::batch::Batch;

/// How a step is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSettings {
    pub ops: Ops,
    pub activations: Activations,
    /// Targets whose logits are there at a time, `[logprob_chunk, vocab]`; at least 1.
    pub logprob_chunk: usize,
    /// Of the distribution that the log-probabilities are of: logits are divided by it. Above 0;
    /// usually 1.
    pub temperature: f32,
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// All that it needs.
    Keep,
    /// Each layer's input: the layer is computed again. A third slower, and bounded by one layer.
    Recompute,
}

/// What the model says of a batch's targets, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetLogprobs {
    /// Natural logarithms.
    pub logprobs: Vec<f32>,
    /// Of the whole distribution at the target's place, in nats. Without a gradient.
    pub entropies: Vec<f32>,
}

/// Gradients that are final: nothing later in the pass adds to them.
pub struct GradientGroup {
    /// `lm_head` (with the last norm), `model.layers.3`, `model.embed_tokens`.
    pub name: String,
    /// Each with its weight's index in [`Parameters::named`].
    pub gradients: Vec<(usize, Tensor)>,
}

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("the batch does not fit: {0}")]
    Batch(String),
    #[error("{key}: expected {expected}, found {found}")]
    Setting { key: &'static str, expected: &'static str, found: String },
    #[error("fused operations are for the cpu, the weights are on {0:?}")]
    NotOnCpu(DeviceLocation),
    #[error("the loss gave {found} derivatives for {expected} targets")]
    Derivatives { expected: usize, found: usize },
    #[error("the loss: {0}")]
    Loss(String),
    /// Nothing has been applied.
    #[error("{name} is not finite: {value}")]
    NotFinite { name: String, value: f64 },
    /// It is not wanted any more.
    #[error("stopped")]
    Stopped,
    #[error("{0} has no gradient")]
    MissingGradient(String),
    #[error(transparent)]
    Compute(#[from] candle_core::Error),
}

/// What `parameters` say of the batch's targets; no gradients.
///
/// # Errors
/// A batch or settings that do not fit the model, what is not finite, the device's.
pub fn logprobs(
    parameters: &Parameters,
    batch: &Batch,
    settings: &StepSettings,
) -> Result<TargetLogprobs, StepError> {
    let plan = plan(parameters, batch, settings)?;
    let mut x = embedded(parameters, batch)?;
    for layer in &parameters.layers {
        (x, _) = layer::forward(layer, &x, &plan)?;
    }
    let (targets, _) = head::forward(parameters, &x, &plan, settings)?;
    finite("log-probability of a target", &targets.logprobs)?;
    Ok(targets)
}

/// Forward pass, loss, and backward pass from the last layer to the first.
///
/// `loss` is given what the model says of the targets, and gives the derivative of the loss by each
/// target's log-probability, in their order. `on_gradients` is called with each group as soon as it
/// is final, always in this order: head and last norm, layers from the last, embedding. The
/// gradient of a tied head is in the embedding's.
///
/// # Errors
/// A batch or settings that do not fit the model, what is not finite, the loss's, the device's.
pub fn forward_backward(
    parameters: &Parameters,
    batch: &Batch,
    settings: &StepSettings,
    loss: &mut dyn FnMut(&TargetLogprobs) -> Result<Vec<f32>, StepError>,
    on_gradients: &mut dyn FnMut(GradientGroup),
) -> Result<TargetLogprobs, StepError> {
    let plan = plan(parameters, batch, settings)?;
    let mut x = embedded(parameters, batch)?;
    let mut kept = Vec::with_capacity(parameters.layers.len());
    for layer in &parameters.layers {
        let (output, tape) = layer::forward(layer, &x, &plan)?;
        kept.push(match settings.activations {
            Activations::Keep => Kept::Tape(tape),
            Activations::Recompute => Kept::Input(x),
        });
        x = output;
    }
    let (targets, tape) = head::forward(parameters, &x, &plan, settings)?;
    drop(x);
    finite("log-probability of a target", &targets.logprobs)?;
    let derivatives = loss(&targets)?;
    if derivatives.len() != targets.logprobs.len() {
        let (expected, found) = (targets.logprobs.len(), derivatives.len());
        return Err(StepError::Derivatives { expected, found });
    }
    finite("derivative of the loss", &derivatives)?;

    let head = tape.backward(parameters, &derivatives, &plan, settings)?;
    let norm_index = 1 + LAYER_WEIGHTS * parameters.layers.len();
    let mut gradients = vec![(norm_index, head.norm)];
    let mut d_embed = None;
    match parameters.head {
        Some(_) => gradients.push((norm_index + 1, head.weight)),
        None => d_embed = Some(head.weight),
    }
    on_gradients(GradientGroup { name: "lm_head".to_owned(), gradients });

    let mut d_output = head.input;
    for (index, layer) in parameters.layers.iter().enumerate().rev() {
        let tape = match kept.pop() {
            Some(Kept::Tape(tape)) => tape,
            Some(Kept::Input(x)) => layer::forward(layer, &x, &plan)?.1,
            None => break,
        };
        let (d_input, gradients) = tape.backward(layer, &d_output, &plan)?;
        let gradients = (1 + LAYER_WEIGHTS * index..).zip(gradients).collect();
        on_gradients(GradientGroup { name: format!("model.layers.{index}"), gradients });
        d_output = d_input;
    }

    let d_embed = match d_embed {
        Some(of_head) => of_head,
        None => parameters.embed.zeros_like()?.detach(),
    };
    // One token after the other, so that the order of the sum is always the same.
    let d_embed = d_embed.index_add(&ids(parameters, batch)?, &d_output, 0)?;
    let gradients = vec![(0, d_embed)];
    on_gradients(GradientGroup { name: "model.embed_tokens".to_owned(), gradients });
    Ok(targets)
}

/// Of one layer, until its backward pass.
enum Kept {
    Tape(LayerTape),
    Input(Tensor),
}

fn plan<'a>(
    parameters: &'a Parameters,
    batch: &'a Batch,
    settings: &StepSettings,
) -> Result<Plan<'a>, StepError> {
    if settings.logprob_chunk == 0 {
        let found = "0".to_owned();
        return Err(StepError::Setting { key: "logprob_chunk", expected: "at least 1", found });
    }
    let temperature = settings.temperature;
    if !(temperature > 0.0 && temperature.is_finite()) {
        let found = temperature.to_string();
        return Err(StepError::Setting { key: "temperature", expected: "above 0", found });
    }
    Plan::new(&parameters.config, batch, settings.ops, parameters.embed.device())
}

fn ids(parameters: &Parameters, batch: &Batch) -> candle_core::Result<Tensor> {
    Tensor::from_slice(&batch.ids, batch.ids.len(), parameters.embed.device())
}

/// `[tokens, hidden]`.
fn embedded(parameters: &Parameters, batch: &Batch) -> candle_core::Result<Tensor> {
    parameters.embed.as_detached_tensor().index_select(&ids(parameters, batch)?, 0)
}

/// Names the first value that is not.
fn finite(name: &str, values: &[f32]) -> Result<(), StepError> {
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((at, &value)) => {
            Err(StepError::NotFinite { name: format!("{name} ({at})"), value: value.into() })
        }
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
