//! One layer of fused kernels: the forward pass, what it keeps, and the backward pass by hand.

use candle_core::{Device, Result, Tensor, Var};

use crate::model::layer::LayerGradients;
use crate::model::parameters::LayerParameters;
use crate::model::plan::Plan;
use crate::ops::fused::attention::{self, Attended};
use crate::ops::fused::head_norm::{self, HeadNorm, HeadShape};
use crate::ops::fused::matrix::{Into, Matrix, MatrixMut, multiply, weight_gradient};
use crate::ops::fused::room::{copy_of, zeros};
use crate::ops::fused::{Values, rms_norm, swiglu};
use crate::ops::rotary::RotaryTable;

/// What the backward pass needs; what an elementwise kernel gives again is not kept.
pub struct FusedTape {
    /// The layer's input, `[tokens, hidden]`.
    x: Tensor,
    /// See [`head_norm`].
    qkv: Vec<f32>,
    by_head: Vec<f32>,
    attended: Attended,
    /// After attention, `[tokens, hidden]`.
    middle: Vec<f32>,
    /// `[tokens, 2 * intermediate]`, in each row first the gate.
    gate_up: Vec<f32>,
}

/// A layer and its place in a batch.
pub struct FusedLayer<'a> {
    layer: &'a LayerParameters,
    weights: Weights<'a>,
    plan: &'a Plan<'a>,
    rotary: &'a RotaryTable,
    shape: HeadShape,
}

/// Of [`LayerParameters`].
struct Weights<'a> {
    input_norm: Values<'a>,
    q_proj: Values<'a>,
    k_proj: Values<'a>,
    v_proj: Values<'a>,
    o_proj: Values<'a>,
    q_norm: Values<'a>,
    k_norm: Values<'a>,
    post_norm: Values<'a>,
    gate_proj: Values<'a>,
    up_proj: Values<'a>,
    down_proj: Values<'a>,
}

impl<'a> FusedLayer<'a> {
    /// # Errors
    /// Weights that are not contiguous, f32, or on the CPU.
    pub fn new(
        layer: &'a LayerParameters,
        plan: &'a Plan<'a>,
        rotary: &'a RotaryTable,
    ) -> Result<Self> {
        let values = |var: &'a Var| Values::of(var.as_tensor());
        let weights = Weights {
            input_norm: values(&layer.input_norm)?,
            q_proj: values(&layer.q_proj)?,
            k_proj: values(&layer.k_proj)?,
            v_proj: values(&layer.v_proj)?,
            o_proj: values(&layer.o_proj)?,
            q_norm: values(&layer.q_norm)?,
            k_norm: values(&layer.k_norm)?,
            post_norm: values(&layer.post_norm)?,
            gate_proj: values(&layer.gate_proj)?,
            up_proj: values(&layer.up_proj)?,
            down_proj: values(&layer.down_proj)?,
        };
        let shape = HeadShape::new(plan.config, plan.batch.len);
        Ok(Self { layer, weights, plan, rotary, shape })
    }

    /// `x` `[tokens, hidden]`: as much again.
    ///
    /// # Errors
    /// As [`FusedLayer::new`], of `x`.
    pub fn forward(&self, x: &Tensor) -> Result<(Tensor, FusedTape)> {
        let (weights, values) = (&self.weights, Values::of(x)?);
        let normed = rms_norm::forward(&values, &weights.input_norm, self.eps());
        let normed = Matrix::new(&normed, self.hidden());
        let mut qkv = zeros(self.plan.tokens() * self.shape.qkv());
        for (weight, from, len) in self.projections() {
            let out = MatrixMut::columns(&mut qkv, self.shape.qkv(), from, len);
            multiply(
                out,
                Into::Overwrite,
                1.0,
                normed,
                Matrix::new(weight, self.hidden()).transposed(),
            );
        }
        let by_head = head_norm::forward(&qkv, self.head_norm(), self.shape);
        let attended = attention::forward(&by_head, &self.plan.batch.segments, self.shape);
        let seen = head_norm::to_tokens(&attended.out, self.shape);
        let mut middle = copy_of(&values);
        let o_proj = Matrix::new(&weights.o_proj, self.shape.queries());
        let out = MatrixMut::new(&mut middle, self.hidden());
        let seen = Matrix::new(&seen, self.shape.queries());
        multiply(out, Into::Add, 1.0, seen, o_proj.transposed());

        let normed = rms_norm::forward(&middle, &weights.post_norm, self.eps());
        let normed = Matrix::new(&normed, self.hidden());
        let mut gate_up = zeros(self.plan.tokens() * 2 * self.intermediate());
        let len = self.intermediate();
        for (weight, from) in [(&weights.gate_proj, 0), (&weights.up_proj, len)] {
            let out = MatrixMut::columns(&mut gate_up, 2 * len, from, len);
            multiply(
                out,
                Into::Overwrite,
                1.0,
                normed,
                Matrix::new(weight, self.hidden()).transposed(),
            );
        }
        let gated = swiglu::forward(&gate_up, self.intermediate());
        let gated = Matrix::new(&gated, self.intermediate());
        let mut output = copy_of(&middle);
        let down_proj = Matrix::new(&weights.down_proj, self.intermediate());
        let out = MatrixMut::new(&mut output, self.hidden());
        multiply(out, Into::Add, 1.0, gated, down_proj.transposed());
        let output = Tensor::from_vec(output, x.shape(), &Device::Cpu)?;
        Ok((output, FusedTape { x: x.clone(), qkv, by_head, attended, middle, gate_up }))
    }

