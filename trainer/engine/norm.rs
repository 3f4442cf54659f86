//! Root-mean-square norms (Zhang and Sennrich 2019, "Root Mean Square Layer Normalization").

use multiversion::multiversion;

use crate::engine::lanes::Lanes;
use crate::engine::matmul::Activations;
use crate::model::config::ModelConfig;

/// `out = x / rms(x) * weight`, row by row.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
pub(crate) fn rms_norm(
    x: &Activations,
    weight: &[Lanes],
    config: &ModelConfig,
    out: &mut Activations,
) {
    out.resize(weight.len(), x.rows);
    for row in 0..x.rows {
        let mut squares = Lanes::ZERO;
        for block in 0..weight.len() {
            squares = squares.zip(*x.at(block, row), |sum, x| sum + x * x);
        }
        let mean = squares.reduce(|a, b| a + b) / config.hidden_size as f32;
        let scale = 1.0 / (mean + config.rms_norm_eps as f32).sqrt();
        for (block, weight) in weight.iter().enumerate() {
            let normed = x.at(block, row).zip(*weight, |x, weight| x * scale * weight);
            out.lanes[block * x.rows + row] = normed;
        }
    }
}

/// The same in place, of one head.
#[inline(always)]
pub(crate) fn rms_norm_head(x: &mut [f32], weight: &[f32], eps: f32) {
    let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for (x, weight) in x.iter_mut().zip(weight) {
        *x *= scale * weight;
    }
}
