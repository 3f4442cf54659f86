//! One layer, forwards, and backwards by a small graph of its own.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

use crate::model::config::ModelConfig;
use crate::model::layer_fused::{FusedLayer, FusedTape};
use crate::model::parameters::LayerParameters;
use crate::model::plan::{AttentionPlan, Plan};
use crate::ops::composed::{self, Places};

/// What a layer keeps of its forward pass for its backward pass.
pub enum LayerTape {
    /// Candle's graph, from the layer's input to its output.
    Composed {
        input: Var,
        output: Tensor,
    },
    Fused(FusedTape),
}

/// Of a layer's weights, in the order of [`LayerParameters`].
pub type LayerGradients = Vec<Tensor>;

/// `x` `[tokens, hidden]` through the layer: as much again.
///
/// # Errors
/// The device's.
pub fn forward(
    layer: &LayerParameters,
    x: &Tensor,
    plan: &Plan<'_>,
) -> Result<(Tensor, LayerTape)> {
    match &plan.attention {
        AttentionPlan::Composed(places) => {
            // A leaf of its own: the graph ends here, not at the embedding.
            let input = Var::from_tensor(x)?;
            let output = compose(layer, &input, places, plan.config)?;
            Ok((output.detach(), LayerTape::Composed { input, output }))
        }
        AttentionPlan::Fused(rotary) => {
            let (output, tape) = FusedLayer::new(layer, plan, rotary)?.forward(x)?;
            Ok((output, LayerTape::Fused(tape)))
        }
    }
}

impl LayerTape {
    /// From `d_output`, the derivative of the loss by the layer's output, to that by its input and
    /// those by its weights.
    ///
    /// # Errors
    /// The device's, and a weight without a gradient.
    pub fn backward(
        self,
        layer: &LayerParameters,
        d_output: &Tensor,
        plan: &Plan<'_>,
    ) -> Result<(Tensor, LayerGradients)> {
        match (self, &plan.attention) {
            (Self::Fused(tape), AttentionPlan::Fused(rotary)) => {
                FusedLayer::new(layer, plan, rotary)?.backward(tape, d_output)
            }
            (Self::Composed { input, output }, _) => {
                let seeded = (output * d_output.detach())?.sum_all()?;
                let gradients = seeded.backward()?;
                let of_weights = layer.named().into_iter();
                let of_weights = of_weights.map(|(name, weight)| taken(&gradients, name, weight));
                Ok((taken(&gradients, "the input", &input)?, of_weights.collect::<Result<_>>()?))
            }
            (Self::Fused(_), AttentionPlan::Composed(_)) => {
                candle_core::bail!("the tape is of another pass")
            }
        }
    }
}

/// Without its graph, which would keep the whole layer alive.
pub(crate) fn taken(gradients: &GradStore, name: &str, of: &Var) -> Result<Tensor> {
    match gradients.get(of) {
        Some(gradient) => gradient.detach().contiguous(),
        None => candle_core::bail!("{name} has no gradient"),
    }
}

/// `x` `[tokens, hidden]` through the layer, with its graph.
pub(crate) fn compose(
    layer: &LayerParameters,
    x: &Tensor,
    places: &Places,
    config: &ModelConfig,
) -> Result<Tensor> {
    let eps = config.rms_norm_eps;
    let normed = composed::rms_norm(x, &layer.input_norm, eps)?;
    let projected = |weight| composed::linear(&normed, weight);
    let (q, k, v) =
        (projected(&layer.q_proj)?, projected(&layer.k_proj)?, projected(&layer.v_proj)?);
    let norms = (layer.q_norm.as_tensor(), layer.k_norm.as_tensor());
    let seen = composed::attention((&q, &k, &v), norms, places, config)?;
    let x = (x + composed::linear(&seen, &layer.o_proj)?)?;
    let normed = composed::rms_norm(&x, &layer.post_norm, eps)?;
    let gate = composed::linear(&normed, &layer.gate_proj)?;
    let up = composed::linear(&normed, &layer.up_proj)?;
    x + composed::linear(&composed::swiglu(&gate, &up)?, &layer.down_proj)?
}