    /// As [`LayerTape::backward`](crate::model::layer::LayerTape::backward).
    ///
    /// # Errors
    /// As [`FusedLayer::new`], of `d_output`.
    pub fn backward(&self, tape: FusedTape, d_output: &Tensor) -> Result<(Tensor, LayerGradients)> {
        let FusedTape { x, qkv, by_head, attended, middle, gate_up } = tape;
        // Both parts of a layer are added to their input: its gradient starts as the output's.
        let mut d = copy_of(&Values::of(d_output)?);
        let mlp = self.mlp_backward(&mut d, &middle, gate_up);
        drop(middle);
        let x = Values::of(&x)?;
        let attention = self.attention_backward(&mut d, &x, (&qkv, &by_head), &attended);
        let weights = self.layer.named().into_iter().zip(attention.into_iter().chain(mlp));
        let gradients = weights.map(|((_, var), d)| Tensor::from_vec(d, var.shape(), &Device::Cpu));
        let gradients = gradients.collect::<Result<_>>()?;
        Ok((Tensor::from_vec(d, d_output.shape(), &Device::Cpu)?, gradients))
    }

    /// Adds to `d`, and gives the gradients of the weights from `post_norm` on.
    fn mlp_backward(&self, d: &mut [f32], middle: &[f32], mut gate_up: Vec<f32>) -> [Vec<f32>; 4] {
        let (hidden, intermediate) = (self.hidden(), self.intermediate());
        let weights = &self.weights;
        let d_output = Matrix::new(d, hidden);
        let mut gated = zeros(gate_up.len() / 2);
        let down_proj = Matrix::new(&weights.down_proj, intermediate);
        let onto = MatrixMut::new(&mut gated, intermediate);
        multiply(onto, Into::Overwrite, 1.0, d_output, down_proj);
        swiglu::backward(&mut gate_up, &mut gated, intermediate);
        let d_down = weight_gradient(d_output, Matrix::new(&gated, intermediate));
        drop(gated);

        let normed = rms_norm::forward(middle, &weights.post_norm, self.eps());
        let d_gate = Matrix::columns(&gate_up, 2 * intermediate, 0, intermediate);
        let d_up = Matrix::columns(&gate_up, 2 * intermediate, intermediate, intermediate);
        let d_weight = |d_out| weight_gradient(d_out, Matrix::new(&normed, hidden));
        let (d_gate_proj, d_up_proj) = (d_weight(d_gate), d_weight(d_up));
        let mut d_normed = normed;
        let mut onto = |into, d_out, weight| {
            let d_normed = MatrixMut::new(&mut d_normed, hidden);
            multiply(d_normed, into, 1.0, d_out, Matrix::new(weight, hidden));
        };
        onto(Into::Overwrite, d_gate, &weights.gate_proj);
        onto(Into::Add, d_up, &weights.up_proj);
        let d_norm = rms_norm::backward(d, &d_normed, middle, &weights.post_norm, self.eps());
        [d_norm, d_gate_proj, d_up_proj, d_down]
    }

    /// Adds to `d`, and gives the gradients of the weights before `post_norm`.
    fn attention_backward(
        &self,
        d: &mut [f32],
        x: &[f32],
        (qkv, by_head): (&[f32], &[f32]),
        attended: &Attended,
    ) -> [Vec<f32>; 7] {
        let (hidden, shape, weights) = (self.hidden(), self.shape, &self.weights);
        let d_middle = Matrix::new(d, hidden);
        let seen = head_norm::to_tokens(&attended.out, shape);
        let d_o_proj = weight_gradient(d_middle, Matrix::new(&seen, shape.queries()));
        let mut d_seen = seen;
        let onto = MatrixMut::new(&mut d_seen, shape.queries());
        let o_proj = Matrix::new(&weights.o_proj, shape.queries());
        multiply(onto, Into::Overwrite, 1.0, d_middle, o_proj);
        let d_out = head_norm::to_heads(&d_seen, shape);
        drop(d_seen);
        let segments = &self.plan.batch.segments;
        let d_by_head = attention::backward(&d_out, attended, by_head, segments, shape);
        let (d_qkv, d_q_norm, d_k_norm) =
            head_norm::backward(&d_by_head, qkv, self.head_norm(), shape);
        drop((d_out, d_by_head));

        let normed = rms_norm::forward(x, &weights.input_norm, self.eps());
        let mut d_normed = zeros(normed.len());
        let [d_q, d_k, d_v] = self.projections().map(|(weight, from, len)| {
            let d_out = Matrix::columns(&d_qkv, shape.qkv(), from, len);
            let onto = MatrixMut::new(&mut d_normed, hidden);
            multiply(onto, Into::Add, 1.0, d_out, Matrix::new(weight, hidden));
            weight_gradient(d_out, Matrix::new(&normed, hidden))
        });
        let d_norm = rms_norm::backward(d, &d_normed, x, &weights.input_norm, self.eps());
        [d_norm, d_q, d_k, d_v, d_o_proj, d_q_norm, d_k_norm]
    }

    /// Of queries, keys and values: weight, and first column and columns in `qkv`.
    fn projections(&self) -> [(&[f32], usize, usize); 3] {
        let (queries, keys) = (self.shape.queries(), self.shape.keys());
        [
            (&self.weights.q_proj, 0, queries),
            (&self.weights.k_proj, queries, keys),
            (&self.weights.v_proj, queries + keys, keys),
        ]
    }

    fn head_norm(&self) -> HeadNorm<'_> {
        HeadNorm {
            q_norm: &self.weights.q_norm,
            k_norm: &self.weights.k_norm,
            eps: self.eps(),
            rotary: self.rotary,
            positions: &self.plan.batch.positions,
        }
    }

    fn hidden(&self) -> usize {
        self.plan.config.hidden_size
    }

    fn intermediate(&self) -> usize {
        self.plan.config.intermediate_size
    }

    fn eps(&self) -> f32 {
        self.plan.config.rms_norm_eps as f32
    }
}
