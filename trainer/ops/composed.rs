//! The parts of a layer, of candle's differentiable operations only.
//!
//! Candle has fast forms of some of these (`rms_norm`, `rope`, `softmax_last_dim`) that have no
//! gradient, and it does not say so: what is before them just gets none.

use candle_core::{CpuStorage, D, DType, Device, Result, Storage, Tensor};

use crate::model::config::ModelConfig;
use crate::ops::rotary::RotaryTable;
use crate::samples::batch::Batch;

/// What the attention of every layer needs to know of a batch.
pub struct Places {
    /// `[rows, 1, len, head_dim]`, each half of the last dimension the same.
    cos: Tensor,
    sin: Tensor,
    /// `[rows, 1, len, len]`, to be added to scores: 0 where a query sees a key, else -inf.
    mask: Tensor,
}

impl Places {
    /// Of a batch that has tokens.
    ///
    /// # Errors
    /// The device's.
    pub fn new(batch: &Batch, rotary: &RotaryTable, device: &Device) -> Result<Self> {
        let (rows, len) = (batch.rows, batch.len);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for &position in &batch.positions {
            let (of_cos, of_sin) = rotary.at(position);
            for _half in 0..2 {
                cos.extend_from_slice(of_cos);
                sin.extend_from_slice(of_sin);
            }
        }
        let head_dim = cos.len() / (rows * len);
        let table = |values| Tensor::from_vec(values, (rows, 1, len, head_dim), device);
        let (cos, sin) = (table(cos)?, table(sin)?);
        Ok(Self { cos, sin, mask: mask(batch, device)? })
    }
}

/// Block-diagonal and causal: a token sees itself and those before it in its segment.
fn mask(batch: &Batch, device: &Device) -> Result<Tensor> {
    let (rows, len) = (batch.rows, batch.len);
    let mut mask = vec![f32::NEG_INFINITY; rows * len * len];
    for (row, segments) in mask.chunks_mut(len * len).zip(&batch.segments) {
        let mut start = 0;
        for &segment in segments {
            let end = start + segment as usize;
            for query in start..end {
                row[query * len + start..=query * len + query].fill(0.0);
            }
            start = end;
        }
    }
    Tensor::from_vec(mask, (rows, 1, len, len), device)
}

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension (Zhang & Sennrich 2019).
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + eps)?.sqrt()?)?.broadcast_mul(weight)
}

/// `x` `[tokens, in]` by `weight` `[out, in]`: `[tokens, out]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)
}

/// `silu(gate) * up` (Shazeer 2020, GLU Variants Improve Transformer).
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()?.mul(up)
}

/// Causal grouped-query attention within segments.
///
/// `q` `[tokens, heads * head_dim]`, `k` and `v` `[tokens, kv_heads * head_dim]`, as they come from
/// their projections; `q_norm`, `k_norm` `[head_dim]`. Gives `[tokens, heads * head_dim]`.
pub fn attention(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    (q_norm, k_norm): (&Tensor, &Tensor),
    places: &Places,
    config: &ModelConfig,
) -> Result<Tensor> {
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    let (rows, _, len, head_dim) = places.cos.dims4()?;
    let by_head = |x: &Tensor, heads| x.reshape((rows, len, heads, head_dim))?.transpose(1, 2);
    let turned = |x: &Tensor, norm: &Tensor, heads| {
        rotate(
            &by_head(&rms_norm(&x.reshape(((), head_dim))?, norm, config.rms_norm_eps)?, heads)?,
            places,
        )
    };
    let q = turned(q, q_norm, heads)?;
    let k = repeat(&turned(k, k_norm, kv_heads)?, heads / kv_heads)?;
    let v = repeat(&by_head(v, kv_heads)?, heads / kv_heads)?;
    let scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? / (head_dim as f64).sqrt())?;
    let out = softmax(&scores.broadcast_add(&places.mask)?)?.matmul(&v)?;
    out.transpose(1, 2)?.reshape((rows * len, heads * head_dim))
}

/// `x` `[rows, heads, len, head_dim]`, its halves as the parts of complex numbers (`rotate_half`).
fn rotate(x: &Tensor, places: &Places) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let rotated = Tensor::cat(&[&second.neg()?, &first], D::Minus1)?;
    x.broadcast_mul(&places.cos)? + rotated.broadcast_mul(&places.sin)?
}

/// Each of `[rows, kv_heads, len, head_dim]` for the `times` heads that share it.
fn repeat(x: &Tensor, times: usize) -> Result<Tensor> {
    let (rows, heads, len, head_dim) = x.dims4()?;
    let x = x.unsqueeze(2)?.broadcast_as((rows, heads, times, len, head_dim))?;
    x.reshape((rows, heads * times, len, head_dim))
}

/// Over the last dimension.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// Log-probabilities and entropies of the rows of `logits` `[rows, vocab]`, without gradients.
///
/// Gives the log-probability of `ids` `[rows]`, each row's entropy, and all probabilities.
pub fn token_logprobs(logits: &Tensor, ids: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?)?;
    let e = shifted.exp()?;
    let sum = e.sum_keepdim(1)?;
    let log_sum = sum.log()?;
    let logprobs = (shifted.gather(&ids.unsqueeze(1)?, 1)? - &log_sum)?.squeeze(1)?;
    let probabilities = e.broadcast_div(&sum)?;
    let mean = (&probabilities * &shifted)?.sum_keepdim(1)?;
    Ok((logprobs, (log_sum - mean)?.squeeze(1)?, probabilities))
}

/// `x` as it is in a file of weights: f32 on the host.
pub fn to_host(x: &Tensor) -> Result<Vec<f32>> {
    x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// The same without a copy where it lies on the host as f32, contiguous.
pub fn with_host<T>(x: &Tensor, with: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = x.storage_and_layout();
    if let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
        (&*storage, layout.contiguous_offsets())
    {
        return Ok(with(&values[start..end]));
    }
    drop(storage);
    Ok(with(&to_host(x)?))
}
